//! `sched::state` under loom: whatever the order of a sleeper's and its wakers' steps, the sleeper gets up.
#![cfg(feature = "loom")]

use kernel::sched::state::{DEAD, State, UNINTERRUPTIBLE};
use loom::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use loom::sync::{Arc, Condvar, Mutex};

/// A task and the queue of its CPU, which counts how often the task was made runnable.
struct World {
    state: State,
    /// Whether the task is runnable; the lock is the run queue's.
    runnable: Mutex<bool>,
    /// The CPU, as far as the task has it: signalled when it may run again.
    cpu: Condvar,
    conditions: [AtomicBool; 2],
    wakeups: AtomicU32,
}

impl World {
    fn new() -> Arc<Self> {
        Arc::new(World {
            state: State::new(),
            runnable: Mutex::new(true),
            cpu: Condvar::new(),
            conditions: [AtomicBool::new(false), AtomicBool::new(false)],
            wakeups: AtomicU32::new(0),
        })
    }

    /// What the scheduler does for a task that calls it. Only a wake-up ends the wait: a lost one is a deadlock, which loom finds.
    fn schedule(&self) {
        let mut runnable = self.runnable.lock().unwrap();
        if self.state.leaves() {
            *runnable = false;
        }
        while !*runnable {
            runnable = self.cpu.wait(runnable).unwrap();
        }
    }

    fn wait_for(&self, condition: usize) {
        loop {
            self.state.sleep(UNINTERRUPTIBLE);
            if self.conditions[condition].load(Relaxed) {
                self.state.run();
                break;
            }
            self.schedule();
        }
    }

    fn make_true(&self, condition: usize) {
        self.conditions[condition].store(true, Relaxed);
        if self.state.claim(UNINTERRUPTIBLE) {
            let mut runnable = self.runnable.lock().unwrap();
            if self.state.wake() && !*runnable {
                *runnable = true;
                self.wakeups.fetch_add(1, Relaxed);
                self.cpu.notify_one();
            }
        }
    }
}

#[test]
fn no_wakeup_is_lost() {
    loom::model(|| {
        let world = World::new();
        let waker = {
            let world = world.clone();
            loom::thread::spawn(move || world.make_true(0))
        };
        world.wait_for(0);
        waker.join().unwrap();
    });
}

/// Two conditions, one after the other, made true by two wakers: the one's late wake-up may hit the other's sleep.
#[test]
fn a_late_wakeup_does_no_harm() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let world = World::new();
        let wakers = [0, 1].map(|condition| {
            let world = world.clone();
            loom::thread::spawn(move || world.make_true(condition))
        });
        world.wait_for(0);
        world.wait_for(1);
        for waker in wakers {
            waker.join().unwrap();
        }
        assert!(world.wakeups.load(Relaxed) <= 2);
    });
}

#[test]
fn a_dead_task_is_not_made_runnable() {
    loom::model(|| {
        let world = World::new();
        let waker = {
            let world = world.clone();
            loom::thread::spawn(move || world.make_true(0))
        };
        world.wait_for(0);
        world.state.sleep(DEAD);
        {
            let mut runnable = world.runnable.lock().unwrap();
            assert!(world.state.leaves(), "nobody keeps a dead task");
            *runnable = false;
        }
        waker.join().unwrap();
        assert!(!*world.runnable.lock().unwrap());
    });
}
