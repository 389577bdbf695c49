//! The kernel's events, one declaration each. Names, fields and print formats are Linux's where Linux has the event.

/// Declares the events that all variants of the kernel have, and with them those of this variant.
macro_rules! kernel_events {
    ($($common:tt)*) => {
        #[cfg(not(feature = "next"))]
        trace::define_events! {
            $($common)*

            /// A line is about to run on the console.
            event baton:console_command(line: str) {
                print("%s", line)
            }
        }

        // `kernel-next`: an event in another layout, and one that only it has.
        #[cfg(feature = "next")]
        trace::define_events! {
            $($common)*

            /// A line is about to run on the console.
            event baton:console_command(length: u32, line: str) {
                print("length=%u line=%s", length, line)
            }

            /// A note is written into `/sys/kernel/debug/kho/demo`.
            event baton:demo_note(length: u32, note: str) {
                print("length=%u note=\"%s\"", length, note)
            }
        }
    };
}

kernel_events! {
    tracer = crate::tracing::tracer;

    /// A line of the kernel log, as it goes into the log. Linux: `include/trace/events/printk.h`.
    event printk:console(msg: str) {
        print("%s", msg)
    }

    /// A device's interrupt handler starts. Linux: `include/trace/events/irq.h`.
    event irq:irq_handler_entry(irq: i32, name: str) {
        print("irq=%d name=%s", irq, name)
    }

    /// It has ended; `ret` is 1 where the device had something for it.
    event irq:irq_handler_exit(irq: i32, ret: i32) {
        print("irq=%d ret=%s", irq, ret ? "handled" : "unhandled")
    }

    /// The local APIC's timer interrupt starts. Linux: `arch/x86/include/asm/trace/irq_vectors.h`.
    event irq_vectors:local_timer_entry(vector: i32) {
        print("vector=%d", vector)
    }

    /// It has ended.
    event irq_vectors:local_timer_exit(vector: i32) {
        print("vector=%d", vector)
    }

    // sched: `include/trace/events/sched.h`.

    /// A CPU goes from one task to another.
    event sched:sched_switch(prev_comm: [char; 16], prev_pid: pid_t, prev_prio: i32, prev_state: long, next_comm: [char; 16], next_pid: pid_t, next_prio: i32) {
        print("prev_comm=%s prev_pid=%d prev_prio=%d prev_state=%s%s ==> next_comm=%s next_pid=%d next_prio=%d",
            prev_comm, prev_pid, prev_prio,
            prev_state & 0xff | { 1 => "S", 2 => "D", 4 => "T", 8 => "t", 0x10 => "X", 0x20 => "Z", 0x40 => "P", 0x80 => "I" } else "R",
            prev_state & 0x100 ? "+" : "",
            next_comm, next_pid, next_prio)
    }

    /// A task is about to be woken, by the task or interrupt that this is recorded in.
    event sched:sched_waking(comm: [char; 16], pid: pid_t, prio: i32, target_cpu: i32) {
        print("comm=%s pid=%d prio=%d target_cpu=%03d", comm, pid, prio, target_cpu)
    }

    /// It is runnable now.
    event sched:sched_wakeup(comm: [char; 16], pid: pid_t, prio: i32, target_cpu: i32) {
        print("comm=%s pid=%d prio=%d target_cpu=%03d", comm, pid, prio, target_cpu)
    }

    /// A new task is runnable for the first time.
    event sched:sched_wakeup_new(comm: [char; 16], pid: pid_t, prio: i32, target_cpu: i32) {
        print("comm=%s pid=%d prio=%d target_cpu=%03d", comm, pid, prio, target_cpu)
    }

    /// A task that does not run now goes to another CPU.
    event sched:sched_migrate_task(comm: [char; 16], pid: pid_t, prio: i32, orig_cpu: i32, dest_cpu: i32) {
        print("comm=%s pid=%d prio=%d orig_cpu=%d dest_cpu=%d", comm, pid, prio, orig_cpu, dest_cpu)
    }

    /// A task makes another one.
    event sched:sched_process_fork(parent_comm: str, parent_pid: pid_t, child_comm: str, child_pid: pid_t) {
        print("comm=%s pid=%d child_comm=%s child_pid=%d", parent_comm, parent_pid, child_comm, child_pid)
    }

    /// A task ends.
    event sched:sched_process_exit(comm: [char; 16], pid: pid_t, prio: i32, group_dead: bool) {
        print("comm=%s pid=%d prio=%d group_dead=%s", comm, pid, prio, group_dead ? "true" : "false")
    }

    // irq, the soft ones: `include/trace/events/irq.h`.

    /// A soft interrupt is asked for.
    event irq:softirq_raise(vec: u32) {
        print("vec=%u [action=%s]", vec, vec { 0 => "HI", 1 => "TIMER", 2 => "NET_TX", 3 => "NET_RX", 4 => "BLOCK", 5 => "IRQ_POLL", 6 => "TASKLET", 7 => "SCHED", 8 => "HRTIMER", 9 => "RCU" })
    }

    /// Its handler starts.
    event irq:softirq_entry(vec: u32) {
        print("vec=%u [action=%s]", vec, vec { 0 => "HI", 1 => "TIMER", 2 => "NET_TX", 3 => "NET_RX", 4 => "BLOCK", 5 => "IRQ_POLL", 6 => "TASKLET", 7 => "SCHED", 8 => "HRTIMER", 9 => "RCU" })
    }

    /// It has ended.
    event irq:softirq_exit(vec: u32) {
        print("vec=%u [action=%s]", vec, vec { 0 => "HI", 1 => "TIMER", 2 => "NET_TX", 3 => "NET_RX", 4 => "BLOCK", 5 => "IRQ_POLL", 6 => "TASKLET", 7 => "SCHED", 8 => "HRTIMER", 9 => "RCU" })
    }

    // timer: `include/trace/events/timer.h`.

    /// A timer is set; times are ticks, `flags` has the CPU.
    event timer:timer_start(timer: ptr, function: ptr, expires: ulong, bucket_expiry: ulong, now: ulong, flags: u32) {
        print("timer=%p function=%ps expires=%lu [timeout=%ld] bucket_expiry=%lu cpu=%u idx=%u flags=%s",
            timer, function, expires, expires - now, bucket_expiry, flags & 0x3ffff, flags >> 22,
            flags & 0x3c0000 | { 0x40000 => "M", 0x80000 => "D", 0x100000 => "P", 0x200000 => "I" })
    }

    /// A timer's function is about to be called; it was due at `baseclk`.
    event timer:timer_expire_entry(timer: ptr, now: ulong, function: ptr, baseclk: ulong) {
        print("timer=%p function=%ps now=%lu baseclk=%lu", timer, function, now, baseclk)
    }

    /// It has returned.
    event timer:timer_expire_exit(timer: ptr) {
        print("timer=%p", timer)
    }

    /// A timer is set no more: it is stopped, or about to go off.
    event timer:timer_cancel(timer: ptr) {
        print("timer=%p", timer)
    }

    /// A CPU goes idle and lets ticks fall out, until a timer is due or something else comes.
    event timer:tick_stop(success: i32, dependency: i32) {
        print("success=%d dependency=%s", success, dependency { 0 => "NONE", 1 => "POSIX_TIMER", 2 => "PERF_EVENTS", 4 => "SCHED", 8 => "CLOCK_UNSTABLE", 16 => "RCU", 32 => "RCU_EXP" })
    }

    // workqueue: `include/trace/events/workqueue.h`.

    /// Work is put into a list.
    event workqueue:workqueue_queue_work(work: ptr, function: ptr, workqueue: str, req_cpu: i32, cpu: i32) {
        print("work struct=%p function=%ps workqueue=%s req_cpu=%d cpu=%d", work, function, workqueue, req_cpu, cpu)
    }

    /// A worker may take it.
    event workqueue:workqueue_activate_work(work: ptr, function: ptr) {
        print("work struct %p function=%ps ", work, function)
    }

    /// A worker is about to call it.
    event workqueue:workqueue_execute_start(work: ptr, function: ptr) {
        print("work struct %p: function %ps", work, function)
    }

    /// It has returned.
    event workqueue:workqueue_execute_end(work: ptr, function: ptr) {
        print("work struct %p: function %ps", work, function)
    }

    // lock: `include/trace/events/lock.h`.

    /// A lock is taken already: whoever wants it waits from here on.
    event lock:contention_begin(lock_addr: ptr, flags: u32) {
        print("%p (flags=%s)", lock_addr, flags | { 1 => "SPIN", 2 => "READ", 4 => "WRITE", 8 => "RT", 0x10 => "PERCPU", 0x20 => "MUTEX" })
    }

    /// It has the lock.
    event lock:contention_end(lock_addr: ptr, ret: i32) {
        print("%p (ret=%d)", lock_addr, ret)
    }

    // kmem, the heap: `include/trace/events/kmem.h`.

    /// The heap gives out a block.
    event kmem:kmalloc(call_site: ulong, ptr: const_ptr, bytes_req: size_t, bytes_alloc: size_t, gfp_flags: ulong, node: i32) {
        print("call_site=%pS ptr=%p bytes_req=%zu bytes_alloc=%zu gfp_flags=%s node=%d accounted=%s",
            call_site, ptr, bytes_req, bytes_alloc, gfp_flags | { 0x100cc0 => "GFP_USER", 0xcc0 => "GFP_KERNEL", 0x820 => "GFP_ATOMIC", 0x100 => "__GFP_ZERO" } else "none", node, gfp_flags & 0x400000 ? "true" : "false")
    }

    /// It comes back.
    event kmem:kfree(call_site: ulong, ptr: const_ptr) {
        print("call_site=%pS ptr=%p", call_site, ptr)
    }

    /// Another CPU asks this one to look for a task to run. Linux: as for the timer.
    event irq_vectors:reschedule_entry(vector: i32) {
        print("vector=%d", vector)
    }

    /// It has ended.
    event irq_vectors:reschedule_exit(vector: i32) {
        print("vector=%d", vector)
    }

    /// Another CPU asks this one to call a function. Linux: as for the timer.
    event irq_vectors:call_function_entry(vector: i32) {
        print("vector=%d", vector)
    }

    /// It has ended.
    event irq_vectors:call_function_exit(vector: i32) {
        print("vector=%d", vector)
    }

    /// The CPU forgets translations; all of them where `pages` is -1. Linux: `include/trace/events/tlb.h`.
    event tlb:tlb_flush(reason: i32, pages: ulong) {
        print("pages:%ld reason:%s (%d)", pages, reason {
            0 => "flush on task switch", 1 => "remote shootdown", 2 => "local shootdown",
            3 => "local MM shootdown", 4 => "remote IPI send", 5 => "remote wrong CPU",
        }, reason)
    }

    /// The CPU goes idle, into the state of that number; it does so no more with 4294967295. Linux:
    /// `include/trace/events/power.h`.
    event power:cpu_idle(state: c_u32, cpu_id: c_u32) {
        print("state=%lu cpu_id=%lu", state, cpu_id)
    }

    /// The frame allocator gives out `1 << order` pages, which nobody can move (`migratetype` 0). There is no `struct page`: `page` is
    /// where the kernel sees the page itself, in its direct map. Linux: `include/trace/events/kmem.h`.
    event kmem:mm_page_alloc(pfn: ulong, order: u32, gfp_flags: ulong, migratetype: i32) {
        print("page=%p pfn=0x%lx order=%d migratetype=%d gfp_flags=%s", pfn << 12 | 0xffff800000000000, pfn, order, migratetype,
            gfp_flags | { 0x100cc0 => "GFP_USER", 0xcc0 => "GFP_KERNEL", 0x820 => "GFP_ATOMIC", 0x100 => "__GFP_ZERO" } else "none")
    }

    /// They come back.
    event kmem:mm_page_free(pfn: ulong, order: u32) {
        print("page=%p pfn=0x%lx order=%d", pfn << 12 | 0xffff800000000000, pfn, order)
    }

    // exceptions: `arch/x86/include/asm/trace/exceptions.h`.

    /// A page fault in user mode: the address, the instruction, the CPU's error code.
    event exceptions:page_fault_user(address: ulong, ip: ulong, error_code: ulong) {
        print("address=%ps ip=%ps error_code=0x%lx", address, ip, error_code)
    }

    /// A page fault in the kernel, which copies from or to a process.
    event exceptions:page_fault_kernel(address: ulong, ip: ulong, error_code: ulong) {
        print("address=%ps ip=%ps error_code=0x%lx", address, ip, error_code)
    }

    // raw_syscalls: `include/trace/events/syscalls.h`.

    /// A system call starts.
    event raw_syscalls:sys_enter(id: long, args: [ulong; 6]) {
        print("NR %ld (%lx, %lx, %lx, %lx, %lx, %lx)", id, args[0], args[1], args[2], args[3], args[4], args[5])
    }

    /// It has ended; errors are negative.
    event raw_syscalls:sys_exit(id: long, ret: long) {
        print("NR %ld = %ld", id, ret)
    }

    // sched, the part of a process's start: `include/trace/events/sched.h`.

    /// A new process starts its program.
    event sched:sched_process_exec(filename: str, pid: pid_t, old_pid: pid_t) {
        print("filename=%s pid=%d old_pid=%d", filename, pid, old_pid)
    }

    // syscalls: one pair for each call, as `kernel/trace/trace_syscalls.c` makes them. `spawn` is Baton's own.

    /// `read` starts.
    event syscalls:sys_enter_read(__syscall_nr: i32, fd: (arg UInt), buf: (arg Chars), count: (arg Size)) {
        print("fd: 0x%08lx, buf: 0x%08lx, count: 0x%08lx", fd, buf, count)
    }

    /// `read` has ended.
    event syscalls:sys_exit_read(__syscall_nr: i32, ret: long) {
        print("0x%lx", ret)
    }

    /// `write` starts.
    event syscalls:sys_enter_write(__syscall_nr: i32, fd: (arg UInt), buf: (arg ConstChars), count: (arg Size)) {
        print("fd: 0x%08lx, buf: 0x%08lx, count: 0x%08lx", fd, buf, count)
    }

    /// `write` has ended.
    event syscalls:sys_exit_write(__syscall_nr: i32, ret: long) {
        print("0x%lx", ret)
    }

    /// `open` starts.
    event syscalls:sys_enter_open(__syscall_nr: i32, filename: (arg ConstChars), flags: (arg Int), mode: (arg UMode)) {
        print("filename: 0x%08lx, flags: 0x%08lx, mode: 0x%08lx", filename, flags, mode)
    }

    /// `open` has ended.
    event syscalls:sys_exit_open(__syscall_nr: i32, ret: long) {
        print("0x%lx", ret)
    }

    /// `close` starts.
    event syscalls:sys_enter_close(__syscall_nr: i32, fd: (arg UInt)) {
        print("fd: 0x%08lx", fd)
    }

    /// `close` has ended.
    event syscalls:sys_exit_close(__syscall_nr: i32, ret: long) {
        print("0x%lx", ret)
    }

    /// `mmap` starts.
    event syscalls:sys_enter_mmap(__syscall_nr: i32, addr: (arg ULong), len: (arg ULong), prot: (arg ULong), flags: (arg ULong), fd: (arg ULong), off: (arg ULong)) {
        print("addr: 0x%08lx, len: 0x%08lx, prot: 0x%08lx, flags: 0x%08lx, fd: 0x%08lx, off: 0x%08lx", addr, len, prot, flags, fd, off)
    }

    /// `mmap` has ended.
    event syscalls:sys_exit_mmap(__syscall_nr: i32, ret: long) {
        print("0x%lx", ret)
    }

    /// `munmap` starts.
    event syscalls:sys_enter_munmap(__syscall_nr: i32, addr: (arg ULong), len: (arg Size)) {
        print("addr: 0x%08lx, len: 0x%08lx", addr, len)
    }

    /// `munmap` has ended.
    event syscalls:sys_exit_munmap(__syscall_nr: i32, ret: long) {
        print("0x%lx", ret)
    }

    /// `ioctl` starts.
    event syscalls:sys_enter_ioctl(__syscall_nr: i32, fd: (arg UInt), cmd: (arg UInt), arg: (arg ULong)) {
        print("fd: 0x%08lx, cmd: 0x%08lx, arg: 0x%08lx", fd, cmd, arg)
    }

    /// `ioctl` has ended.
    event syscalls:sys_exit_ioctl(__syscall_nr: i32, ret: long) {
        print("0x%lx", ret)
    }

    /// `sched_yield` starts.
    event syscalls:sys_enter_sched_yield(__syscall_nr: i32) {
        print("")
    }

    /// `sched_yield` has ended.
    event syscalls:sys_exit_sched_yield(__syscall_nr: i32, ret: long) {
        print("0x%lx", ret)
    }

    /// `nanosleep` starts.
    event syscalls:sys_enter_nanosleep(__syscall_nr: i32, rqtp: (arg TimeSpec), rmtp: (arg TimeSpec)) {
        print("rqtp: 0x%08lx, rmtp: 0x%08lx", rqtp, rmtp)
    }

    /// `nanosleep` has ended.
    event syscalls:sys_exit_nanosleep(__syscall_nr: i32, ret: long) {
        print("0x%lx", ret)
    }

    /// `getpid` starts.
    event syscalls:sys_enter_getpid(__syscall_nr: i32) {
        print("")
    }

    /// `getpid` has ended.
    event syscalls:sys_exit_getpid(__syscall_nr: i32, ret: long) {
        print("0x%lx", ret)
    }

    /// `exit` starts.
    event syscalls:sys_enter_exit(__syscall_nr: i32, error_code: (arg Int)) {
        print("error_code: 0x%08lx", error_code)
    }

    /// `exit` has ended.
    event syscalls:sys_exit_exit(__syscall_nr: i32, ret: long) {
        print("0x%lx", ret)
    }

    /// `wait4` starts.
    event syscalls:sys_enter_wait4(__syscall_nr: i32, upid: (arg Pid), stat_addr: (arg IntPointer), options: (arg Int), ru: (arg Usage)) {
        print("upid: 0x%08lx, stat_addr: 0x%08lx, options: 0x%08lx, ru: 0x%08lx", upid, stat_addr, options, ru)
    }

    /// `wait4` has ended.
    event syscalls:sys_exit_wait4(__syscall_nr: i32, ret: long) {
        print("0x%lx", ret)
    }

    /// `kill` starts.
    event syscalls:sys_enter_kill(__syscall_nr: i32, pid: (arg Pid), sig: (arg Int)) {
        print("pid: 0x%08lx, sig: 0x%08lx", pid, sig)
    }

    /// `kill` has ended.
    event syscalls:sys_exit_kill(__syscall_nr: i32, ret: long) {
        print("0x%lx", ret)
    }

    /// `getppid` starts.
    event syscalls:sys_enter_getppid(__syscall_nr: i32) {
        print("")
    }

    /// `getppid` has ended.
    event syscalls:sys_exit_getppid(__syscall_nr: i32, ret: long) {
        print("0x%lx", ret)
    }

    /// `sched_setaffinity` starts.
    event syscalls:sys_enter_sched_setaffinity(__syscall_nr: i32, pid: (arg Pid), len: (arg UInt), user_mask_ptr: (arg ULongPointer)) {
        print("pid: 0x%08lx, len: 0x%08lx, user_mask_ptr: 0x%08lx", pid, len, user_mask_ptr)
    }

    /// `sched_setaffinity` has ended.
    event syscalls:sys_exit_sched_setaffinity(__syscall_nr: i32, ret: long) {
        print("0x%lx", ret)
    }

    /// `sched_getaffinity` starts.
    event syscalls:sys_enter_sched_getaffinity(__syscall_nr: i32, pid: (arg Pid), len: (arg UInt), user_mask_ptr: (arg ULongPointer)) {
        print("pid: 0x%08lx, len: 0x%08lx, user_mask_ptr: 0x%08lx", pid, len, user_mask_ptr)
    }

    /// `sched_getaffinity` has ended.
    event syscalls:sys_exit_sched_getaffinity(__syscall_nr: i32, ret: long) {
        print("0x%lx", ret)
    }

    /// `clock_gettime` starts.
    event syscalls:sys_enter_clock_gettime(__syscall_nr: i32, which_clock: (arg Clock), tp: (arg TimeSpec)) {
        print("which_clock: 0x%08lx, tp: 0x%08lx", which_clock, tp)
    }

    /// `clock_gettime` has ended.
    event syscalls:sys_exit_clock_gettime(__syscall_nr: i32, ret: long) {
        print("0x%lx", ret)
    }

    /// `spawn` starts.
    event syscalls:sys_enter_spawn(__syscall_nr: i32, filename: (arg ConstChars), argv: (arg Pointer), count: (arg Size)) {
        print("filename: 0x%08lx, argv: 0x%08lx, count: 0x%08lx", filename, argv, count)
    }

    /// `spawn` has ended.
    event syscalls:sys_exit_spawn(__syscall_nr: i32, ret: long) {
        print("0x%lx", ret)
    }

    /// A phase of a kexec begins (docs/architecture.md lists them); `generation` is the life that is in it.
    event baton:kexec_phase(generation: u32, phase: str) {
        print("generation=%u phase=%s", generation, phase)
    }
}

// The `page` of the page events.
const _: () =
    assert!(kernel::layout::DIRECT_MAP == 0xffff_8000_0000_0000 && kernel::layout::PAGE == 1 << 12);

/// The events that are on from the start, unless `trace_event=` says otherwise: rare ones that tell a life's story.
pub const DEFAULT: &str = "baton:*\nprintk:*";
