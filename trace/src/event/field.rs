//! The kinds of fields, and the layout of a record.

use super::{COMMON_SIZE, MAX_STRING, Print, Record};
use crate::platform::Platform;

/// What a field's bytes mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An integer.
    Int,
    /// A fixed array of integers, of as many bytes each.
    Array(usize),
    /// A fixed array of characters, NUL-padded.
    Chars,
    /// A `__data_loc` string.
    Str,
    /// A `__data_loc` array of integers, of as many bytes each.
    Dynamic(usize),
    /// Characters up to the end of the record (`ftrace:print` only).
    Rest,
}

/// A field as its type declares it, without a place yet.
#[derive(Clone, Copy, Debug)]
pub struct FieldProto {
    /// Its name.
    pub name: &'static str,
    /// The type as C writes it.
    pub c_type: &'static str,
    /// What stands in brackets after the name.
    pub count: Option<usize>,
    /// Bytes.
    pub size: usize,
    /// Alignment in bytes.
    pub align: usize,
    /// Whether the type is signed.
    pub signed: bool,
    /// What its bytes mean.
    pub kind: Kind,
}

/// A field with its place in the record.
#[derive(Clone, Copy, Debug)]
pub struct FieldDesc {
    /// The field.
    pub proto: FieldProto,
    /// Offset from the start of the record in bytes.
    pub offset: usize,
}

/// A type that a field can have.
pub trait Field {
    /// What the recording function takes.
    type Arg<'a>: Copy;
    /// All but the name.
    const PROTO: FieldProto;

    /// Bytes that the value takes after the fixed fields.
    fn dynamic(arg: Self::Arg<'_>) -> usize {
        let _ = arg;
        0
    }

