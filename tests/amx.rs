//! llama.cpp's AMX kernels, as GCC compiles them with vendor/llama.cpp/amx.h in front. Few machines
//! have AMX: the one instruction that GCC 12 is wrong about is replaced by plain ones.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{root, tempdir};

/// As `ggml_tile_config_init` fills the 64 bytes that `ldtilecfg` reads, in names and values of our
/// own. `main` returns how many of them did not arrive.
const SOURCE: &str = "
#include <immintrin.h>
#include <cstdint>
extern \"C\" { unsigned char captured[64]; unsigned long kept_r11, kept_r12; }
struct Config { uint8_t palette, start_row, rest[14]; uint16_t width[16]; uint8_t height[16]; };
__attribute__((noinline)) void configure() {
    alignas(64) Config config = {};
    config.palette = 1;
    for (int i = 0; i < 8; i++) { config.width[i] = 0x1200 + i; config.height[i] = 0x50 + i; }
    _tile_loadconfig(&config);
}
int main() {
    configure();
    int wrong = captured[0] != 1;
    for (int i = 0; i < 8; i++) {
        wrong += captured[16 + 2 * i] != i || captured[17 + 2 * i] != 0x12;
        wrong += captured[48 + i] != 0x50 + i;
    }
    return wrong;
}
";

/// In place of `ldtilecfg OPERAND`, which this CPU may lack: copies the 64 bytes at OPERAND to
/// `captured`, and changes neither registers nor flags.
fn copies(operand: &str) -> String {
    let mut text = format!("movq %r11, kept_r11(%rip)\nleaq {operand}, %r11\n");
    text += "movq %r12, kept_r12(%rip)\n";
    for at in (0..64).step_by(8) {
        text += &format!("movq {at}(%r11), %r12\nmovq %r12, captured+{at}(%rip)\n");
    }
    text + "movq kept_r12(%rip), %r12\nmovq kept_r11(%rip), %r11\n"
}

/// Runs `program` in `folder`; None if it is not there or fails.
fn succeeds(folder: &Path, program: &str, arguments: &[&str]) -> Option<()> {
    let output = Command::new(program).args(arguments).current_dir(folder).output().ok()?;
    output.status.success().then_some(())
}

#[cfg(target_arch = "x86_64")]
#[test]
fn every_byte_of_a_tile_configuration_is_stored_before_it_is_loaded() {
    let folder = tempdir();
    let folder = folder.path();
    std::fs::write(folder.join("a.cpp"), SOURCE).unwrap();
    let header = root().join("vendor/llama.cpp/amx.h");
    let header = header.to_str().unwrap();
    let compile = ["-O3", "-std=c++17", "-mamx-tile", "-mamx-int8", "-S", "a.cpp"];
    if succeeds(folder, "g++", &compile).is_none() {
        eprintln!("skipped: no GCC that knows AMX");
        return;
    }
    succeeds(folder, "g++", &[&compile[..], &["-include", header]].concat()).unwrap();
    let assembly = std::fs::read_to_string(folder.join("a.s")).unwrap();
    let mut n_loads = 0;
    let lines = assembly.lines().map(|line| match line.trim().strip_prefix("ldtilecfg") {
        Some(operand) => {
            n_loads += 1;
            copies(operand.trim())
        }
        None => line.to_owned(),
    });
    let lines: Vec<String> = lines.collect();
    assert_eq!(n_loads, 1, "{assembly}");
    std::fs::write(folder.join("b.s"), lines.join("\n") + "\n").unwrap();
    succeeds(folder, "g++", &["-o", "b", "b.s"]).unwrap();
    let wrong = Command::new(folder.join("b")).status().unwrap().code();
    assert_eq!(wrong, Some(0), "{assembly}");
}

/// Files below `folder` of that name.
fn find(folder: &Path, name: &str, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            find(&path, name, found);
        } else if path.file_name().is_some_and(|n| n == name) {
            found.push(path);
        }
    }
}

#[test]
fn llama_cpp_was_built_with_the_correction() {
    // target/PROFILE/build/llama-cpp-sys-2-HASH/out/build holds what CMake made.
    let profile = Path::new(env!("CARGO_BIN_EXE_aird")).parent().unwrap();
    let mut made = Vec::new();
    for entry in profile.join("build").read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_string_lossy().starts_with("llama-cpp-sys-2-") {
            find(&path.join("out/build/ggml/src"), "flags.make", &mut made);
        }
    }
    let texts: Vec<String> = made.iter().map(|p| std::fs::read_to_string(p).unwrap()).collect();
    assert!(!texts.is_empty(), "no flags.make below {}", profile.display());
    let corrected = texts.iter().filter(|text| text.contains("amx/mmq.cpp"));
    let corrected: Vec<&String> = corrected.collect();
    assert!(!corrected.is_empty(), "mmq.cpp has no flags of its own");
    assert!(corrected.iter().all(|text| text.contains("amx.h")), "{corrected:?}");
}
