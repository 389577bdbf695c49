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

    /// The frame allocator gives out `1 << order` pages. Linux: `include/trace/events/kmem.h`.
    event kmem:mm_page_alloc(pfn: u64, order: u32) {
        print("pfn=0x%lx order=%d", pfn, order)
    }

    /// They come back.
    event kmem:mm_page_free(pfn: u64, order: u32) {
        print("pfn=0x%lx order=%d", pfn, order)
    }

    /// A phase of a kexec begins (docs/architecture.md lists them); `generation` is the life that is in it.
    event baton:kexec_phase(generation: u32, phase: str) {
        print("generation=%u phase=%s", generation, phase)
    }
}

/// The events that are on from the start, unless `trace_event=` says otherwise: rare ones that tell a life's story.
pub const DEFAULT: &str = "baton:*\nprintk:*";
