//! The boot parameters: any bytes, then the same under a right magic, version, size and checksum. What is accepted can be
//! written again, and says the same.
#![no_main]

use kernel::params::{BLOCK_SIZE, Extent, MAGIC, Params, VERSION, finish, size};
use zerocopy::IntoBytes;

fn decode(block: &[u8]) {
    let Ok(params) = Params::decode(block) else {
        return;
    };
    assert_eq!(size(block), Some(params.header.size as usize));
    let mut again = vec![0; BLOCK_SIZE];
    let used = params
        .encode(&mut again)
        .expect("it came out of such a block");
    assert_eq!(again[..used], block[..used]);
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    // A block lies in pages.
    let mut words = vec![0_u64; BLOCK_SIZE / 8];
    let block = words.as_mut_bytes();
    let len = bytes.len().min(BLOCK_SIZE);
    block[..len].copy_from_slice(&bytes[..len]);
    decode(block);
    block[..8].copy_from_slice(&MAGIC);
    block[8..12].copy_from_slice(&VERSION.to_ne_bytes());
    block[16..20].copy_from_slice(&(len as u32).to_ne_bytes());
    let place = Extent {
        addr: 0x5000,
        size: 9,
    };
    if finish(block, place, 3).is_ok() {
        decode(block);
    }
});
