//! What the slow path of recording finds by a pointer, and when that may be freed.
//!
//! Instances, filters and triggers come and go while events are recorded in every context, and a writer takes no lock.
//! Each CPU counts the slow paths that are under way on it. Who takes an object away
//!
//! 1. puts another pointer (or none) in its place, then
//! 2. looks at each CPU's count; a CPU whose count was 0 once after step 1 has nobody who can still know the object.
//!
//! A CPU that is never seen at 0 within a bounded wait does not hold anybody up: the object is put on a list, and looked
//! after at the next change.
//!
//! **Q1** A pointer is read only under a [`Guard`], and what it leads to is used only as long as that lives.
//! **Q2** An object is dropped only after step 2. Both sides' accesses are sequentially consistent: either the writer's load
//! comes after step 1 and finds the new pointer, or its count (written before) is seen in step 2.
#![allow(unsafe_code)]

use crate::sync::{AtomicPtr, AtomicU64, Mutex, Ordering, spin_loop};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// How often a CPU's count is looked at before it is given up for this time.
#[cfg(not(feature = "loom"))]
const LOOKS: u32 = 1 << 16;
/// The model checker tries each of them.
#[cfg(feature = "loom")]
const LOOKS: u32 = 2;

/// Any object that waits to be freed.
trait Waits: Send + Sync {}
impl<T: Send + Sync> Waits for T {}

/// The counts of all CPUs, and what waits for them.
pub(super) struct Domain {
    cpus: Box<[AtomicU64]>,
    garbage: Mutex<Vec<Arc<dyn Waits>>>,
}

/// A slow path is under way.
pub(super) struct Guard<'d>(&'d AtomicU64);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Domain {
    pub(super) fn new(nr_cpus: usize) -> Self {
        Domain {
            cpus: (0..nr_cpus).map(|_| AtomicU64::new(0)).collect(),
            garbage: Mutex::new(Vec::new()),
        }
    }

    /// Begins a slow path on `cpu`; `None` if there is no such CPU.
    pub(super) fn enter(&self, cpu: usize) -> Option<Guard<'_>> {
        let count = self.cpus.get(cpu)?;
        count.fetch_add(1, Ordering::SeqCst);
        Some(Guard(count))
    }

    /// Whether every CPU was outside of the slow path at some moment during the call.
    fn quiet(&self) -> bool {
        self.cpus.iter().all(|count| {
            (0..LOOKS).any(|_| {
                let outside = count.load(Ordering::SeqCst) == 0;
                if !outside {
                    spin_loop();
                }
                outside
            })
        })
    }

    /// Frees what has been taken away, now or at a later call. Not from within a slow path.
    fn retire(&self, object: Arc<dyn Waits>) {
        self.garbage.lock().push(object);
        self.collect();
    }

    /// Frees what waits, if every CPU is seen outside of the slow path.
    pub(super) fn collect(&self) {
        let mut waiting = core::mem::take(&mut *self.garbage.lock());
        if self.quiet() {
            drop(waiting);
        } else {
            self.garbage.lock().append(&mut waiting);
        }
    }
}

/// A place for an object that slow paths look at.
pub(super) struct Place<T>(AtomicPtr<T>, core::marker::PhantomData<Arc<T>>);

impl<T: Send + Sync + 'static> Place<T> {
    pub(super) fn empty() -> Self {
        Place(
            AtomicPtr::new(core::ptr::null_mut()),
            core::marker::PhantomData,
        )
    }

    /// What is there, for as long as `guard` lives. The guard must be one of the domain that [`put`](Self::put) is given.
    pub(super) fn get<'g>(&self, _guard: &'g Guard<'_>) -> Option<&'g T> {
        let object = self.0.load(Ordering::SeqCst);
        // SAFETY: a pointer that is not null comes from `Arc::into_raw` in `put`, and Q2 keeps the count that belongs to it
        // as long as the guard lives.
        unsafe { object.as_ref() }
    }

    /// Puts `new` there. What was there is freed as soon as nobody can look at it any more.
    pub(super) fn put(&self, new: Option<Arc<T>>, domain: &Domain) {
        let new = new.map_or(core::ptr::null_mut(), |new| Arc::into_raw(new).cast_mut());
        let old = self.0.swap(new, Ordering::SeqCst);
        if !old.is_null() {
            // SAFETY: it was made by `Arc::into_raw`, and the swap made its count ours.
            let old = unsafe { Arc::from_raw(old) };
            domain.retire(old);
        }
    }
}

