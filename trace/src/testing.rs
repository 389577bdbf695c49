//! A platform for tests on the host (feature `sim`): simulated memory, a clock and a context set by hand; and what tests do all the time.

use crate::errno::Errno;
use crate::event::EventDesc;
use crate::fs::TraceFs;
use crate::platform::{Context, Locality, Platform};
use crate::ramtrace::Region;
use crate::tracer::{Config, Tracer};
use core::fmt;
use core::panic::Location;
use core::ptr::NonNull;
use handover::mem::Memory;
use handover::page::PageRef;
use handover::range::PhysRange;
use handover::sim::SimMemory;
use std::boxed::Box;
use std::collections::BTreeSet;
use std::string::String;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};
use std::thread::{self, ThreadId};

struct Machine {
    ns: AtomicU64,
    /// How far each look at the clock moves it on.
    step: AtomicU64,
    build: AtomicU64,
    context: Mutex<Context>,
    owned: Mutex<BTreeSet<PageRef>>,
    /// How often the tracer has said what it wants to be told of.
    told: AtomicU64,
    /// Whether there are interrupts: a look at this is all that a step costs without.
    interrupted: AtomicBool,
    interrupts: Mutex<Option<Interrupts>>,
    /// Whether there is something in `between`.
    waits: AtomicBool,
    between: Mutex<Option<Between>>,
    region: OnceLock<&'static Region<TestPlatform>>,
    /// How often the tracer has said that the region is to be brought up to date.
    changed: AtomicU64,
}

/// After how many locks what happens.
type Between = (u32, Box<dyn FnOnce() + Send>);

/// What comes at each step of a write, and in which thread; see [`TestPlatform::interrupted`].
#[derive(Clone, Copy)]
struct Interrupts {
    thread: ThreadId,
    call: *const dyn Fn(&'static Location<'static>),
}

// SAFETY: the pointer is followed in the thread only that it comes from.
unsafe impl Send for Interrupts {}

std::thread_local! {
    static CPU: core::cell::Cell<usize> = const { core::cell::Cell::new(0) };
}

/// A simulated machine; a `Copy` handle. Its time stamp counter runs at 2 cycles a nanosecond.
#[derive(Clone, Copy)]
pub struct TestPlatform {
    /// Its memory.
    pub memory: SimMemory,
    machine: &'static Machine,
}

impl TestPlatform {
    /// A machine with `mib` MiB of RAM at 1 MiB, at 1 s after its start.
    pub fn new(mib: u64) -> Self {
        let start = 1 << 20;
        Self::on(SimMemory::new(&[PhysRange::new(
            start,
            start + (mib << 20),
        )]))
    }

    /// A machine with this memory.
    pub fn on(memory: SimMemory) -> Self {
        TestPlatform {
            memory,
            machine: Box::leak(Box::new(Machine {
                ns: AtomicU64::new(1_000_000_000),
                step: AtomicU64::new(0),
                build: AtomicU64::new(0),
                context: Mutex::default(),
                owned: Mutex::default(),
                told: AtomicU64::new(0),
                interrupted: AtomicBool::new(false),
                interrupts: Mutex::default(),
                waits: AtomicBool::new(false),
                between: Mutex::default(),
                region: OnceLock::new(),
                changed: AtomicU64::new(0),
            })),
        }
    }

    /// The machine after a kexec: memory keeps its content, the allocator forgets, and keeps off `pages`. Time goes on,
    /// and the build is the same.
    pub fn kexec(self, pages: &[PageRef]) -> Self {
        let memory = self.memory.kexec();
        for page in pages {
            memory.reserve(page.range());
        }
        let next = Self::on(memory);
        next.set_ns(self.ns());
        next.set_build(self.build());
        next.machine.owned.lock().unwrap().extend(pages);
        next
    }

