//! Writing one record into its reservation.

use super::{COMMON_SIZE, Common, flags};
use crate::platform::{Context, Platform};
use crate::ring::{Level, Reservation};

/// A record that is being written: where it stays, or where it is looked at first.
pub struct Record<'r, 'b, P: Platform> {
    to: Target<'r, 'b, P>,
    /// Where the next string goes.
    dynamic: usize,
}

enum Target<'r, 'b, P: Platform> {
    Ring(&'r mut Reservation<'b, P>),
    Scratch(&'r mut [u8]),
}

impl<'r, 'b, P: Platform> Record<'r, 'b, P> {
    /// Begins a record of event `id` whose fixed fields end at `size`.
    #[inline(always)]
    pub(crate) fn begin(
        reservation: &'r mut Reservation<'b, P>,
        id: u16,
        size: usize,
        context: &Context,
    ) -> Self {
        Self::with(Target::Ring(reservation), id, size, context)
    }

    /// As [`begin`](Self::begin), in memory that holds the whole record.
    #[inline(always)]
    pub(crate) fn begin_in(bytes: &'r mut [u8], id: u16, size: usize, context: &Context) -> Self {
        Self::with(Target::Scratch(bytes), id, size, context)
    }

    #[inline(always)]
    fn with(to: Target<'r, 'b, P>, id: u16, size: usize, context: &Context) -> Self {
        let common = Common {
            id,
            flags: flags_of(context),
            preempt_count: context.preempt_count,
            pid: context.pid,
        };
        let mut record = Record {
            to,
            dynamic: size.max(COMMON_SIZE),
        };
        record.put(0, &common.encode());
        record
    }

    /// Writes `bytes` at `offset` of the record. What lies beyond its end is left out.
    #[inline(always)]
    pub fn put(&mut self, offset: usize, bytes: &[u8]) {
        match &mut self.to {
            Target::Ring(reservation) => reservation.write(offset, bytes),
            Target::Scratch(record) => {
                if let Some(to) = record.get_mut(offset..offset + bytes.len()) {
                    to.copy_from_slice(bytes);
                }
            }
        }
    }

    /// Puts a string after what stands there already, and its place into the `__data_loc` field at `offset`.
    pub(super) fn put_dynamic(&mut self, offset: usize, text: &[u8]) {
        let at = self.begin_dynamic(offset, text.len() + 1);
        self.put(at, text);
        self.put(at + text.len(), &[0]);
    }

    /// Takes `len` bytes after what stands there already, and puts their place into the `__data_loc` field at `offset`;
    /// returns it.
    pub(super) fn begin_dynamic(&mut self, offset: usize, len: usize) -> usize {
        let at = self.dynamic;
        self.put(
            offset,
            &((at as u32 & 0xffff) | ((len as u32) << 16)).to_ne_bytes(),
        );
        self.dynamic = at + len;
        at
    }
}

impl<P: Platform> core::fmt::Debug for Record<'_, '_, P> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Record").finish_non_exhaustive()
    }
}

#[inline(always)]
fn flags_of(context: &Context) -> u8 {
    let mut bits = 0;
    for (set, flag) in [
        (context.irqs_off, flags::IRQS_OFF),
        (
            context.need_resched,
            flags::NEED_RESCHED | flags::PREEMPT_RESCHED,
        ),
        (context.in_hardirq, flags::HARDIRQ),
        (context.in_softirq, flags::SOFTIRQ),
        (context.in_nmi, flags::NMI),
    ] {
        if set {
            bits |= flag;
        }
    }
    bits
}

/// The ring's context for what the CPU does.
#[inline(always)]
pub(crate) fn level_of(context: &Context) -> Level {
    if context.in_nmi {
        Level::Nmi
    } else if context.in_hardirq {
        Level::Irq
    } else if context.in_softirq {
        Level::SoftIrq
    } else {
        Level::Task
    }
}
