//! What the `trace` file makes of records, beside what a print format says: names of functions, and system calls.

mod crossed;

use crossed::{alone, arrive, leave, machine};
use std::sync::OnceLock;
use trace::Tracer;
use trace::fs::TraceFs;
use trace::testing::TestPlatform;

mod events {
    trace::define_events! {
        tracer = crate::tracer_of_this_test;

        /// A function, and a place in one.
        event test:place(function: ptr, site: ulong) {
            print("function=%ps site=%pS at=%p", function, site, site)
        }

        /// A call with arguments starts.
        event syscalls:sys_enter_write(__syscall_nr: i32, fd: (arg UInt), buf: (arg ConstChars), count: (arg Size)) {
            print("fd: 0x%08lx, buf: 0x%08lx, count: 0x%08lx", fd, buf, count)
        }

        /// It ends.
        event syscalls:sys_exit_write(__syscall_nr: i32, ret: long) {
            print("0x%lx", ret)
        }

        /// A call without arguments starts.
        event syscalls:sys_enter_getpid(__syscall_nr: i32) {
            print("")
        }

        /// No system call, whatever its name says.
        event test:sys_enter_nothing(nr: i32) {
            print("nr=%d", nr)
        }
    }
}

static TRACER: OnceLock<Tracer<TestPlatform>> = OnceLock::new();

fn tracer_of_this_test() -> Option<&'static Tracer<TestPlatform>> {
    Some(TRACER.get_or_init(|| {
        let platform = machine(8);
        platform.set_build(7);
        platform.tracer(events::ALL)
    }))
}

/// The lines of the trace without task, CPU and time.
fn texts(fs: &TraceFs<'_, TestPlatform>) -> Vec<String> {
    let trace = fs.text("trace");
    let lines = trace.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| line.splitn(3, ": ").skip(1).collect::<Vec<_>>().join(": "))
        .collect()
}

#[test]
fn functions_have_names_and_system_calls_look_like_calls() {
    let _alone = alone();
    let tracer = tracer_of_this_test().unwrap();
    let fs = TraceFs(tracer);
    fs.put("events/enable", "1").unwrap();
    events::place(0x1230, 0x1234);
    events::sys_enter_write(1, 9, 0x7fff_0000, 10);
    events::sys_exit_write(1, 10);
    events::sys_exit_write(1, -14);
    events::sys_enter_getpid(39);
    events::sys_enter_nothing(1);
    fs.put("events/enable", "0").unwrap();
    assert_eq!(
        texts(&fs),
        [
            "place: function=build_7_at_1230 site=build_7_at_1230+0x4/0x10 at=0000000000001234",
            "sys_write(fd: 9, buf: 0x7fff0000, count: 0xa)",
            "sys_write -> 0xa",
            "sys_write -> 0xfffffffffffffff2",
            "sys_getpid()",
            "sys_enter_nothing: nr=1",
        ]
    );
    // By fields they stay what they are.
    fs.put("options/fields", "1").unwrap();
    assert!(texts(&fs)[1].starts_with("sys_enter_write: __syscall_nr=0x1 (1) fd=0x9 (9)"));
    fs.put("options/fields", "0").unwrap();
}

mod crossing {
    trace::define_events! {
        tracer = crate::crossing_tracer;

        /// A function.
        event test:function(function: ptr) {
            print("function=%ps", function)
        }

        /// A call starts.
        event syscalls:sys_enter_close(__syscall_nr: i32, fd: (arg UInt)) {
            print("fd: 0x%08lx", fd)
        }
    }
}

static CROSSING: OnceLock<&'static Tracer<TestPlatform>> = OnceLock::new();

fn crossing_tracer() -> Option<&'static Tracer<TestPlatform>> {
    CROSSING.get().copied()
}

/// In another build an address leads somewhere else; and a call is shown as one by a kernel that does not have it.
#[test]
fn records_of_another_build_name_no_function() {
    let _alone = alone();
    let platform = machine(8);
    platform.set_build(7);
    let tracer: &'static Tracer<TestPlatform> = Box::leak(Box::new(platform.tracer(crossing::ALL)));
    CROSSING.get_or_init(|| tracer);
    TraceFs(tracer).put("events/enable", "1").unwrap();
    crossing::function(0x1230);
    crossing::sys_enter_close(3, 4);
    let own = ["function: function=build_7_at_1230", "sys_close(fd: 4)"];
    assert_eq!(texts(&TraceFs(tracer)), own);
    let foreign = ["function: function=0x1230", "sys_close(fd: 4)"];
    let (stream, next) = leave(tracer, |old, state| old.refresh_state(state).unwrap());
    next.set_build(8);
    let next = arrive(&stream, next, 1, &[]).unwrap();
    assert_eq!(texts(&TraceFs(&next))[..2], foreign);
}
