//! Images good and damaged, against the checks of `image.rs`.

use super::*;
use proptest::prelude::*;

const TEXT: u64 = IMAGE + 0x1000;

/// A small kernel: ELF header, three program headers (note in a read-only segment, text, data with bss).
fn kernel() -> Vec<u8> {
    let mut file = vec![0u8; 0x3000];
    file[..16].copy_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    let put16 =
        |f: &mut Vec<u8>, at: usize, v: u16| f[at..at + 2].copy_from_slice(&v.to_le_bytes());
    put16(&mut file, 16, 2);
    put16(&mut file, 18, 62);
    put16(&mut file, 20, 1);
    put64(&mut file, 24, TEXT);
    put64(&mut file, 32, 64);
    put16(&mut file, 52, 64);
    put16(&mut file, 54, 56);
    put16(&mut file, 56, 4);
    put16(&mut file, 58, 64);
    phdr(&mut file, 0, abi::PT_LOAD, 4, 0, IMAGE, 0x1000, 0x1000);
    phdr(&mut file, 1, abi::PT_LOAD, 5, 0x1000, TEXT, 0x800, 0x800);
    phdr(
        &mut file,
        2,
        abi::PT_LOAD,
        6,
        0x2010,
        TEXT + 0x1010,
        0x100,
        0x5000,
    );
    phdr(&mut file, 3, abi::PT_NOTE, 4, 0x800, IMAGE + 0x800, 36, 36);
    let mut note = Vec::new();
    for v in [6u32, 16, 1] {
        note.extend(v.to_le_bytes());
    }
    note.extend(b"Baton\0\0\0");
    note.extend(VERSION.to_le_bytes());
    note.extend(0u32.to_le_bytes());
    note.extend(
        (TEXT as i64 + 0x20)
            .wrapping_sub((IMAGE + 0x800 + 12 + 8 + 8) as i64)
            .to_le_bytes(),
    );
    file[0x800..0x800 + note.len()].copy_from_slice(&note);
    file
}

fn put64(f: &mut [u8], at: usize, v: u64) {
    f[at..at + 8].copy_from_slice(&v.to_le_bytes());
}

#[allow(clippy::too_many_arguments)]
fn phdr(
    f: &mut [u8],
    n: usize,
    kind: u32,
    flags: u32,
    offset: u64,
    vaddr: u64,
    filesz: u64,
    memsz: u64,
) {
    let at = 64 + n * 56;
    f[at..at + 4].copy_from_slice(&kind.to_le_bytes());
    f[at + 4..at + 8].copy_from_slice(&flags.to_le_bytes());
    for (n, v) in [offset, vaddr, vaddr, filesz, memsz, 0x1000]
        .into_iter()
        .enumerate()
    {
        put64(f, at + 8 + n * 8, v);
    }
}

#[test]
fn a_good_image() {
    let file = kernel();
    let image = Image::parse(&file).unwrap();
    assert_eq!(image.entry, TEXT + 0x20);
    assert_eq!(image.segments.len(), 3);
    let data = image.segments[2];
    assert_eq!(
        (data.vaddr, data.size, data.skip, data.file.len()),
        (TEXT + 0x1000, 0x6000, 0x10, 0x100)
    );
    assert_eq!(image.memory(), 0x1000 + 0x1000 + 0x6000);
    assert!(image.symtab.is_empty());
}

#[test]
fn each_refusal_has_its_sentence() {
    type Change = fn(&mut Vec<u8>);
    let cases: &[(Change, ImageError)] = &[
        (|f| f.clear(), ImageError::Empty),
        (
            |f| *f = b"hello, this is text\n".to_vec(),
            ImageError::NotElf,
        ),
        (|f| f.truncate(40), ImageError::Truncated("the ELF header")),
        (|f| f.truncate(100), ImageError::Truncated("a header table")),
        (|f| f.truncate(0x2020), ImageError::Truncated("a segment")),
        (|f| f[4] = 1, ImageError::Class),
        (|f| f[5] = 2, ImageError::Class),
        (|f| f[18] = 183, ImageError::Machine(183)),
        (
            |f| f[20] = 9,
            ImageError::Malformed("its e_version is not 1"),
        ),
        (|f| f[16] = 3, ImageError::Type(3)),
        (
            |f| phdr(f, 1, abi::PT_LOAD, 7, 0x1000, TEXT, 0x800, 0x800),
            ImageError::WriteExecute(TEXT),
        ),
        (
            |f| phdr(f, 1, abi::PT_LOAD, 5, 0x1000, 0x40_0000, 0x800, 0x800),
            ImageError::Place(0x40_0000, 0x800),
        ),
        (
            |f| phdr(f, 2, abi::PT_LOAD, 6, 0, TEXT + 0x1000, 0, 1 << 40),
            ImageError::Place(TEXT + 0x1000, 1 << 40),
        ),
        (
            |f| phdr(f, 2, abi::PT_LOAD, 6, 0, u64::MAX, 0, 2),
            ImageError::Place(u64::MAX, 2),
        ),
        (
            |f| phdr(f, 2, abi::PT_LOAD, 6, 0, TEXT + 0x10, 0, 0x10),
            ImageError::Overlap(TEXT),
        ),
        (
            |f| phdr(f, 1, abi::PT_LOAD, 5, 0x1000, TEXT, 0x900, 0x800),
            ImageError::Malformed("a segment is larger in the file than in memory"),
        ),
        (
            |f| phdr(f, 3, abi::PT_NULL, 0, 0, 0, 0, 0),
            ImageError::NoNote,
        ),
        (|f| f[0x800] = 200, ImageError::NoNote),
        (|f| f[0x814] = 9, ImageError::ParamsVersion(9)),
        (|f| put64(f, 0x81c, 0), ImageError::Entry(IMAGE + 0x81c)),
        (|f| put64(f, 24, 0), ImageError::Start(0)),
        (
            |f| phdr(f, 3, abi::PT_NOTE, 4, u64::MAX, 0, 36, 36),
            ImageError::Truncated("a note"),
        ),
    ];
    for (change, want) in cases {
        let mut file = kernel();
        change(&mut file);
        let found = Image::parse(&file).map(|i| i.entry);
        assert_eq!(found.as_ref().err(), Some(want), "{want}");
    }
}

proptest! {
    #[test]
    fn damage_never_panics(flips in proptest::collection::vec((0usize..0x900, any::<u8>()), 1..20), cut in 0usize..0x3000) {
        let mut file = kernel();
        for (at, value) in flips {
            file[at] = value;
        }
        file.truncate(0x3000 - cut);
        if let Ok(image) = Image::parse(&file) {
            prop_assert!(image.segments.iter().all(|s| s.vaddr >= IMAGE && s.vaddr + s.size <= IMAGE_END));
        }
    }
}
