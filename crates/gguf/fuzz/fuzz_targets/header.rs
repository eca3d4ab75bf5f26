//! Any bytes are parsed or refused, with no panic; what was parsed is written and parsed again, to
//! the same bytes.
#![no_main]

use aird_gguf::Header;
use libfuzzer_sys::fuzz_target;

// An overflow is a finding only where it panics.
const _: () = assert!(cfg!(debug_assertions), "fuzz with debug assertions, as cargo fuzz does");

/// With a larger alignment most of the time would go into the padding that `encode` adds.
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
    // Everything is the same but the padding, which need not be zeros.
    let unpadded = (data_offset - header.alignment()) as usize;
    assert!(encoded.starts_with(&bytes[..unpadded.min(bytes.len())]));
});
