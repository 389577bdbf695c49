//! The kernel's events, one declaration each. Names, fields and print formats are Linux's where Linux has the event.

trace::define_events! {
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
        print("irq=%d ret=%s", irq, ret { 0 => "unhandled", 1 => "handled" })
    }

    /// The local APIC's timer interrupt starts. Linux: `arch/x86/include/asm/trace/irq_vectors.h`.
    event irq_vectors:local_timer_entry(vector: i32) {
        print("vector=%d", vector)
    }

    /// It has ended.
    event irq_vectors:local_timer_exit(vector: i32) {
        print("vector=%d", vector)
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
    event tlb:tlb_flush(reason: i32, pages: u64) {
        print("pages:%ld reason:%s (%d)", pages, reason {
            0 => "flush on task switch", 1 => "remote shootdown", 2 => "local shootdown",
            3 => "local MM shootdown", 4 => "remote IPI send", 5 => "remote wrong CPU",
        }, reason)
    }

    /// The CPU goes idle, into the state of that number; it does so no more with 4294967295. Linux:
    /// `include/trace/events/power.h`.
    event power:cpu_idle(state: u32, cpu_id: u32) {
        print("state=%lu cpu_id=%lu", state, cpu_id)
    }

    /// The frame allocator gives out `1 << order` pages. Linux: `include/trace/events/kmem.h`.
    event kmem:mm_page_alloc(pfn: u64, order: u32) {
        print("pfn=0x%lx order=%d", pfn, order)
    }

    /// They come back.
    event kmem:mm_page_free(pfn: u64, order: u32) {
        print("pfn=0x%lx order=%d", pfn, order)
    }

    /// A line is about to run on the console.
    event baton:console_command(line: str) {
        print("%s", line)
    }

    /// A phase of a kexec begins (docs/architecture.md lists them); `generation` is the life that is in it.
    event baton:kexec_phase(generation: u32, phase: str) {
        print("generation=%u phase=%s", generation, phase)
    }
}

/// The events that are on from the start, unless `trace_event=` says otherwise: rare ones that tell a life's story.
pub const DEFAULT: &str = "baton:*\nprintk:*";