    /// Writes the value at `offset`.
    fn put<P: Platform>(arg: Self::Arg<'_>, offset: usize, record: &mut Record<'_, '_, P>);
}

/// A field's description with its name.
pub const fn named<F: Field>(name: &'static str) -> FieldProto {
    let mut proto = F::PROTO;
    proto.name = name;
    proto
}

const fn int(c_type: &'static str, size: usize, signed: bool) -> FieldProto {
    FieldProto {
        name: "",
        c_type,
        count: None,
        size,
        align: size,
        signed,
        kind: Kind::Int,
    }
}

/// An array of any number of integers up to [`MAX_STRING`] bytes; written `[T]` in a declaration.
#[derive(Clone, Copy, Debug)]
pub struct List<T>(core::marker::PhantomData<T>);

impl<T> List<T> {
    /// What of it is recorded.
    fn cut(arg: &[T]) -> &[T] {
        &arg[..arg.len().min(MAX_STRING / size_of::<T>().max(1))]
    }
}

macro_rules! int_fields {
    ($($t:ty, $c:literal, $signed:literal;)*) => {$(
        impl Field for $t {
            type Arg<'a> = $t;
            const PROTO: FieldProto = int($c, size_of::<$t>(), $signed);

            #[inline(always)]
            fn put<P: Platform>(arg: $t, offset: usize, record: &mut Record<'_, '_, P>) {
                record.put(offset, &arg.to_ne_bytes());
            }
        }

        impl<const N: usize> Field for [$t; N] {
            type Arg<'a> = [$t; N];
            const PROTO: FieldProto = FieldProto {
                count: Some(N),
                size: N * size_of::<$t>(),
                kind: Kind::Array(size_of::<$t>()),
                ..<$t as Field>::PROTO
            };

            #[inline(always)]
            fn put<P: Platform>(arg: [$t; N], offset: usize, record: &mut Record<'_, '_, P>) {
                for (i, value) in arg.iter().enumerate() {
                    record.put(offset + i * size_of::<$t>(), &value.to_ne_bytes());
                }
            }
        }

        impl Field for List<$t> {
            type Arg<'a> = &'a [$t];
            const PROTO: FieldProto = FieldProto {
                kind: Kind::Dynamic(size_of::<$t>()),
                ..int(concat!("__data_loc ", $c, "[]"), 4, $signed)
            };

            #[inline]
            fn dynamic(arg: &[$t]) -> usize {
                size_of_val(List::<$t>::cut(arg))
            }

            #[inline]
            fn put<P: Platform>(arg: &[$t], offset: usize, record: &mut Record<'_, '_, P>) {
                let arg = List::<$t>::cut(arg);
                let at = record.begin_dynamic(offset, size_of_val(arg));
                for (i, value) in arg.iter().enumerate() {
                    record.put(at + i * size_of::<$t>(), &value.to_ne_bytes());
                }
            }
        }
    )*};
}

int_fields! {
    u8, "unsigned char", false;
    i8, "signed char", true;
    u16, "unsigned short", false;
    i16, "short", true;
    u32, "unsigned int", false;
    i32, "int", true;
    u64, "u64", false;
    i64, "s64", true;
}

macro_rules! c_fields {
    ($($(#[$meta:meta])* $name:ident, $t:ty, $c:literal, $signed:literal;)*) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug)]
        pub enum $name {}

        impl Field for $name {
            type Arg<'a> = $t;
            const PROTO: FieldProto = int($c, size_of::<$t>(), $signed);

            #[inline(always)]
            fn put<P: Platform>(arg: $t, offset: usize, record: &mut Record<'_, '_, P>) {
                record.put(offset, &arg.to_ne_bytes());
            }
        }
    )*};
}

// Integers that C has another name for than ours: tools look at the name.
c_fields! {
    /// Written `c_u32` in a declaration: C's `unsigned int` is the `u32` there.
    U32, u32, "u32", false;
    /// A task's number; written `pid_t` in a declaration.
    Pid, i32, "pid_t", true;
    /// Written `long` in a declaration.
    Long, i64, "long", true;
    /// Written `ulong` in a declaration.
    ULong, u64, "unsigned long", false;
    /// Written `size_t` in a declaration.
    Size, u64, "size_t", false;
    /// An address; written `ptr` in a declaration.
    Pointer, u64, "void *", false;
    /// An address of what is not written to; written `const_ptr` in a declaration.
    ConstPointer, u64, "const void *", false;
}

/// The arguments of system calls, as the `syscalls` events have them: C's type by name, in 8 bytes whatever its size is
/// (`kernel/trace/trace_syscalls.c` of Linux). Written `(arg UInt)` in a declaration, and given as the register's `u64`.
pub mod arg {
    use super::*;

    c_fields! {
        /// `int`.
        Int, u64, "int", false;
        /// `unsigned int`.
        UInt, u64, "unsigned int", false;
        /// `unsigned long`.
        ULong, u64, "unsigned long", false;
        /// `size_t`.
        Size, u64, "size_t", false;
        /// `umode_t`.
        UMode, u64, "umode_t", false;
        /// `pid_t`.
        Pid, u64, "pid_t", false;
        /// `const clockid_t`.
        Clock, u64, "const clockid_t", false;
        /// `char *`.
        Chars, u64, "char *", false;
        /// `const char *`.
        ConstChars, u64, "const char *", false;
        /// `int *`.
        IntPointer, u64, "int *", false;
        /// `unsigned long *`.
        ULongPointer, u64, "unsigned long *", false;
        /// `void *`.
        Pointer, u64, "void *", false;
        /// `struct __kernel_timespec *`.
        TimeSpec, u64, "struct __kernel_timespec *", false;
        /// `struct rusage *`.
        Usage, u64, "struct rusage *", false;
    }
}

/// `N` unsigned longs; written `[ulong; N]` in a declaration.
#[derive(Clone, Copy, Debug)]
pub enum ULongs<const N: usize> {}

impl<const N: usize> Field for ULongs<N> {
    type Arg<'a> = [u64; N];
    const PROTO: FieldProto = FieldProto {
        count: Some(N),
        size: 8 * N,
        kind: Kind::Array(8),
        ..ULong::PROTO
    };

    #[inline(always)]
    fn put<P: Platform>(arg: [u64; N], offset: usize, record: &mut Record<'_, '_, P>) {
        <[u64; N] as Field>::put(arg, offset, record);
    }
}

impl Field for bool {
    type Arg<'a> = bool;
    const PROTO: FieldProto = int("bool", 1, false);

    #[inline(always)]
    fn put<P: Platform>(arg: bool, offset: usize, record: &mut Record<'_, '_, P>) {
        record.put(offset, &[u8::from(arg)]);
    }
}

/// A string of any length up to [`MAX_STRING`]; written `str` in a declaration.
#[derive(Clone, Copy, Debug)]
pub enum Str {}

fn cut(text: &str) -> &[u8] {
    let mut end = text.len().min(MAX_STRING);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text.as_bytes()[..end]
}

impl Field for Str {
    type Arg<'a> = &'a str;
    const PROTO: FieldProto = FieldProto {
        kind: Kind::Str,
        ..int("__data_loc char[]", 4, false)
    };

    #[inline]
    fn dynamic(arg: &str) -> usize {
        cut(arg).len() + 1
    }

    #[inline]
    fn put<P: Platform>(arg: &str, offset: usize, record: &mut Record<'_, '_, P>) {
        record.put_dynamic(offset, cut(arg));
    }
}

/// A string in `N` bytes, cut off there and padded with NULs; written `[char; N]` in a declaration.
#[derive(Clone, Copy, Debug)]
pub enum Chars<const N: usize> {}

impl<const N: usize> Field for Chars<N> {
    type Arg<'a> = &'a str;
    const PROTO: FieldProto = FieldProto {
        count: Some(N),
        size: N,
        kind: Kind::Chars,
        ..int("char", 1, false)
    };

    #[inline]
    fn put<P: Platform>(arg: &str, offset: usize, record: &mut Record<'_, '_, P>) {
        let mut chars = [0; N];
        // The last byte stays NUL.
        let n = arg.len().min(N.saturating_sub(1));
        chars[..n].copy_from_slice(&arg.as_bytes()[..n]);
        record.put(offset, &chars);
    }
}

/// Gives each field its place, as C does.
pub const fn layout<const N: usize>(protos: [FieldProto; N]) -> [FieldDesc; N] {
    let mut fields = [FieldDesc {
        proto: int("", 1, false),
        offset: 0,
    }; N];
    let mut at = COMMON_SIZE;
    let mut i = 0;
    while i < N {
        let proto = protos[i];
        at = at.next_multiple_of(proto.align);
        fields[i] = FieldDesc { proto, offset: at };
        at += proto.size;
        i += 1;
    }
    // `__data_loc` has 16 bits for offset and length; and two of the longest strings fit a page beside the fields.
    assert!(
        at <= 2048,
        "an event's fixed fields take at most 2048 bytes"
    );
    fields
}

/// Where the fixed fields end.
pub const fn end(fields: &[FieldDesc]) -> usize {
    match fields.last() {
        Some(field) => field.offset + field.proto.size,
        None => COMMON_SIZE,
    }
}

const fn same(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len() != b.len() {
        return false;
    }
    let mut i = 0;
    while i < a.len() {
        if a[i] != b[i] {
            return false;
        }
        i += 1;
    }
    true
}

/// The offset of the field `name`.
///
/// # Panics
///
/// If there is none: at compile time, where the macro calls it.
pub const fn offset_of(fields: &[FieldDesc], name: &str) -> usize {
    let mut i = 0;
    while i < fields.len() {
        if same(fields[i].proto.name, name) {
            return fields[i].offset;
        }
        i += 1;
    }
    panic!("the event has no field of this name")
}

pub(super) const fn check_print(fields: &[FieldDesc], print: &Print) {
    let mut i = 0;
    while i < print.args.len() {
        offset_of(fields, print.args[i].field);
        if let Some(minus) = print.args[i].minus {
            offset_of(fields, minus);
        }
        i += 1;
    }
    let text = print.format.as_bytes();
    let mut conversions = 0;
    let mut i = 0;
    while i < text.len() {
        if text[i] == b'%' {
            if i + 1 < text.len() && text[i + 1] == b'%' {
                i += 1;
            } else {
                conversions += 1;
            }
        }
        i += 1;
    }
    assert!(
        conversions == print.args.len(),
        "the print format has as many conversions as arguments"
    );
}

const fn hash(mut h: u64, bytes: &[u8]) -> u64 {
    // FNV-1a.
    let mut i = 0;
    while i < bytes.len() {
        h = (h ^ bytes[i] as u64).wrapping_mul(0x100_0000_01b3);
        i += 1;
    }
    // An end that no text contains, so that ("a", "bc") and ("ab", "c") differ.
    (h ^ 0xff).wrapping_mul(0x100_0000_01b3)
}

pub(super) const fn fingerprint(system: &str, name: &str, fields: &[FieldDesc]) -> u64 {
    let mut h = hash(0xcbf2_9ce4_8422_2325, system.as_bytes());
    h = hash(h, name.as_bytes());
    let mut i = 0;
    while i < fields.len() {
        let f = &fields[i];
        h = hash(h, f.proto.name.as_bytes());
        h = hash(h, f.proto.c_type.as_bytes());
        h = hash(h, &(f.offset as u64).to_le_bytes());
        h = hash(h, &(f.proto.size as u64).to_le_bytes());
        i += 1;
    }
    h
}