impl<T> Drop for Place<T> {
    fn drop(&mut self) {
        let object = self.0.load(Ordering::Acquire);
        if !object.is_null() {
            // SAFETY: as in `put`; nobody else has access any more.
            drop(unsafe { Arc::from_raw(object) });
        }
    }
}

/// Bytes of the longest record that the slow path takes.
pub(super) const SCRATCH: usize = 4096;

/// Runs `f` with `len` zeroed bytes of the stack; `None` if that is more than [`SCRATCH`].
#[inline(always)]
pub(super) fn with_scratch<R>(len: usize, f: impl FnOnce(&mut [u8]) -> R) -> Option<R> {
    use core::mem::MaybeUninit;
    let mut bytes = [const { MaybeUninit::<u8>::uninit() }; SCRATCH];
    let bytes = bytes.get_mut(..len)?;
    bytes.fill(MaybeUninit::new(0));
    // SAFETY: all of them were set just now, and `MaybeUninit<u8>` lies in memory as `u8` does.
    Some(f(unsafe {
        &mut *(core::ptr::from_mut(bytes) as *mut [u8])
    }))
}

/// `cargo test -p trace --features loom --lib quiesce`: two writers on two CPUs and a remover, in every order, and with every
/// value that each can see. What the object leads to is no atomic: loom tells of a look at it that is not ordered before the
/// drop, or comes after it. The counts are used before that: loom takes an atomic's first value for one that was not stored
/// sequentially consistent, which a later load may still see.
#[cfg(all(test, feature = "loom"))]
mod model {
    use super::{Arc, Domain, Place};
    use loom::cell::UnsafeCell;

    /// Whether the object was dropped.
    struct Dropped(UnsafeCell<bool>);

    // SAFETY: that accesses are ordered is what the model checks: loom ends the execution before one that is not.
    unsafe impl Send for Dropped {}
    // SAFETY: as above.
    unsafe impl Sync for Dropped {}

    impl Dropped {
        fn get(&self) -> bool {
            // SAFETY: as above.
            self.0.with(|dropped| unsafe { *dropped })
        }
    }

    /// An object that says when it is dropped, in memory that stays.
    struct Object(Arc<Dropped>);

    impl Drop for Object {
        fn drop(&mut self) {
            // SAFETY: as above.
            self.0.0.with_mut(|dropped| unsafe { *dropped = true });
        }
    }

    fn look(domain: &Domain, place: &Place<Object>, cpu: usize) {
        let guard = domain.enter(cpu).expect("there is such a CPU");
        if let Some(object) = place.get(&guard) {
            assert!(!object.0.get(), "dropped under a guard");
        }
    }

    #[test]
    fn nothing_is_dropped_under_a_writer() {
        loom::model(|| {
            let domain = Arc::new(Domain::new(2));
            let place = Arc::new(Place::empty());
            let dropped = Arc::new(Dropped(UnsafeCell::new(false)));
            place.put(Some(Arc::new(Object(dropped.clone()))), &domain);
            for cpu in 0..2 {
                look(&domain, &place, cpu);
            }
            let writers: alloc::vec::Vec<_> = (0..2)
                .map(|cpu| {
                    let (domain, place) = (domain.clone(), place.clone());
                    loom::thread::spawn(move || look(&domain, &place, cpu))
                })
                .collect();
            place.put(None, &domain);
            for writer in writers {
                writer.join().expect("no panic");
            }
            domain.collect();
            assert!(dropped.get(), "what waits is freed later");
        });
    }

    /// A look at a count does not miss the slow path that was begun before it. The remover is not the thread that made the counts:
    /// that one, loom lets see no older value once it has yielded.
    #[test]
    fn a_slow_path_that_has_begun_is_counted() {
        loom::model(|| {
            let domain = Arc::new(Domain::new(1));
            let place = Arc::new(Place::empty());
            let dropped = Arc::new(Dropped(UnsafeCell::new(false)));
            place.put(Some(Arc::new(Object(dropped.clone()))), &domain);
            look(&domain, &place, 0);
            let remover = {
                let (domain, place) = (domain.clone(), place.clone());
                loom::thread::spawn(move || place.put(None, &domain))
            };
            look(&domain, &place, 0);
            remover.join().expect("no panic");
            domain.collect();
            assert!(dropped.get(), "what waits is freed later");
        });
    }
}
