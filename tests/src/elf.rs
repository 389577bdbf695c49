//! Kernel images that are wrong in a chosen way, for `kexec -l` to refuse: the real image with one field
//! changed. Field offsets: the System V ABI's ELF-64 object file format.

/// `e_machine`, a u16.
const MACHINE_AT: usize = 18;
/// `e_phoff`, a u64: where the program headers start.
const PROGRAM_HEADERS_AT: usize = 32;
/// `e_phnum`, a u16.
const PROGRAM_HEADER_COUNT_AT: usize = 56;
const PROGRAM_HEADER_BYTES: usize = 56;
/// `p_memsz` within a program header, a u64.
const MEMSZ_AT: usize = 40;
const PT_LOAD: [u8; 4] = 1u32.to_le_bytes();

/// `e_machine` of AArch64.
pub const AARCH64: u16 = 183;

/// The image, said to be for another machine.
pub fn for_machine(image: &[u8], machine: u16) -> Vec<u8> {
    let mut changed = image.to_vec();
    changed[MACHINE_AT..MACHINE_AT + 2].copy_from_slice(&machine.to_le_bytes());
    changed
}

/// The image, with a last segment that takes `bytes` of memory.
///
/// # Panics
/// Where the image has no loadable segment.
pub fn with_last_segment_of(image: &[u8], bytes: u64) -> Vec<u8> {
    let mut changed = image.to_vec();
    let u64_at = |at: usize| u64::from_le_bytes(image[at..at + 8].try_into().expect("8 bytes"));
    let count = u16::from_le_bytes([
        image[PROGRAM_HEADER_COUNT_AT],
        image[PROGRAM_HEADER_COUNT_AT + 1],
    ]);
    let start = u64_at(PROGRAM_HEADERS_AT) as usize;
    let last = (0..usize::from(count))
        .map(|n| start + n * PROGRAM_HEADER_BYTES)
        .rfind(|&at| image[at..at + 4] == PT_LOAD)
        .expect("a loadable segment");
    changed[last + MEMSZ_AT..last + MEMSZ_AT + 8].copy_from_slice(&bytes.to_le_bytes());
    changed
}
