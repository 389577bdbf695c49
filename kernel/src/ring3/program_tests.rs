use super::*;
use proptest::prelude::*;

const TEXT: u64 = 0x40_1000;

/// A small program: constants, text, data with bss, and the usual note about the stack.
fn program() -> Vec<u8> {
    let mut file = vec![0u8; 0x3000];
    file[..16].copy_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    for (at, v) in [
        (16, 2u16),
        (18, 62),
        (20, 1),
        (52, 64),
        (54, 56),
        (56, 4),
        (58, 64),
    ] {
        file[at..at + 2].copy_from_slice(&v.to_le_bytes());
    }
    put(&mut file, 24, TEXT + 0x10);
    put(&mut file, 32, 64);
    phdr(&mut file, 0, abi::PT_LOAD, 4, [0, 0x40_0000, 0x800, 0x800]);
    phdr(&mut file, 1, abi::PT_LOAD, 5, [0x1000, TEXT, 0x800, 0x800]);
    phdr(
        &mut file,
        2,
        abi::PT_LOAD,
        6,
        [0x2010, 0x40_2010, 0x100, 0x5000],
    );
    phdr(&mut file, 3, abi::PT_GNU_STACK, 6, [0, 0, 0, 0]);
    file
}

fn put(file: &mut [u8], at: usize, v: u64) {
    file[at..at + 8].copy_from_slice(&v.to_le_bytes());
}

/// `numbers`: offset, address, bytes in the file, bytes in memory.
fn phdr(file: &mut [u8], n: usize, kind: u32, flags: u32, numbers: [u64; 4]) {
    let at = 64 + n * 56;
    file[at..at + 4].copy_from_slice(&kind.to_le_bytes());
    file[at + 4..at + 8].copy_from_slice(&flags.to_le_bytes());
    let [offset, vaddr, filesz, memsz] = numbers;
    for (n, v) in [offset, vaddr, vaddr, filesz, memsz, 0x1000]
        .into_iter()
        .enumerate()
    {
        put(file, at + 8 + n * 8, v);
    }
}

fn changed(change: impl FnOnce(&mut Vec<u8>)) -> Result<Program, ProgramError> {
    let mut file = program();
    change(&mut file);
    Program::parse(&file)
}

#[test]
fn a_good_program() {
    let program = Program::parse(&program()).unwrap();
    assert_eq!(program.entry, TEXT + 0x10);
    assert_eq!(program.segments.len(), 3);
    let data = &program.segments[2];
    assert_eq!(data.pages, 0x40_2000..0x40_8000);
    assert_eq!((data.at, data.part.clone()), (0x40_2010, 0x2010..0x2110));
    assert_eq!(data.rights, Rights::READ_WRITE);
    assert_eq!(program.bytes(), 0x1000 + 0x1000 + 0x6000);
}

#[test]
fn each_refusal_names_its_reason() {
    type Change = fn(&mut Vec<u8>);
    let cases: [(Change, &str); 17] = [
        (|f| f.clear(), "the file is empty"),
        (|f| f[0] = b'#', "not an ELF file"),
        (|f| f.truncate(63), "truncated: the ELF header lies beyond"),
        (|f| f[4] = 1, "not a 64-bit little-endian"),
        (|f| f[18] = 183, "for another machine (e_machine 183"),
        (|f| f[16] = 3, "not a static executable (e_type 3"),
        (|f| f.truncate(0x1400), "truncated: a segment lies beyond"),
        (|f| f[56] = 0, "no segment to load"),
        (
            |f| phdr(f, 3, abi::PT_INTERP, 4, [0x100, 0x40_0100, 16, 16]),
            "it needs a dynamic linker",
        ),
        (
            |f| phdr(f, 3, abi::PT_GNU_STACK, 7, [0; 4]),
            "it asks for an executable stack",
        ),
        (
            |f| phdr(f, 2, abi::PT_LOAD, 6, [0x2000, 0x40_1800, 0x100, 0x100]),
            "two segments share the page at 0x401000",
        ),
        (
            |f| phdr(f, 1, abi::PT_LOAD, 7, [0x1000, TEXT, 0x800, 0x800]),
            "the segment at 0x401000 is writable and executable",
        ),
        (
            |f| {
                phdr(
                    f,
                    2,
                    abi::PT_LOAD,
                    6,
                    [0x2000, 0xffff_8000_0000_0000, 0x100, 0x100],
                )
            },
            "a segment of 0x100 bytes at 0xffff800000000000 lies outside the area for programs",
        ),
        (
            |f| phdr(f, 2, abi::PT_LOAD, 6, [0x2000, 0, 0x100, 0x100]),
            "a segment of 0x100 bytes at 0x0 lies outside",
        ),
        (
            |f| phdr(f, 2, abi::PT_LOAD, 6, [0x2000, 0x50_0000, 0x100, u64::MAX]),
            "lies outside the area for programs",
        ),
        (
            |f| phdr(f, 2, abi::PT_LOAD, 6, [0x2000, 0x50_0000, 0x100, 0x80]),
            "malformed ELF file: a segment is larger in the file than in memory",
        ),
        (
            |f| put(f, 24, 0x40_2010),
            "the entry 0x402010 is in no executable segment",
        ),
    ];
    for (change, wanted) in cases {
        let told = changed(change).unwrap_err().to_string();
        assert!(told.contains(wanted), "{told:?} and not {wanted:?}");
        assert!(!told.contains('\n') && !told.ends_with('.'), "{told:?}");
    }
}

#[test]
fn more_segments_than_there_is_room_for() {
    let refused = changed(|file| {
        file[56] = MAX_SEGMENTS as u8 + 1;
        for n in 0..=MAX_SEGMENTS {
            let at = 0x40_0000 + n as u64 * 0x1000;
            phdr(file, n, abi::PT_LOAD, 4, [0x2000, at, 0x10, 0x10]);
        }
    });
    assert_eq!(refused, Err(ProgramError::TooManySegments));
}

proptest! {
    /// Whatever the bytes are: no panic, and what is taken is sound.
    #[test]
    fn damaged_files_are_refused_or_sound(
        damage in prop::collection::vec((0..0x200usize, any::<u8>()), 0..12),
        length in 0..0x3001usize,
        cut in any::<bool>(),
    ) {
        let mut file = program();
        for (at, value) in damage {
            file[at] = value;
        }
        if cut {
            file.truncate(length);
        }
        if let Ok(program) = Program::parse(&file) {
            for segment in &program.segments {
                prop_assert!(PROGRAMS.start <= segment.pages.start && segment.pages.end <= PROGRAMS.end);
                prop_assert!(segment.pages.start <= segment.at && segment.part.end <= file.len());
                prop_assert!(segment.at + segment.part.len() as u64 <= segment.pages.end);
                prop_assert!(!(segment.rights.write && segment.rights.execute));
            }
            let in_text = |s: &Segment| s.rights.execute && s.pages.contains(&program.entry);
            prop_assert!(program.segments.iter().any(in_text));
        }
    }
}
