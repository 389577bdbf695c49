//! The arguments of a program.

/// The arguments, the program's own name first.
#[derive(Clone, Copy, Debug)]
pub struct Args {
    /// The stack as the kernel made it: argc, then pointers to texts that end in a zero byte.
    stack: *const u64,
}

/// Arguments from the stack pointer that the program started with.
///
/// # Safety
/// It is that.
#[doc(hidden)]
pub unsafe fn __start(stack: *const u64) -> Args {
    Args { stack }
}

impl Args {
    /// How many there are, at least 1.
    pub fn len(self) -> usize {
        // SAFETY: the kernel puts argc there, and the program's stack lasts as long as the program.
        unsafe { *self.stack as usize }
    }

    /// Whether there is none: never, where the kernel started the program.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// One of them, as its bytes are: they need not be UTF-8.
    pub fn bytes(self, n: usize) -> Option<&'static [u8]> {
        if n >= self.len() {
            return None;
        }
        // SAFETY: argv has argc pointers to texts that end in a zero byte; nothing changes them.
        unsafe {
            let text = *self.stack.add(1 + n) as *const core::ffi::c_char;
            Some(core::ffi::CStr::from_ptr(text).to_bytes())
        }
    }

    /// One of them as text; `None` where there is none or it is not UTF-8.
    pub fn get(self, n: usize) -> Option<&'static str> {
        core::str::from_utf8(self.bytes(n)?).ok()
    }

    /// All but the program's name, as texts.
    pub fn rest(self) -> impl Iterator<Item = &'static str> {
        (1..self.len()).filter_map(move |n| self.get(n))
    }
}
