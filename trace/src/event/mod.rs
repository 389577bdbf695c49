//! Events: declared once, recorded, described to user space, printed.
//!
//! [`define_events!`](crate::define_events) makes from a declaration a static [`EventDesc`] and the function that records.
//! A record is laid out as a C struct, as Linux's `TRACE_EVENT` does it:
//!
//! ```text
//! u16 common_type | u8 common_flags | u8 common_preempt_count | i32 common_pid | the fields, each aligned to its size
//! ```
//!
//! A string field is a `__data_loc char[]`: a u32 with the string's offset in the record (low 16 bits) and its
//! length with the final NUL (high 16 bits); the strings stand after the last field.

mod call;
pub mod complaint;
mod field;
pub mod filter;
mod foreign;
mod format;
pub mod hist;
mod macros;
mod own;
mod plain;
mod printed;
mod record;
mod table;
pub mod trigger;

pub(crate) use call::{write_call, write_declared_call};
pub use field::{
    Chars, ConstPointer, Field, FieldDesc, FieldProto, Kind, List, Long, Pid, Pointer, Size, Str,
    U32, ULong, ULongs, arg,
};
pub(crate) use foreign::{ReadPrint, write_foreign};
pub(crate) use format::{
    View, write_function_format, write_hwlat_format, write_marker_format, write_raw_marker_format,
    write_saved_format, write_stack_format,
};
pub use format::{write_format, write_print_format};
pub(crate) use own::{STACK_AT, write_own};
pub(crate) use plain::{write_fields, write_hwlat, write_unknown};
pub(crate) use printed::{NoSymbols, Payload, Symbols, write_bytes, write_known};
pub use record::Record;
pub(crate) use record::level_of;
pub use table::{FIRST_ID, SavedEvent, SavedField};
pub(crate) use table::{Known, Table};

use crate::sync::fixed::{AtomicU16, AtomicU64, Ordering};

/// What the macro's code needs.
#[doc(hidden)]
pub mod __private {
    pub use super::field::{end, layout, named, offset_of};
}

/// Bytes of the fields that every record begins with.
pub const COMMON_SIZE: usize = 8;
/// The number of `ftrace:function`, what a tracer of latencies records of its own.
pub const FUNCTION_ID: u16 = 1;
/// The number of `ftrace:kernel_stack`, what the trigger `stacktrace` records.
pub const STACK_ID: u16 = 4;
/// The number of `ftrace:print`, the events of `trace_marker`.
pub const PRINT_ID: u16 = 5;
/// The number of `ftrace:hwlat`, what the tracer of that name records.
pub const HWLAT_ID: u16 = 15;
/// Bytes of its record: Linux's `struct hwlat_entry`.
pub(crate) const HWLAT_SIZE: usize = 64;
/// The number of the event of `trace_marker_raw`: `TRACE_RAW_DATA` of Linux before 6.12, which put another before it.
pub const RAW_DATA_ID: u16 = 18;
/// Bytes of the longest string that an event holds, without its NUL; the rest is cut off.
pub const MAX_STRING: usize = 1024;

/// `ftrace:print` as what its triggers are put to. No table has it, and its masks are not used: it is always recorded.
pub(crate) static PRINT: EventDesc = EventDesc::new(
    "ftrace",
    "print",
    &filter::PRINT_FIELDS,
    Print {
        format: "%s",
        args: &[Arg::new("buf")],
    },
);

/// The common fields of a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Common {
    /// The event's number.
    pub id: u16,
    /// Bits as in Linux's `enum trace_flag_type`, see `FLAG_...` in [`flags`].
    pub flags: u8,
    /// Preemption depth in the low 4 bits, migration depth in the high 4.
    pub preempt_count: u8,
    /// The task.
    pub pid: i32,
}

