//! Any bytes at all are parsed or refused, never a panic; and what was parsed is written back
//! and parsed again as the same.
//!
//! See `fuzz/README.md` for how to run it.
#![no_main]

use aird::gguf::Header;
use libfuzzer_sys::fuzz_target;

/// Above this the padding that `encode` adds would be all that is measured.
const MAX_ALIGNMENT: u64 = 4096;

fuzz_target!(|bytes: &[u8]| {
    let Ok((header, data_offset)) = Header::parse(bytes) else { return };
    let _ = header.check_data(data_offset, bytes.len() as u64);
    if header.alignment() > MAX_ALIGNMENT {
        return;
    }
    let encoded = header.encode();
    let (again, _) = Header::parse(&encoded).expect("what was parsed is parsed again");
    assert!(again.encode() == encoded);
    // Everything but the padding, which need not be zeros, is there again.
    let unpadded = (data_offset - header.alignment()) as usize;
    assert!(encoded.starts_with(&bytes[..unpadded.min(bytes.len())]));
});
