//! The declaration macro.

/// Declares events. For each one: a function of its name that records it if it is enabled, and a module of its name with
///
/// - `DESC`, the static [`EventDesc`](crate::event::EventDesc),
/// - `enabled()`; where arguments cost something to compute, use [`event!`](crate::event!),
/// - `at(cycles, ...)`, which records it at a past time, given as raw TSC cycles.
///
/// `ALL` lists the descriptions. `tracer` names a function without arguments that returns
/// `Option<&'static Tracer<P>>`, by an absolute path (`crate::...`). Fields are `bool`, integers, arrays of integers,
/// `str` (a string of up to 1024 bytes), `[char; N]` (a string in `N` bytes), and `[T]` for integers `T` (a slice of up to 1024 bytes);
/// and by the names that C has for them `pid_t` and `long` (given as `i32` and `i64`), `c_u32` (`u32` in C, too: what is `u32` here is
/// C's `unsigned int`), `ulong`, `size_t`, `ptr` and `const_ptr`
/// (`u64`; the last two are `void *` and `const void *`), and `[ulong; N]` (`[u64; N]`); and for the arguments of a system call
/// `(arg UInt)` and its like ([`arg`](crate::event::arg)).
/// A name for a value is printed instead of it where the argument carries a table: `status { 0 => "good" }`; names for its
/// bits, joined by `|`, where it carries one of those: `mode | { 1 => "READ", 2 => "WRITE" }`, with what to print for none of them
/// behind it: `else "R"`. An argument can be an element of an array, `args[0]`; a difference, `expires - now`; a part of the bits,
/// `flags & 0xff` or `flags >> 22`; an address made of a number, `pfn << 12 | 0x1000`; and a choice, `state & 0x100 ? "+" : ""`. An `i8` is printed by `%hhd` and an
/// `i16` by `%hd`: libtraceevent shows them unsigned with `%d`.
///
/// ```
/// # mod tracing { pub fn tracer() -> Option<&'static trace::Tracer<trace::testing::TestPlatform>> { None } }
/// trace::define_events! {
///     tracer = crate::tracing::tracer;
///
///     /// A handler of a device's interrupt is called.
///     event irq:irq_handler_entry(irq: i32, name: str) {
///         print("irq=%d name=%s", irq, name)
///     }
///
///     /// A console command is run.
///     event console:console_command(status: u32, line: str) {
///         print("status=%s line=%s", status { 0 => "good", 1 => "bad" }, line)
///     }
/// }
/// # fn main() {
/// irq_handler_entry(4, "uart");
/// assert_eq!(ALL.len(), 2);
/// # }
/// ```
#[macro_export]
macro_rules! define_events {
    (
        tracer = $tracer:path;
        $(
            $(#[$meta:meta])*
            event $system:ident : $name:ident ( $($field:ident : $ty:tt),* $(,)? ) {
                print($format:literal $(, $arg:ident $([$index:literal])? $(- $minus:ident)? $(& $mask:literal)? $(>> $shift:literal)? $(<< $left:literal)? $(| $with:literal)? $(? $yes:literal : $no:literal)? $({ $($value:literal => $symbol:literal),* $(,)? })? $(| { $($bit:literal => $flag:literal),* $(,)? } $(else $none:literal)?)?)* $(,)?)
            }
        )*
    ) => {
        $(
            $(#[$meta])*
            pub mod $name {
                const FIELDS: &[$crate::event::FieldDesc] = &$crate::event::__private::layout([
                    $($crate::event::__private::named::<$crate::__field_type!($ty)>(stringify!($field))),*
                ]);

                const SIZE: usize = $crate::event::__private::end(FIELDS);

                /// The event's description.
                pub static DESC: $crate::event::EventDesc = $crate::event::EventDesc::new(
                    stringify!($system),
                    stringify!($name),
                    FIELDS,
                    $crate::event::Print {
                        format: $format,
                        args: &[$($crate::event::Arg {
                            $(index: Some($index),)?
                            $(minus: Some(stringify!($minus)),)?
                            $(mask: Some($mask),)?
                            $(shift: Some($shift),)?
                            $(left: Some($left),)?
                            $(with: Some($with),)?
                            $(choice: Some(($yes, $no)),)?
                            $($(none: Some($none),)?)?
                            symbols: &[$($(($value, $symbol)),*)?],
                            flags: &[$($(($bit, $flag)),*)?],
                            ..$crate::event::Arg::new(stringify!($arg))
                        }),*],
                    },
                );

                /// Whether the event is recorded.
                #[inline(always)]
                pub fn enabled() -> bool {
                    DESC.enabled()
                }

                /// Records the event, if it is enabled, at a time that is past, in TSC cycles.
                #[allow(clippy::too_many_arguments)]
                pub fn at(cycles: u64, $($field: $crate::__field_arg!($ty)),*) {
                    if DESC.enabled() {
                        record(Some(cycles), $($field),*);
                    }
                }

                #[doc(hidden)]
                #[cold]
                #[inline(never)]
                #[allow(clippy::too_many_arguments)]
                pub fn record(cycles: Option<u64>, $($field: $crate::__field_arg!($ty)),*) {
                    let Some(tracer) = $tracer() else { return };
                    let dynamic = 0 $(
                        + <$crate::__field_type!($ty) as $crate::event::Field>::dynamic($field)
                    )*;
                    tracer.record(&DESC, cycles, SIZE, dynamic, |_record| {
                        $(<$crate::__field_type!($ty) as $crate::event::Field>::put(
                            $field,
                            const { $crate::event::__private::offset_of(FIELDS, stringify!($field)) },
                            _record,
                        );)*
                    });
                }
            }

            $(#[$meta])*
            #[inline(always)]
            #[allow(clippy::too_many_arguments)]
            pub fn $name($($field: $crate::__field_arg!($ty)),*) {
                if $name::DESC.enabled() {
                    $name::record(None, $($field),*);
                }
            }
        )*

        /// All events that are declared here.
        pub static ALL: &[&$crate::event::EventDesc] = &[$(&$name::DESC),*];
    };
}

/// Records an event of [`define_events!`](crate::define_events), as its function does, but evaluates the arguments only if
/// the event is enabled: what a function is given is computed before the call, whether it is used or not.
///
/// ```
/// # mod tracing { pub fn tracer() -> Option<&'static trace::Tracer<trace::testing::TestPlatform>> { None } }
/// mod events {
///     trace::define_events! {
///         tracer = crate::tracing::tracer;
///
///         /// A file is closed.
///         event vfs:close(inode: u64, name: str) {
///             print("inode=%lu name=%s", inode, name)
///         }
///     }
/// }
/// # fn main() {
/// trace::event!(events::close(7, &format!("{}/{}", "tmp", panic!("it is disabled"))));
/// # }
/// ```
#[macro_export]
macro_rules! event {
    ($($path:ident)::+ ($($arg:expr),* $(,)?)) => {
        if $($path)::+::enabled() {
            $($path)::+::record(::core::option::Option::None, $($arg),*);
        }
    };
}

/// The type that stands for a field's declared type.
#[doc(hidden)]
#[macro_export]
macro_rules! __field_type {
    (str) => { $crate::event::Str };
    ([$t:ident]) => { $crate::event::List<$t> };
    ([char; $n:literal]) => { $crate::event::Chars<$n> };
    ([ulong; $n:literal]) => { $crate::event::ULongs<$n> };
    (c_u32) => { $crate::event::U32 };
    (pid_t) => { $crate::event::Pid };
    (long) => { $crate::event::Long };
    (ulong) => { $crate::event::ULong };
    (size_t) => { $crate::event::Size };
    (ptr) => { $crate::event::Pointer };
    (const_ptr) => { $crate::event::ConstPointer };
    ((arg $kind:ident)) => { $crate::event::arg::$kind };
    ($t:tt) => { $t };
}

/// What the recording function takes for a field of the declared type.
#[doc(hidden)]
#[macro_export]
macro_rules! __field_arg {
    (str) => {
        &str
    };
    ([char; $n:literal]) => {
        &str
    };
    ([$t:ident]) => {
        &[$t]
    };
    ([ulong; $n:literal]) => {
        [u64; $n]
    };
    (c_u32) => {
        u32
    };
    (pid_t) => {
        i32
    };
    (long) => {
        i64
    };
    (ulong) => {
        u64
    };
    (size_t) => {
        u64
    };
    (ptr) => {
        u64
    };
    (const_ptr) => {
        u64
    };
    ((arg $kind:ident)) => {
        u64
    };
    ($t:tt) => {
        $t
    };
}
