//! What the kernel and everything that drives it from outside agree on.
//!
//! Constants only, and nothing of `std`: `boot` takes this very file with `#[path]`, and so depends on none of the kernel.

/// The console's prompt. It stands at the start of a line.
pub const PROMPT: &str = "baton# ";

/// What `boot` sends behind each line of a script (ASCII's file separator): there is no more input for the line's command, which could
/// wait for keys for good. It means nothing to the prompt, and to everybody else what ctrl-d does.
pub const END_OF_INPUT: u8 = 0x1c;

/// How the line starts that every kernel prints before its first prompt:
/// `baton VERSION generation N (cold|kexec|crash) ...`.
pub const BANNER: &str = "baton ";

/// How the line starts that the kernel prints when it panics.
pub const PANIC: &str = "KERNEL PANIC";

/// I/O port of QEMU's `isa-debug-exit` device.
pub const EXIT_PORT: u16 = 0xf4;

/// What a panicking kernel writes to [`EXIT_PORT`]. QEMU then ends with `value << 1 | 1`.
pub const EXIT_PANIC: u8 = 1;

/// I/O port of the serial console, 8250-compatible.
pub const CONSOLE_PORT: u16 = 0x3f8;