/// The bits of `common_flags`: Linux's `enum trace_flag_type`.
pub mod flags {
    /// Interrupts were off.
    pub const IRQS_OFF: u8 = 0x01;
    /// The task was to be rescheduled.
    pub const NEED_RESCHED: u8 = 0x04;
    /// In a hardware interrupt.
    pub const HARDIRQ: u8 = 0x08;
    /// In a soft interrupt.
    pub const SOFTIRQ: u8 = 0x10;
    /// Preemption was to reschedule.
    pub const PREEMPT_RESCHED: u8 = 0x20;
    /// In a non-maskable interrupt.
    pub const NMI: u8 = 0x40;
    /// Soft interrupts were off.
    pub const BH_OFF: u8 = 0x80;
}

impl Common {
    /// The common fields of a record's payload; `None` if it is too short.
    pub fn parse(payload: &[u8]) -> Option<Common> {
        let bytes = payload.first_chunk::<COMMON_SIZE>()?;
        let [t0, t1, flags, preempt_count, p0, p1, p2, p3] = *bytes;
        Some(Common {
            id: u16::from_ne_bytes([t0, t1]),
            flags,
            preempt_count,
            pid: i32::from_ne_bytes([p0, p1, p2, p3]),
        })
    }

    /// As they stand in a record.
    pub fn encode(self) -> [u8; COMMON_SIZE] {
        let [t0, t1] = self.id.to_ne_bytes();
        let [p0, p1, p2, p3] = self.pid.to_ne_bytes();
        [t0, t1, self.flags, self.preempt_count, p0, p1, p2, p3]
    }
}

/// How an event is printed: a format string as C's, and the fields that it prints.
#[derive(Clone, Copy, Debug)]
pub struct Print {
    /// `%d`, `%u`, `%x`, `%s`, `%c`, `%p` ... with flags, width, precision and length.
    pub format: &'static str,
    /// One for each conversion.
    pub args: &'static [Arg],
}

/// An argument of [`Print`]: a field, what is done to its value first (in this order), and how it is shown.
#[derive(Clone, Copy, Debug)]
pub struct Arg {
    /// The field's name.
    pub field: &'static str,
    /// Of an array, the element.
    pub index: Option<usize>,
    /// The field whose value is subtracted.
    pub minus: Option<&'static str>,
    /// The bits that count.
    pub mask: Option<u64>,
    /// Bits by which it is shifted right.
    pub shift: Option<u32>,
    /// Bits by which it is shifted left.
    pub left: Option<u32>,
    /// The bits that are set in it.
    pub with: Option<u64>,
    /// What is printed where the value is not 0, and where it is.
    pub choice: Option<(&'static str, &'static str)>,
    /// What is printed in place of names of bits where there is no bit.
    pub none: Option<&'static str>,
    /// Names for values, printed instead (`__print_symbolic`); a value that has none is printed as hex.
    pub symbols: &'static [(u64, &'static str)],
    /// Names for bits, printed instead and joined by `|` (`__print_flags`); bits that have none are printed as hex.
    pub flags: &'static [(u64, &'static str)],
}

impl Arg {
    /// The plain value of a field.
    pub const fn new(field: &'static str) -> Self {
        Arg {
            field,
            index: None,
            minus: None,
            mask: None,
            shift: None,
            left: None,
            with: None,
            choice: None,
            none: None,
            symbols: &[],
            flags: &[],
        }
    }
}

/// An event's declaration, with its state in this kernel.
#[derive(Debug)]
pub struct EventDesc {
    /// The group it belongs to.
    pub system: &'static str,
    /// Its name.
    pub name: &'static str,
    /// Its own fields, in order.
    pub fields: &'static [FieldDesc],
    /// How it is printed.
    pub print: Print,
    /// Bytes of a record without the strings.
    pub size: usize,
    /// Of the layout: differs where a record of the one would be misread as one of the other.
    pub fingerprint: u64,
    id: AtomicU16,
    /// Its place among the declared events.
    index: AtomicU16,
    /// A bit for each instance slot in which something is to be done when the event happens.
    wanted: AtomicU64,
    /// A bit for each instance slot in which it is recorded.
    on: AtomicU64,
    /// A bit for each instance slot in which a filter or a trigger wants to see it first.
    special: AtomicU64,
    /// A bit for each instance slot in which a trigger sees it though it is not recorded.
    soft: AtomicU64,
}

