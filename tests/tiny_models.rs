//! The tiny models are models: llama.cpp loads every one and answers with finite logits. All
//! other tests that run a model stand on this.

use aird::gguf::GgmlType;

use crate::support::tiny::TYPES;
use crate::support::{Adapter, Arch, Tiny, aird, llama, tempdir};

const PROMPT: &str = "Tell me a story, in 3 words.\n";

fn loads_in_every_type(arch: Arch) {
    let folder = tempdir();
    for ty in TYPES {
        let tiny = Tiny::new(arch).ty(ty).seed(1);
        let path = tiny.write(folder.path());
        let logits = llama::logits(&path, PROMPT).unwrap_or_else(|| panic!("{arch:?} {ty}"));
        assert!(logits.iter().all(|v| v.is_finite()), "{arch:?} {ty}");
        let spread = logits.iter().map(|v| v.abs()).fold(0.0, f32::max);
        assert!((0.1..100.0).contains(&spread), "{arch:?} {ty}: logits up to {spread}");
    }
}

#[test]
fn llama_loads_in_every_type() {
    loads_in_every_type(Arch::Llama);
}

#[test]
fn qwen2_loads_in_every_type() {
    loads_in_every_type(Arch::Qwen2);
}

#[test]
fn gemma3_loads_in_every_type() {
    loads_in_every_type(Arch::Gemma3);
}

#[test]
fn olmo2_loads_in_every_type() {
    loads_in_every_type(Arch::Olmo2);
}

#[test]
fn qwen3moe_loads_in_every_type() {
    loads_in_every_type(Arch::Qwen3Moe);
}

#[test]
fn variants_load_tied_untied_and_with_biases() {
    let variants = [
        Tiny::new(Arch::Llama).tied(true),
        Tiny::new(Arch::Llama).biased(),
        Tiny::new(Arch::Gemma3).tied(false).blocks(3),
        Tiny::new(Arch::Qwen3Moe).tied(true),
    ];
    for tiny in variants {
        let folder = tempdir();
        let logits = llama::logits(&tiny.write(folder.path()), PROMPT);
        assert!(logits.is_some_and(|l| l.iter().all(|v| v.is_finite())), "{tiny:?}");
    }
}

#[test]
fn shards_hold_the_same_model_as_one_file() {
    let folder = tempdir();
    let tiny = Tiny::new(Arch::Llama).seed(3);
    let one = llama::logits(&tiny.write(folder.path()), PROMPT);
    let two = llama::logits(&tiny.shards(2).write(folder.path()), PROMPT);
    assert!(one.is_some());
    assert_eq!(one, two);
}

#[test]
fn each_architecture_passes_verify() {
    for arch in Arch::ALL {
        let folder = tempdir();
        let path = Tiny::new(arch).ty(GgmlType::Q4_0).write(folder.path());
        let output = aird().arg("verify").arg(&path).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arch:?}: {told}");
    }
}

#[test]
fn a_seed_decides_every_byte() {
    let folders = [tempdir(), tempdir()];
    let tiny = Tiny::new(Arch::Qwen2).seed(5);
    let bytes = |i: usize, t: &Tiny| std::fs::read(t.write(folders[i].path())).unwrap();
    assert_eq!(bytes(0, &tiny), bytes(1, &tiny));
    assert_ne!(bytes(0, &tiny), bytes(1, &tiny.clone().seed(6)));
}

#[test]
fn both_tokenizers_spell_any_text() {
    let text = "The Iris said: «naïve» \u{1f600}\n\t<|im_start|>user\n{x} in error";
    for arch in [Arch::Llama, Arch::Qwen2] {
        let folder = tempdir();
        let path = Tiny::new(arch).write(folder.path());
        assert_eq!(llama::retold(&path, text), text, "{arch:?}");
    }
}

#[test]
fn an_adapter_changes_the_answer() {
    let cases = [
        (Arch::Llama, ["blk.0.attn_output.weight", "blk.1.ffn_down.weight"]),
        (Arch::Qwen3Moe, ["blk.0.attn_output.weight", "blk.1.ffn_down_exps.weight"]),
    ];
    for (arch, names) in cases {
        let folder = tempdir();
        let tiny = Tiny::new(arch);
        let (model, adapter) =
            (tiny.write(folder.path()), Adapter::new(&tiny, &names).write(folder.path()));
        let with = |scale| llama::logits_with(&model, Some((&adapter, scale)), PROMPT);
        let (plain, off, on) = (llama::logits(&model, PROMPT), with(0.0), with(1.0));
        assert!(plain.is_some() && on.is_some(), "{arch:?}");
        assert_eq!(plain, off, "{arch:?}");
        assert_ne!(plain, on, "{arch:?}");
    }
}