    /// A tracer of `nr_cpus` CPUs with 16 KiB each, as it is after a cold start. For two of them, [`TestPlatform::tracer`].
    pub fn tracer_of(
        self,
        nr_cpus: usize,
        events: &'static [&'static EventDesc],
    ) -> Tracer<TestPlatform> {
        let config = Config {
            nr_cpus,
            buffer_kb_per_cpu: 16,
            generation: 0,
        };
        Tracer::new(self, config, events).expect("memory for a small tracer")
    }

    /// A tracer of two CPUs.
    pub fn tracer(self, events: &'static [&'static EventDesc]) -> Tracer<TestPlatform> {
        self.tracer_of(2, events)
    }

    /// The clock.
    pub fn ns(&self) -> u64 {
        self.machine.ns.load(Ordering::Relaxed)
    }

    /// Sets the clock.
    pub fn set_ns(&self, ns: u64) {
        self.machine.ns.store(ns, Ordering::Relaxed);
    }

    /// Makes the clock go on by `ns` whenever it is looked at.
    pub fn set_step(&self, ns: u64) {
        self.machine.step.store(ns, Ordering::Relaxed);
    }

    /// The number of the kernel's build, by which it names functions; 0 for one that names none.
    pub fn set_build(&self, build: u64) {
        self.machine.build.store(build, Ordering::Relaxed);
    }

    /// Sets what the CPU is doing.
    pub fn set_context(&self, context: Context) {
        *self.machine.context.lock().unwrap() = context;
    }

    /// The CPU that this thread runs on.
    pub fn set_cpu(&self, cpu: usize) {
        CPU.set(cpu);
    }

    /// Runs `f`, in which each step of a write in this thread calls `interrupt`, with the place of the step: what that does comes as
    /// an interrupt would, and its own writes may be interrupted by it too. One at a time on a machine.
    pub fn interrupted<R>(
        &self,
        interrupt: &dyn Fn(&'static Location<'static>),
        f: impl FnOnce() -> R,
    ) -> R {
        /// Takes the interrupts away, also when `f` panics.
        struct Until(&'static Machine);
        impl Drop for Until {
            fn drop(&mut self) {
                self.0.interrupted.store(false, Ordering::Relaxed);
                *self.0.interrupts.lock().unwrap() = None;
            }
        }
        let call: *const (dyn Fn(&'static Location<'static>) + '_) = interrupt;
        // SAFETY: only the lifetime is another one. The pointer is followed while `f` runs only: `Until` takes it away.
        let call: *const (dyn Fn(&'static Location<'static>) + 'static) =
            unsafe { core::mem::transmute(call) };
        let thread = thread::current().id();
        let before = self
            .machine
            .interrupts
            .lock()
            .unwrap()
            .replace(Interrupts { thread, call });
        assert!(before.is_none(), "one at a time");
        let _until = Until(self.machine);
        self.machine.interrupted.store(true, Ordering::Relaxed);
        f()
    }

    /// Has `f` happen, as on another CPU, when interrupts were off so many times more, right after the last of them: between two locks
    /// that somebody takes.
    pub fn after_locks(&self, times: u32, f: impl FnOnce() + Send + 'static) {
        *self.machine.between.lock().unwrap() = Some((times, Box::new(f)));
        self.machine.waits.store(true, Ordering::Relaxed);
    }

    /// Interrupts were off: what waits for that comes.
    fn unlocked(&self) {
        let mut between = self.machine.between.lock().unwrap();
        match between.as_mut() {
            Some((times, _)) if *times > 1 => *times -= 1,
            _ => {
                self.machine.waits.store(false, Ordering::Relaxed);
                let due = between.take();
                drop(between);
                if let Some((_, f)) = due {
                    f();
                }
            }
        }
    }

    /// How often the tracer has said what it wants to be told of ([`Platform::measure`]).
    pub fn told(&self) -> u64 {
        self.machine.told.load(Ordering::Relaxed)
    }

    /// Opens the region at `range`, which ordinary memory has no part in, and lets `begin` begin or continue a life in it.
    pub fn open_region(
        &self,
        range: PhysRange,
        begin: impl FnOnce(&Region<TestPlatform>),
    ) -> &'static Region<TestPlatform> {
        self.memory.reserve(range);
        // SAFETY: the allocator keeps off the range, of which tests know that nobody had a page of it before; of what this machine uses
        // it is the only one (below).
        let region = unsafe { Region::open(*self, range) }.expect("a region is there");
        begin(&region);
        let region: &'static _ = Box::leak(Box::new(region));
        assert!(self.machine.region.set(region).is_ok(), "one region");
        region
    }

    /// The region that was opened.
    pub fn ramtrace_region(&self) -> &'static Region<TestPlatform> {
        self.ramtrace().expect("a region was opened")
    }

    /// How often the tracer has said that the region is to be brought up to date.
    pub fn changed(&self) -> u64 {
        self.machine.changed.load(Ordering::Relaxed)
    }

    /// The pages that the tracer has said it owns.
    pub fn owned(&self) -> BTreeSet<PageRef> {
        self.machine.owned.lock().unwrap().clone()
    }
}

impl TraceFs<'_, TestPlatform> {
    /// `cat PATH`, which can be read.
    pub fn text(&self, path: &str) -> String {
        let mut text = String::new();
        self.read(path, &mut text)
            .unwrap_or_else(|error| panic!("{path}: {error}"));
        text
    }

    /// `echo TEXT > PATH`
    ///
    /// # Errors
    ///
    /// Those of [`TraceFs::write`].
    pub fn put(&self, path: &str, text: &str) -> Result<(), Errno> {
        self.write(path, text.as_bytes(), true)
    }
}

// SAFETY: all is passed on to `SimMemory`, which keeps the contract.
unsafe impl Memory for TestPlatform {
    fn ptr(&self, pa: u64, len: usize) -> Option<NonNull<u8>> {
        self.memory.ptr(pa, len)
    }

    fn alloc_pages(&self, order: u32) -> Option<u64> {
        self.memory.alloc_pages(order)
    }

    unsafe fn free_pages(&self, pa: u64, order: u32) {
        // SAFETY: the caller's promise is the one that is asked for.
        unsafe { self.memory.free_pages(pa, order) }
    }
}

impl Platform for TestPlatform {
    /// Two callers that are always the same.
    fn callers(&self, out: &mut [u64]) -> usize {
        let callers = [0x1000, 0x2000];
        let n = callers.len().min(out.len());
        out[..n].copy_from_slice(&callers[..n]);
        n
    }

