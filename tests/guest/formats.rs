//! The events that Linux has, too: their fields with types and order, and their print format's text, are Linux's (6.18).
//!
//! Sources: `include/trace/events/{sched,irq,timer,workqueue,lock,kmem,tlb,power,printk,exceptions,syscalls}.h`,
//! `arch/x86/include/asm/trace/irq_vectors.h`; of `syscalls` the prototypes in `include/linux/syscalls.h`, of which
//! `kernel/trace/trace_syscalls.c` makes the events.

use tests::Guest;

/// An event, its own fields, and the text of its print format.
type Format = (&'static str, &'static str, &'static str);

const WAKEUP: (&str, &str) = (
    "char comm[16]; pid_t pid; int prio; int target_cpu",
    "comm=%s pid=%d prio=%d target_cpu=%03d",
);
const SOFTIRQ: (&str, &str) = ("unsigned int vec", "vec=%u [action=%s]");
const TIMER: (&str, &str) = ("void * timer", "timer=%p");
const VECTOR: (&str, &str) = ("int vector", "vector=%d");
const FAULT: (&str, &str) = (
    "unsigned long address; unsigned long ip; unsigned long error_code",
    "address=%ps ip=%ps error_code=0x%lx",
);
const WORK: (&str, &str) = (
    "void * work; void * function",
    "work struct %p: function %ps",
);
const CALL_EXIT: (&str, &str) = ("int __syscall_nr; long ret", "0x%lx");

#[rustfmt::skip]
const EVENTS: &[Format] = &[
    ("sched/sched_switch", "char prev_comm[16]; pid_t prev_pid; int prev_prio; long prev_state; char next_comm[16]; pid_t next_pid; int next_prio",
        "prev_comm=%s prev_pid=%d prev_prio=%d prev_state=%s%s ==> next_comm=%s next_pid=%d next_prio=%d"),
    ("sched/sched_waking", WAKEUP.0, WAKEUP.1),
    ("sched/sched_wakeup", WAKEUP.0, WAKEUP.1),
    ("sched/sched_wakeup_new", WAKEUP.0, WAKEUP.1),
    ("sched/sched_migrate_task", "char comm[16]; pid_t pid; int prio; int orig_cpu; int dest_cpu",
        "comm=%s pid=%d prio=%d orig_cpu=%d dest_cpu=%d"),
    ("sched/sched_process_fork", "__data_loc char[] parent_comm; pid_t parent_pid; __data_loc char[] child_comm; pid_t child_pid",
        "comm=%s pid=%d child_comm=%s child_pid=%d"),
    ("sched/sched_process_exec", "__data_loc char[] filename; pid_t pid; pid_t old_pid",
        "filename=%s pid=%d old_pid=%d"),
    ("sched/sched_process_exit", "char comm[16]; pid_t pid; int prio; bool group_dead",
        "comm=%s pid=%d prio=%d group_dead=%s"),
    ("irq/irq_handler_entry", "int irq; __data_loc char[] name", "irq=%d name=%s"),
    ("irq/irq_handler_exit", "int irq; int ret", "irq=%d ret=%s"),
    ("irq/softirq_raise", SOFTIRQ.0, SOFTIRQ.1),
    ("irq/softirq_entry", SOFTIRQ.0, SOFTIRQ.1),
    ("irq/softirq_exit", SOFTIRQ.0, SOFTIRQ.1),
    ("irq_vectors/local_timer_entry", VECTOR.0, VECTOR.1),
    ("irq_vectors/local_timer_exit", VECTOR.0, VECTOR.1),
    ("irq_vectors/reschedule_entry", VECTOR.0, VECTOR.1),
    ("irq_vectors/reschedule_exit", VECTOR.0, VECTOR.1),
    ("irq_vectors/call_function_entry", VECTOR.0, VECTOR.1),
    ("irq_vectors/call_function_exit", VECTOR.0, VECTOR.1),
    ("timer/timer_start", "void * timer; void * function; unsigned long expires; unsigned long bucket_expiry; unsigned long now; unsigned int flags",
        "timer=%p function=%ps expires=%lu [timeout=%ld] bucket_expiry=%lu cpu=%u idx=%u flags=%s"),
    ("timer/timer_expire_entry", "void * timer; unsigned long now; void * function; unsigned long baseclk",
        "timer=%p function=%ps now=%lu baseclk=%lu"),
    ("timer/timer_expire_exit", TIMER.0, TIMER.1),
    ("timer/timer_cancel", TIMER.0, TIMER.1),
    ("timer/tick_stop", "int success; int dependency", "success=%d dependency=%s"),
    ("exceptions/page_fault_user", FAULT.0, FAULT.1),
    ("exceptions/page_fault_kernel", FAULT.0, FAULT.1),
    ("raw_syscalls/sys_enter", "long id; unsigned long args[6]", "NR %ld (%lx, %lx, %lx, %lx, %lx, %lx)"),
    ("raw_syscalls/sys_exit", "long id; long ret", "NR %ld = %ld"),
    ("kmem/mm_page_alloc", "unsigned long pfn; unsigned int order; unsigned long gfp_flags; int migratetype",
        "page=%p pfn=0x%lx order=%d migratetype=%d gfp_flags=%s"),
    ("kmem/mm_page_free", "unsigned long pfn; unsigned int order", "page=%p pfn=0x%lx order=%d"),
    ("kmem/kmalloc", "unsigned long call_site; const void * ptr; size_t bytes_req; size_t bytes_alloc; unsigned long gfp_flags; int node",
        "call_site=%pS ptr=%p bytes_req=%zu bytes_alloc=%zu gfp_flags=%s node=%d accounted=%s"),
    ("kmem/kfree", "unsigned long call_site; const void * ptr", "call_site=%pS ptr=%p"),
    ("workqueue/workqueue_queue_work", "void * work; void * function; __data_loc char[] workqueue; int req_cpu; int cpu",
        "work struct=%p function=%ps workqueue=%s req_cpu=%d cpu=%d"),
    ("workqueue/workqueue_activate_work", "void * work; void * function", "work struct %p function=%ps "),
    ("workqueue/workqueue_execute_start", WORK.0, WORK.1),
    ("workqueue/workqueue_execute_end", WORK.0, WORK.1),
    ("lock/contention_begin", "void * lock_addr; unsigned int flags", "%p (flags=%s)"),
    ("lock/contention_end", "void * lock_addr; int ret", "%p (ret=%d)"),
    ("power/cpu_idle", "u32 state; u32 cpu_id", "state=%lu cpu_id=%lu"),
    ("printk/console", "__data_loc char[] msg", "%s"),
    ("tlb/tlb_flush", "int reason; unsigned long pages", "pages:%ld reason:%s (%d)"),
    ("syscalls/sys_enter_read", "int __syscall_nr; unsigned int fd; char * buf; size_t count",
        "fd: 0x%08lx, buf: 0x%08lx, count: 0x%08lx"),
    ("syscalls/sys_exit_read", CALL_EXIT.0, CALL_EXIT.1),
    ("syscalls/sys_enter_write", "int __syscall_nr; unsigned int fd; const char * buf; size_t count",
        "fd: 0x%08lx, buf: 0x%08lx, count: 0x%08lx"),
    ("syscalls/sys_enter_open", "int __syscall_nr; const char * filename; int flags; umode_t mode",
        "filename: 0x%08lx, flags: 0x%08lx, mode: 0x%08lx"),
    ("syscalls/sys_enter_close", "int __syscall_nr; unsigned int fd", "fd: 0x%08lx"),
    ("syscalls/sys_enter_mmap", "int __syscall_nr; unsigned long addr; unsigned long len; unsigned long prot; unsigned long flags; unsigned long fd; unsigned long off",
        "addr: 0x%08lx, len: 0x%08lx, prot: 0x%08lx, flags: 0x%08lx, fd: 0x%08lx, off: 0x%08lx"),
    ("syscalls/sys_enter_munmap", "int __syscall_nr; unsigned long addr; size_t len", "addr: 0x%08lx, len: 0x%08lx"),
    ("syscalls/sys_enter_ioctl", "int __syscall_nr; unsigned int fd; unsigned int cmd; unsigned long arg",
        "fd: 0x%08lx, cmd: 0x%08lx, arg: 0x%08lx"),
    ("syscalls/sys_enter_sched_yield", "int __syscall_nr", ""),
    ("syscalls/sys_enter_nanosleep", "int __syscall_nr; struct __kernel_timespec * rqtp; struct __kernel_timespec * rmtp",
        "rqtp: 0x%08lx, rmtp: 0x%08lx"),
    ("syscalls/sys_enter_getpid", "int __syscall_nr", ""),
    ("syscalls/sys_enter_exit", "int __syscall_nr; int error_code", "error_code: 0x%08lx"),
    ("syscalls/sys_enter_wait4", "int __syscall_nr; pid_t upid; int * stat_addr; int options; struct rusage * ru",
        "upid: 0x%08lx, stat_addr: 0x%08lx, options: 0x%08lx, ru: 0x%08lx"),
    ("syscalls/sys_enter_kill", "int __syscall_nr; pid_t pid; int sig", "pid: 0x%08lx, sig: 0x%08lx"),
    ("syscalls/sys_enter_getppid", "int __syscall_nr", ""),
    ("syscalls/sys_enter_sched_setaffinity", "int __syscall_nr; pid_t pid; unsigned int len; unsigned long * user_mask_ptr",
        "pid: 0x%08lx, len: 0x%08lx, user_mask_ptr: 0x%08lx"),
    ("syscalls/sys_enter_sched_getaffinity", "int __syscall_nr; pid_t pid; unsigned int len; unsigned long * user_mask_ptr",
        "pid: 0x%08lx, len: 0x%08lx, user_mask_ptr: 0x%08lx"),
    ("syscalls/sys_enter_clock_gettime", "int __syscall_nr; const clockid_t which_clock; struct __kernel_timespec * tp",
        "which_clock: 0x%08lx, tp: 0x%08lx"),
];

/// Bytes and sign of a type outside of `syscalls`.
fn layout(c_type: &str) -> (usize, bool) {
    match c_type {
        "bool" | "char" => (1, false),
        "int" | "pid_t" => (4, true),
        "unsigned int" | "u32" | "__data_loc char[]" => (4, false),
        "long" => (8, true),
        _ => (8, false),
    }
}

/// The line of a field, as Linux lays a record out behind what ends at `at`, which goes on.
fn line_of(declared: &str, at: &mut usize, of_syscall: bool) -> String {
    let (c_type, name) = declared.rsplit_once(' ').expect("a type and a name");
    let (mut each, mut signed) = layout(c_type);
    // Arguments are registers, whatever their type is.
    if of_syscall && !["__syscall_nr", "ret"].contains(&name) {
        (each, signed) = (8, false);
    }
    let count = name
        .split(['[', ']'])
        .nth(1)
        .map_or(1, |n| n.parse().unwrap());
    let offset = at.next_multiple_of(each);
    *at = offset + each * count;
    format!(
        "\tfield:{declared};\toffset:{offset};\tsize:{};\tsigned:{};",
        each * count,
        u8::from(signed)
    )
}

/// Looks at all of them.
pub fn check(guest: &mut Guest) {
    for (event, fields, print) in EVENTS {
        let text = guest.ok(&format!("cat /sys/kernel/tracing/events/{event}/format"));
        let mut lines = text.lines().filter(|line| line.contains("field:"));
        for common in ["type", "flags", "preempt_count", "pid"] {
            let line = lines.next().unwrap_or("");
            assert!(
                line.contains(&format!(" common_{common};")),
                "{event}: {text}"
            );
        }
        let mut at = 8;
        let wanted = fields.split("; ");
        let wanted: Vec<String> = wanted
            .map(|field| line_of(field, &mut at, event.starts_with("syscalls/")))
            .collect();
        assert_eq!(lines.collect::<Vec<_>>(), wanted, "{event}");
        let begin = format!("\nprint fmt: \"{print}\"");
        assert!(text.contains(&begin), "{event}: {begin} in {text}");
    }
}
