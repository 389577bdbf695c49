//! What a program finds on its stack when it starts: the System V ABI's initial process stack (x86-64 supplement, figure
//! 3.9), with no environment and an empty auxiliary vector.

use super::abi::{MAX_ARG_BYTES, MAX_ARGS, PAGE_BYTES};
use alloc::vec::Vec;

/// The first address above a program's stack.
pub const STACK_TOP: u64 = 0x7fff_fff0_0000;
/// Bytes that a stack may take. Its pages come as they are used.
pub const STACK_BYTES: u64 = 1 << 20;
/// Below the stack nothing is ever mapped for this many bytes.
pub const STACK_GUARD: u64 = 1 << 20;

/// The bytes at the top of the stack, and the stack pointer that they belong to: where they start.
///
/// `None` where there are more arguments than [`MAX_ARGS`] or [`MAX_ARG_BYTES`] allow, or one with a zero byte in it.
pub fn initial(args: &[&[u8]]) -> Option<(Vec<u8>, u64)> {
    let text: usize = args.iter().map(|arg| arg.len() + 1).sum();
    if args.len() > MAX_ARGS || text > MAX_ARG_BYTES || args.iter().any(|arg| arg.contains(&0)) {
        return None;
    }
    // argc, argv, its null, envp's null, and a null entry of the auxiliary vector (two words).
    let words = 1 + args.len() + 1 + 1 + 2;
    let bytes = (words * 8 + text).next_multiple_of(16);
    let start = STACK_TOP - bytes as u64;
    let mut image = Vec::with_capacity(bytes);
    image.extend((args.len() as u64).to_le_bytes());
    let mut at = start + words as u64 * 8;
    for arg in args {
        image.extend(at.to_le_bytes());
        at += arg.len() as u64 + 1;
    }
    image.resize(words * 8, 0);
    for arg in args {
        image.extend(*arg);
        image.push(0);
    }
    image.resize(bytes, 0);
    Some((image, start))
}

const _: () = assert!(
    STACK_TOP.is_multiple_of(PAGE_BYTES)
        && ((MAX_ARGS + 6) * 8 + MAX_ARG_BYTES) as u64 <= STACK_BYTES / 4
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_found_the_way_a_c_program_would() {
        let args: [&[u8]; 3] = [b"hello", b"", b"a b"];
        let (image, rsp) = initial(&args).unwrap();
        assert_eq!(rsp % 16, 0);
        assert_eq!(rsp + image.len() as u64, STACK_TOP);
        let word = |at: usize| u64::from_le_bytes(image[at..at + 8].try_into().unwrap());
        assert_eq!(word(0), 3);
        for (n, arg) in args.iter().enumerate() {
            let at = (word(8 + 8 * n) - rsp) as usize;
            let end = at + image[at..].iter().position(|b| *b == 0).unwrap();
            assert_eq!(&image[at..end], *arg);
        }
        for null in 4..8 {
            assert_eq!(word(8 * null), 0);
        }
    }

    #[test]
    fn too_much_is_refused() {
        let many: Vec<&[u8]> = vec![b"x"; MAX_ARGS + 1];
        assert!(initial(&many).is_none());
        assert!(initial(&many[1..]).is_some());
        let long = vec![b'x'; MAX_ARG_BYTES];
        assert!(initial(&[&long]).is_none());
        assert!(initial(&[&long[1..]]).is_some());
        assert!(initial(&[b"a\0b"]).is_none());
        assert!(initial(&[]).is_some());
    }
}