    fn build(&self) -> u64 {
        self.machine.build.load(Ordering::Relaxed)
    }

    fn symbol(&self, address: u64, out: &mut dyn fmt::Write) -> fmt::Result {
        match self.build() {
            0 => write!(out, "{address:#x}"),
            build => write!(out, "build_{build}_at_{address:x}"),
        }
    }

    fn function(&self, address: u64, out: &mut dyn fmt::Write) -> fmt::Result {
        self.symbol(address, out)
    }

    /// Each function begins where its last digit is 0, and has 16 bytes.
    fn place(&self, address: u64, out: &mut dyn fmt::Write) -> fmt::Result {
        match self.build() {
            0 => write!(out, "{address:#x}"),
            _ => {
                self.function(address & !0xf, out)?;
                write!(out, "+{:#x}/0x10", address & 0xf)
            }
        }
    }

    fn cpu(&self) -> usize {
        CPU.get()
    }

    fn cycles(&self) -> u64 {
        let step = self.machine.step.load(Ordering::Relaxed);
        2 * self.machine.ns.fetch_add(step, Ordering::Relaxed)
    }

    fn cycles_to_nanos(&self, cycles: u64) -> u64 {
        cycles / 2
    }

    fn context(&self) -> Context {
        *self.machine.context.lock().unwrap()
    }

    fn comm(&self, pid: i32, out: &mut dyn fmt::Write) {
        let _ = match pid {
            0 => out.write_str("<idle>"),
            1 => out.write_str("init"),
            _ => out.write_str("<...>"),
        };
    }

    fn no_irq<R>(&self, f: impl FnOnce() -> R) -> R {
        let result = f();
        if self.machine.waits.load(Ordering::Relaxed) {
            self.unlocked();
        }
        result
    }

    fn may_interrupt(&self) {
        if !self.machine.interrupted.load(Ordering::Relaxed) {
            return;
        }
        // Not within the lock: interrupts nest.
        let interrupts = *self.machine.interrupts.lock().unwrap();
        if let Some(Interrupts { thread, call }) = interrupts
            && thread == thread::current().id()
        {
            // SAFETY: it is there as long as `interrupted` runs, which is in this thread, and has called us.
            unsafe { (*call)(Location::caller()) };
        }
    }

    fn ramtrace(&self) -> Option<&'static Region<Self>> {
        self.machine.region.get().copied()
    }

    fn ramtrace_changed(&self) {
        self.machine.changed.fetch_add(1, Ordering::Relaxed);
    }

    fn measure(&self, _: crate::tracer::Measured) {
        self.machine.told.fetch_add(1, Ordering::Relaxed);
    }

    fn page_owned(&self, page: PageRef) {
        assert!(
            self.machine.owned.lock().unwrap().insert(page),
            "{page:?} owned twice"
        );
    }

    fn page_released(&self, page: PageRef) {
        assert!(
            self.machine.owned.lock().unwrap().remove(&page),
            "{page:?} not owned"
        );
    }
}

/// A test platform with the promise that each buffer has one writer: a write takes no locked instruction then.
#[derive(Clone, Copy, Debug)]
pub struct Pinned {
    platform: TestPlatform,
    barrier: fn(),
}

impl Pinned {
    /// # Safety
    ///
    /// What [`Locality::pinned`] asks for, with `barrier` as [`Platform::barrier_all`].
    pub const unsafe fn new(platform: TestPlatform, barrier: fn()) -> Self {
        Pinned { platform, barrier }
    }
}

// SAFETY: all is passed on, and the contract is kept there.
unsafe impl Memory for Pinned {
    fn ptr(&self, pa: u64, len: usize) -> Option<NonNull<u8>> {
        self.platform.ptr(pa, len)
    }

    fn alloc_pages(&self, order: u32) -> Option<u64> {
        self.platform.alloc_pages(order)
    }

    unsafe fn free_pages(&self, pa: u64, order: u32) {
        // SAFETY: the caller's promise is the one that is asked for.
        unsafe { self.platform.free_pages(pa, order) }
    }
}

impl Platform for Pinned {
    // SAFETY: who made the platform has promised it.
    const LOCALITY: Locality = unsafe { Locality::pinned() };

    fn barrier_all(&self) {
        (self.barrier)();
    }

    fn may_interrupt(&self) {
        self.platform.may_interrupt();
    }

    fn cpu(&self) -> usize {
        self.platform.cpu()
    }

    fn cycles(&self) -> u64 {
        self.platform.cycles()
    }

    fn cycles_to_nanos(&self, cycles: u64) -> u64 {
        self.platform.cycles_to_nanos(cycles)
    }

    fn context(&self) -> Context {
        self.platform.context()
    }

    fn comm(&self, pid: i32, out: &mut dyn fmt::Write) {
        self.platform.comm(pid, out);
    }

    fn page_owned(&self, page: PageRef) {
        self.platform.page_owned(page);
    }

    fn page_released(&self, page: PageRef) {
        self.platform.page_released(page);
    }
}

impl fmt::Debug for TestPlatform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TestPlatform at {} ns", self.ns())
    }
}
