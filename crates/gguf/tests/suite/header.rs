//! Headers are parsed and written back to the byte.

use aird_gguf::{Header, Value};
use proptest::prelude::*;

use crate::support::{file_with, header, rich_header};

proptest! {
    #[test]
    fn any_header_is_written_back_to_the_byte(header in header()) {
        let bytes = file_with(&header);
        let (parsed, data_offset) = Header::parse(&bytes).unwrap();
        prop_assert_eq!(parsed.encode(), &bytes[..data_offset as usize]);
        let keys: Vec<_> = parsed.kv.iter().collect();
        prop_assert_eq!(keys, header.kv.iter().collect::<Vec<_>>());
        let tensors: Vec<_> = parsed.tensors.values().collect();
        prop_assert_eq!(tensors, header.tensors.values().collect::<Vec<_>>());
        prop_assert!(parsed.check_data(data_offset, bytes.len() as u64).is_ok());
    }
}

#[test]
fn a_header_with_everything_is_written_back_to_the_byte() {
    let bytes = file_with(&rich_header());
    let (parsed, data_offset) = Header::parse(&bytes).unwrap();
    assert_eq!(parsed.encode(), &bytes[..data_offset as usize]);
    assert_eq!(parsed.version, 2);
    assert_eq!(parsed.alignment(), 64);
    assert_eq!(parsed.tensors["blk.0.ones"].shape, [32, 2, 1, 1]);
    assert_eq!(parsed.kv["bool"], Value::Bool(17));
    let Value::F32(nan) = parsed.kv["f32"] else { panic!("{:?}", parsed.kv["f32"]) };
    assert_eq!(nan.to_bits(), 0x7fa0_0001);
}

#[test]
fn a_header_that_differs_in_order_alone_is_equal_but_has_other_bytes() {
    let header = rich_header();
    let mut other = header.clone();
    other.kv.move_index(0, 3);
    assert_eq!(header, other);
    assert_ne!(header.encode(), other.encode());
}
