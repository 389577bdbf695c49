//! Instances whose buffers live in the region that outlives a reset ([`crate::ramtrace`]): the option `persist`.
//!
//! Such an instance has no snapshot, as in Linux an instance in reserved memory has none: the pages of a snapshot would change places with
//! those in the region.

use super::Tracer;
use super::instance::{Cpu, Instance};
use super::map::none_mapped;
use super::state::TracerState;
use crate::error::TraceError;
use crate::options::TraceOption;
use crate::platform::Platform;
use crate::ramtrace;
use crate::ring::{Home, lodging, room_in_region};
use crate::sync::Ordering;
use alloc::vec::Vec;
use handover::state::{STREAM_OVERHEAD, StreamWriter, encoded_size};

/// The number of an instance that has none in the region.
pub(super) const NONE: u8 = u8::MAX;

impl<P: Platform> Instance<P> {
    /// Whether its buffers live in the region.
    pub fn is_persistent(&self) -> bool {
        self.lodging.load(Ordering::Relaxed) != NONE
    }

    /// Something is otherwise that the region tells of this instance.
    pub(super) fn region_changed(&self) {
        if self.is_persistent() {
            self.platform.ramtrace_changed();
        }
    }

    /// What adoption found: the number of its buffers in the region, if they are there.
    pub(super) fn find_lodging(&self) {
        let home = self.cpus.first().and_then(|cpu| cpu.buffer.home());
        let number = home.map_or(NONE, |home| home.buffer());
        self.lodging.store(number, Ordering::Relaxed);
        if number != NONE {
            self.shared.persistent.store(true, Ordering::Relaxed);
        }
        self.set_option(TraceOption::Persist, number != NONE);
    }

    fn relocate(&self, to: impl Fn(usize) -> Home) -> Result<(), TraceError> {
        for (index, cpu) in self.cpus.iter().enumerate() {
            let from = cpu.buffer.home();
            if let Err(why) = cpu.buffer.relocate(index, to(index)) {
                for (index, cpu) in self.cpus[..index].iter().enumerate() {
                    // Where there is no room to go back to, it stays where it is: each ring knows.
                    let _ = cpu.buffer.relocate(
                        index,
                        from.and_then(|from| lodging(&self.platform, index, from.buffer())),
                    );
                }
                return Err(why);
            }
        }
        Ok(())
    }
}

impl<P: Platform> Tracer<P> {
    /// Moves the running buffers of `instance` into the region, or back to ordinary memory, with all that is in them, and without losing
    /// an event.
    ///
    /// # Errors
    ///
    /// [`TraceError::NoRegion`], [`TraceError::RegionFull`], [`TraceError::HasSnapshot`], [`TraceError::NoMemory`], [`TraceError::Mapped`],
    /// [`TraceError::Busy`]; then nothing has changed.
    pub fn set_persistent(&self, instance: &Instance<P>, on: bool) -> Result<(), TraceError> {
        if instance.is_persistent() == on {
            return Ok(());
        }
        let number = match on {
            true => Some(self.free_number(instance)?),
            false => None,
        };
        if let Some(number) = number {
            // All CPUs' before the first one's: no old life is given up for what is refused then.
            let pages = |cpu: &Cpu<P>| (cpu.buffer.pages() as u64 + 1) << cpu.buffer.order();
            room_in_region(&self.platform, instance.cpus.iter().map(pages).sum())?;
            // Whatever is found of its events can be read, then.
            self.save_region(Some((instance, number)))?;
        }
        let moved = self.move_instance(instance, number);
        // Also of one that has not moved: the region was told that it would.
        if self.save_region(None).is_err() {
            self.platform.ramtrace_changed();
        }
        moved
    }

    /// To the region, under a number, or to ordinary memory.
    fn move_instance(&self, instance: &Instance<P>, number: Option<u8>) -> Result<(), TraceError> {
        let on = number.is_some();
        let _control = instance.control.lock();
        if instance.is_persistent() == on {
            return Ok(());
        }
        none_mapped(&instance.cpus)?;
        if on && (instance.snapshot_allocated() || instance.keeps_max()) {
            return Err(TraceError::HasSnapshot);
        }
        instance.relocate(|cpu| lodging(&self.platform, cpu, number?))?;
        let number = number.unwrap_or(NONE);
        instance.lodging.store(number, Ordering::Relaxed);
        instance.set_option(TraceOption::Persist, on);
        Ok(())
    }

    /// Says in the region which buffers are there now, and keeps with them what is needed to read them. For the platform, some time after
    /// [`Platform::ramtrace_changed`]; in a task.
    ///
    /// # Errors
    ///
    /// [`TraceError::NoRegion`], [`TraceError::RegionFull`], [`TraceError::NoMemory`], [`TraceError::Busy`]; then the region says what it said
    /// before.
    pub fn save_to_region(&self) -> Result<(), TraceError> {
        self.save_region(None)
    }

