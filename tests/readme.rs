//! README's console blocks print what they say they print.

use std::path::Path;

#[test]
fn the_console_blocks_of_readme_hold() {
    trycmd::TestCases::new()
        .register_bin("aird", Path::new(env!("CARGO_BIN_EXE_aird")))
        .case("README.md");
}