impl EventDesc {
    /// A declaration. Evaluated at compile time by the macro, where a wrong one does not compile.
    ///
    /// # Panics
    ///
    /// If `print` names a field that is not there.
    pub const fn new(
        system: &'static str,
        name: &'static str,
        fields: &'static [FieldDesc],
        print: Print,
    ) -> Self {
        field::check_print(fields, &print);
        EventDesc {
            system,
            name,
            fields,
            print,
            size: field::end(fields),
            fingerprint: field::fingerprint(system, name, fields),
            id: AtomicU16::new(0),
            index: AtomicU16::new(0),
            wanted: AtomicU64::new(0),
            on: AtomicU64::new(0),
            special: AtomicU64::new(0),
            soft: AtomicU64::new(0),
        }
    }

    /// Whether anything is to be done when it happens, in any instance: one relaxed load.
    #[inline(always)]
    pub fn enabled(&self) -> bool {
        self.wanted.load(Ordering::Relaxed) != 0
    }

    /// Switches its recording in the top instance on or off.
    pub fn set_enabled(&self, on: bool) {
        self.set_enabled_in(0, on);
    }

    /// Whether it is recorded in the instance of slot `slot`.
    pub(crate) fn enabled_in(&self, slot: u8) -> bool {
        self.on.load(Ordering::Relaxed) & bit(slot) != 0
    }

    /// Switches its recording in the instance of slot `slot` on or off.
    pub(crate) fn set_enabled_in(&self, slot: u8, on: bool) {
        set_bit(&self.on, slot, on);
        // What triggers want to see stays wanted.
        if on || self.soft.load(Ordering::Relaxed) & bit(slot) == 0 {
            set_bit(&self.wanted, slot, on);
        }
    }

    /// Whether the top instance alone wants it, and has neither a filter nor a trigger for it.
    #[inline(always)]
    pub(crate) fn is_plain(&self) -> bool {
        self.wanted.load(Ordering::Relaxed) == 1 && self.special.load(Ordering::Relaxed) == 0
    }

    /// The slots in which something is to be done.
    pub(crate) fn wanted(&self) -> u64 {
        self.wanted.load(Ordering::Relaxed)
    }

    /// Says whether there is a filter or a trigger in the instance of slot `slot`; `soft` if it is a trigger, which sees the event
    /// though it is off. Called under the instance's lock.
    pub(crate) fn set_special(&self, slot: u8, special: bool, soft: bool) {
        set_bit(&self.special, slot, special);
        set_bit(&self.soft, slot, soft);
        set_bit(&self.wanted, slot, soft || self.enabled_in(slot));
    }

    /// Forgets the choices of one instance.
    pub(crate) fn clear_slot(&self, slot: u8) {
        for mask in [&self.wanted, &self.on, &self.special, &self.soft] {
            set_bit(mask, slot, false);
        }
    }

    /// Forgets the choices of all instances.
    pub(crate) fn clear_masks(&self) {
        for mask in [&self.wanted, &self.on, &self.special, &self.soft] {
            mask.store(0, Ordering::Relaxed);
        }
    }

    /// Its number; 0 as long as no tracer knows it.
    pub fn id(&self) -> u16 {
        self.id.load(Ordering::Relaxed)
    }

    /// Its place among the declared events of the tracer that numbered it last.
    pub(crate) fn index(&self) -> usize {
        usize::from(self.index.load(Ordering::Relaxed))
    }

    pub(crate) fn set_id(&self, id: u16) {
        self.id.store(id, Ordering::Relaxed);
    }

    pub(crate) fn set_index(&self, index: u16) {
        self.index.store(index, Ordering::Relaxed);
    }
}

fn bit(slot: u8) -> u64 {
    1 << (slot & 63)
}

fn set_bit(mask: &AtomicU64, slot: u8, on: bool) {
    if on {
        mask.fetch_or(bit(slot), Ordering::Relaxed);
    } else {
        mask.fetch_and(!bit(slot), Ordering::Relaxed);
    }
}