    /// With an instance that is about to come.
    fn save_region(&self, coming: Option<(&Instance<P>, u8)>) -> Result<(), TraceError> {
        let region = self.platform.ramtrace().ok_or(TraceError::NoRegion)?;
        let buffers = self.region_buffers(coming);
        self.shared
            .persistent
            .store(!buffers.is_empty(), Ordering::Relaxed);
        let state = self.region_state(&buffers)?;
        let mut bytes = Vec::new();
        let room = encoded_size(&state) + STREAM_OVERHEAD;
        bytes
            .try_reserve_exact(room)
            .map_err(|_| TraceError::NoMemory)?;
        bytes.resize(room, 0);
        let mut out = StreamWriter::new(&mut bytes);
        let written = out.put(0, &state).and_then(|()| out.finish());
        // A name was taken down since it was measured: once more would do, and soon will.
        let written = written.map_err(|_| TraceError::Busy)?;
        region
            .save_state(&bytes[..written])
            .and_then(|()| {
                region.update(|life| {
                    life.clock = self.clock().name().into();
                    life.tracer = self.tracer_of(&self.top).into();
                    life.buffers = buffers;
                })
            })
            .map_err(|_| TraceError::RegionFull)
    }

    /// A number that no instance's buffers have in the region.
    fn free_number(&self, instance: &Instance<P>) -> Result<u8, TraceError> {
        if lodging(&self.platform, 0, 0).is_none() {
            return Err(TraceError::NoRegion);
        }
        let mut taken = [false; NONE as usize];
        self.for_each_instance(|other| {
            if let Some(taken) = taken.get_mut(usize::from(other.lodging.load(Ordering::Relaxed))) {
                *taken = true;
            }
        });
        let own = usize::from(instance.slot);
        let free = |number: &usize| !taken[*number];
        let number = Some(own)
            .filter(free)
            .or_else(|| (1..taken.len()).find(free));
        number
            .map(|number| number as u8)
            .ok_or(TraceError::RegionFull)
    }

    /// Whether some instance's buffers may be in the region: whether there is anything for [`seal`](Self::seal).
    pub fn any_persistent(&self) -> bool {
        self.shared.persistent.load(Ordering::Relaxed)
    }

    /// Seals what the running CPU has recorded in the region since it was last called, in at most `most` pages of each buffer, with interrupts
    /// off for one at a time. Returns how many there were. For ticks and idle tasks; from any context.
    #[cfg(not(feature = "loom"))]
    pub fn seal(&self, most: usize) -> usize {
        if !self.any_persistent() {
            return 0;
        }
        let cpu = self.platform.cpu();
        let seal = |instance: &Instance<P>| match instance.cpus.get(cpu) {
            Some(cpu) if instance.is_persistent() => {
                (0..most).take_while(|_| cpu.buffer.seal(1) > 0).count()
            }
            _ => 0,
        };
        let sealed = seal(&self.top);
        // Who changes the list has it for a moment: the next call seals more.
        match self.named.try_lock() {
            Some(named) => named.iter().map(|instance| seal(instance)).sum::<usize>() + sealed,
            None => sealed,
        }
    }

    /// The buffers in the region, for its metadata.
    fn region_buffers(&self, coming: Option<(&Instance<P>, u8)>) -> Vec<ramtrace::Buffer> {
        let mut buffers = Vec::new();
        self.for_each_instance(|instance| {
            let number = match coming {
                Some((coming, number)) if core::ptr::eq(coming, instance) => number,
                _ => instance.lodging.load(Ordering::Relaxed),
            };
            if number != NONE {
                buffers.push(ramtrace::Buffer {
                    number,
                    name: instance.name().into(),
                    pages: (instance.cpus.iter())
                        .map(|cpu| (cpu.buffer.pages() as u32 + 1) << cpu.buffer.order())
                        .collect(),
                });
            }
        });
        buffers
    }

    /// The tracer's state as the region keeps it, for who reads it after a reset: without any page, and with those instances alone that
    /// live in the region.
    fn region_state(&self, buffers: &[ramtrace::Buffer]) -> Result<TracerState, TraceError> {
        let mut state = self.state_with(false)?;
        let kept = |name: &str| buffers.iter().any(|buffer| buffer.name == name);
        state.instances.retain(|saved| kept(&saved.name));
        // Filters and triggers say nothing of what was recorded.
        state.extra.conditions.clear();
        for instance in &mut state.instances {
            instance.extra.conditions.clear();
        }
        Ok(state)
    }

    /// A number that changes with the names of tasks that were taken down: so that whoever [saves](Self::save_to_region)
    /// them knows that there are new ones.
    pub fn names_fingerprint(&self) -> u64 {
        let names = self
            .shared
            .with_cmdlines(super::cmdlines::Cmdlines::fingerprint);
        names.unwrap_or(0)
    }
}
