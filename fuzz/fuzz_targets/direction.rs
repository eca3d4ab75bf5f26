//! Any bytes at all are a direction file or are refused; and what was read is written and read
//! again as the same.
#![no_main]

use aird::direction::Direction;
use libfuzzer_sys::fuzz_target;
use scratch::Scratch;

mod scratch;

fuzz_target!(|bytes: &[u8]| {
    let file = Scratch::holding("direction.safetensors", bytes);
    let Ok(direction) = Direction::read(file.path()) else { return };
    let _ = direction.unit();
    let grid = &direction.candidates;
    for layer in 0..grid.n_layer {
        for from_end in 0..grid.n_pos {
            let _ = grid.at(layer, from_end);
        }
    }
    let vector = Scratch::new("control-vector.gguf");
    let _ = direction.write_cvector(vector.path());
    let encoded = direction.encode().expect("what was read is written");
    let written = Scratch::holding("written.safetensors", &encoded);
    let again = Direction::read(written.path()).expect("what was written is read");
    assert!(again.candidates == direction.candidates);
    let chosen = |direction: &Direction| (direction.about.layer, direction.about.position);
    assert_eq!(chosen(&again), chosen(&direction));
});
