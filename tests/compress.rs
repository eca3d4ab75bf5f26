//! Folding scales into the weights: a model answers as before, whatever its architecture, and
//! would not if any reader or source of a group were left out.

use std::path::{Path, PathBuf};

use aird::compress::{Folds, Group, groups, scale_group};
use aird::gguf::{Ask, Builder, GgmlType, Layout, Model, Replacement, Rewrite, Unwatched, Value};
use aird::quant::{decode_rows, encode_rows};

use crate::support::random::Random;
use crate::support::tiny::Weight;
use crate::support::{Arch, Tiny, llama, prober, tempdir};

const PROMPT: &str = "Tell me a story, in 3 words.\n";

/// An architecture that no tiny model has, made from one that has the same parts and more.
struct Recast {
    name: &'static str,
    from: Tiny,
    /// Numbers under the architecture's name.
    keys: &'static [(&'static str, f32)],
    /// Parts of names that go.
    without: &'static [&'static str],
    /// What else changes.
    change: fn(&mut Vec<Weight>),
}

fn as_it_is(_: &mut Vec<Weight>) {}

fn recasts() -> Vec<Recast> {
    let recast = |name, arch| {
        let from = Tiny::new(arch).seed(5);
        Recast { name, from, keys: &[], without: &[], change: as_it_is }
    };
    let llama = |name| recast(name, Arch::Llama);
    const SOFTCAPS: &[(&str, f32)] =
        &[("attn_logit_softcapping", 50.0), ("final_logit_softcapping", 30.0)];
    const Q_AND_K_NORM: &[&str] = &["attn_q_norm", "attn_k_norm"];
    const POST_NORMS: &[&str] = &["post_attention_norm", "post_ffw_norm"];
    const ALL_NORMS: &[&str] =
        &["attn_q_norm", "attn_k_norm", "post_attention_norm", "post_ffw_norm"];
    vec![
        Recast { without: POST_NORMS, ..recast("qwen3", Arch::Gemma3) },
        Recast { without: ALL_NORMS, ..recast("gemma", Arch::Gemma3) },
        Recast { without: Q_AND_K_NORM, keys: SOFTCAPS, ..recast("gemma2", Arch::Gemma3) },
        Recast { without: Q_AND_K_NORM, ..recast("llama", Arch::Qwen3Moe) },
        Recast {
            without: Q_AND_K_NORM,
            keys: &[("expert_shared_feed_forward_length", 128.0)],
            change: add_shared_expert,
            ..recast("qwen2moe", Arch::Qwen3Moe)
        },
        Recast {
            without: Q_AND_K_NORM,
            keys: &[("attention.head_count_kv", 4.0)],
            change: widen_keys_and_values,
            ..recast("olmoe", Arch::Qwen3Moe)
        },
        Recast { change: fuse, ..llama("phi3") },
        Recast { change: rename_ffn_norm, ..llama("seed_oss") },
        Recast {
            from: Tiny::new(Arch::Llama).tied(true),
            keys: &[("attention.layer_norm_epsilon", 1e-5), ("logit_scale", 0.5)],
            without: &["ffn_norm"],
            ..llama("command-r")
        },
        Recast { keys: &[("logit_scale", 2.0)], ..llama("granite") },
        llama("mistral3"),
        llama("internlm2"),
        llama("smollm3"),
    ]
}

fn add(weights: &mut Vec<Weight>, name: String, shape: &[u64]) {
    let seed = name.bytes().map(u64::from).sum();
    let n = shape.iter().product::<u64>() as usize;
    let values = Random::new(seed).normals(n, 1.0 / (shape[0] as f32).sqrt());
    weights.push(Weight { name, shape: shape.to_vec(), ty: GgmlType::F32, values });
}

fn add_shared_expert(weights: &mut Vec<Weight>) {
    for block in 0..2 {
        let name = |stem: &str| format!("blk.{block}.{stem}_shexp.weight");
        add(weights, name("ffn_gate_inp"), &[64]);
        add(weights, name("ffn_gate"), &[64, 128]);
        add(weights, name("ffn_up"), &[64, 128]);
        add(weights, name("ffn_down"), &[128, 64]);
    }
}

/// As many kv heads as query heads, and norms over all of them.
fn widen_keys_and_values(weights: &mut Vec<Weight>) {
    weights.retain(|w| !w.name.contains("attn_k.") && !w.name.contains("attn_v."));
    for block in 0..2 {
        for (stem, shape) in [
            ("attn_k", &[64, 64][..]),
            ("attn_v", &[64, 64]),
            ("attn_q_norm", &[64]),
            ("attn_k_norm", &[64]),
        ] {
            add(weights, format!("blk.{block}.{stem}.weight"), shape);
        }
    }
}

fn rename_ffn_norm(weights: &mut Vec<Weight>) {
    for w in weights {
        w.name = w.name.replace("ffn_norm", "post_attention_norm");
    }
}

/// q, k and v in one matrix, gate and up in another.
fn fuse(weights: &mut Vec<Weight>) {
    for block in 0..2 {
        let name = |stem: &str| format!("blk.{block}.{stem}.weight");
        for (fused, parts) in
            [("attn_qkv", &["attn_q", "attn_k", "attn_v"][..]), ("ffn_up", &["ffn_gate", "ffn_up"])]
        {
            let mut whole: Option<Weight> = None;
            for part in parts {
                let i = weights.iter().position(|w| w.name == name(part)).unwrap();
                let part = weights.remove(i);
                match &mut whole {
                    None => whole = Some(Weight { name: name(fused), ..part }),
                    Some(whole) => {
                        whole.shape[1] += part.shape[1];
                        whole.values.extend(part.values);
                    }
                }
            }
            weights.extend(whole);
        }
    }
}

impl Recast {
    fn write(&self, folder: &Path) -> PathBuf {
        let tiny = Model::open(&self.from.write(folder)).unwrap();
        let mut file = Builder::new();
        let old = format!("{}.", tiny.architecture());
        for (key, value) in tiny.kv() {
            let own = key.strip_prefix(&old).map(|rest| format!("{}.{rest}", self.name));
            file.kv(own.unwrap_or_else(|| key.clone()), value.clone());
        }
        file.kv("general.architecture", self.name);
        for (key, x) in self.keys {
            let count = key.ends_with("length") || key.ends_with("count_kv");
            let value = if count { Value::from(*x as u32) } else { Value::from(*x) };
            file.kv(format!("{}.{key}", self.name), value);
        }
        let mut weights = self.from.weights();
        weights.retain(|w| !self.without.iter().any(|part| w.name.contains(part)));
        (self.change)(&mut weights);
        for w in &weights {
            let bytes = w.values.iter().flat_map(|x| x.to_le_bytes()).collect();
            file.tensor(&w.name, &w.shape, GgmlType::F32, bytes).unwrap();
        }
        let path = folder.join(format!("recast-{}.gguf", self.name));
        file.write(&path).unwrap();
        path
    }
}

/// Which scales a model is folded with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scales {
    /// Products and quotients are exact: what is folded right changes no bit.
    PowersOfTwo,
    /// Any: llama.cpp keeps keys and values in f16, which rounds other numbers otherwise. (With
    /// an F32 cache and no flash attention the answers stay within 1e-6.)
    Any,
}

impl Scales {
    /// Scales between about 1/4 and 4; equal where they must be.
    fn random(self, group: &Group, random: &mut Random) -> Vec<f32> {
        let mut scales: Vec<f32> = (0..group.n_in).map(|_| random.normal()).collect();
        if let Some(shared) = group.shared {
            let set = shared.head_len * shared.n_sharing;
            let first = |j: usize| j / set * set + j % shared.head_len;
            scales = (0..group.n_in).map(|j| scales[first(j)]).collect();
        }
        let round = |x: f32| if self == Scales::PowersOfTwo { x.round() } else { x };
        scales.into_iter().map(|x| round(x).exp2()).collect()
    }
}

fn groups_of(model: &Model) -> Vec<Group> {
    groups(model, &prober().structure(model).unwrap())
}

/// Rewrites the model at `path` with scales for all groups that `choose` gives.
pub fn folded(path: &Path, scales: Scales, choose: impl Fn(Vec<Group>) -> Vec<Group>) -> PathBuf {
    let model = Model::open(path).unwrap();
    let (mut folds, mut random) = (Folds::default(), Random::new(11));
    for group in choose(groups_of(&model)) {
        scale_group(&mut folds, &group, &scales.random(&group, &mut random)).unwrap();
    }
    let mut rewrite = Rewrite::new(&model, Layout::Single);
    for name in folds.names() {
        let tensor = model.tensor(name).unwrap();
        let (n_cols, folds) = (tensor.info.n_cols() as usize, &folds);
        let produce = move |rows: std::ops::Range<u64>, out: &mut [u8]| {
            let mut values = vec![0.0; (rows.end - rows.start) as usize * n_cols];
            decode_rows(tensor.info.ty, tensor.rows(rows.clone()), n_cols, &mut values)?;
            folds.apply(tensor.info, rows, &mut values);
            Ok(encode_rows(GgmlType::F32, &values, n_cols, None, out)?)
        };
        let new = Replacement { ty: GgmlType::F32, ask: Ask::Chunks, produce: Box::new(produce) };
        rewrite.replace(name, new).unwrap();
    }
    let out = path.with_extension("folded.gguf");
    rewrite.write(&out, true, &Unwatched).unwrap();
    out
}

/// How far the answers of two models lie apart, relative to the largest logit.
fn difference(a: &[f32], b: &Path) -> f32 {
    let b = llama::logits(b, PROMPT).unwrap();
    let size = a.iter().map(|x| x.abs()).fold(0.0, f32::max);
    a.iter().zip(b).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max) / size
}

/// Every tiny model, and every recast one.
fn models(folder: &Path) -> Vec<(String, PathBuf)> {
    let tiny = |tiny: Tiny| (format!("{tiny:?}"), tiny.write(folder));
    let mut models: Vec<_> = Arch::ALL.map(|arch| tiny(Tiny::new(arch).seed(2))).into();
    let biased = folder.join("biased");
    std::fs::create_dir(&biased).unwrap();
    models.push(("biased".into(), Tiny::new(Arch::Llama).biased().write(&biased)));
    for recast in recasts() {
        models.push((format!("recast {}", recast.name), recast.write(folder)));
    }
    models
}

#[test]
fn folding_leaves_the_answers_of_every_architecture_as_they_were() {
    let folder = tempdir();
    for (name, path) in models(folder.path()) {
        let before = llama::logits(&path, PROMPT).unwrap_or_else(|| panic!("{name}: no logits"));
        for (scales, most) in [(Scales::PowersOfTwo, 1e-6), (Scales::Any, 5e-3)] {
            let out = folded(&path, scales, |all| {
                assert!(all.len() >= 4, "{name}: {} groups", all.len());
                all
            });
            let found = difference(&before, &out);
            assert!(found <= most, "{name}, {scales:?}: {found}");
        }
    }
}

/// Each group of the first block once for each of its parts, without that part.
fn maimed(all: &[Group]) -> Vec<(String, Group)> {
    let mut maimed = Vec::new();
    for group in all.iter().filter(|g| g.block == 0) {
        for name in group.linears.iter().chain(&group.others) {
            let mut without = group.clone();
            without.linears.retain(|n| n != name);
            without.others.retain(|n| n != name);
            maimed.push((format!("{} without {name}", group.name), without));
        }
        for source in &group.sources {
            let mut without = group.clone();
            without.sources.retain(|s| s != source);
            maimed.push((format!("{} without {}", group.name, source.name), without));
        }
    }
    maimed
}

#[test]
fn leaving_out_any_reader_or_source_changes_the_answers() {
    let folder = tempdir();
    let telling = ["biased", "recast qwen2moe", "recast phi3", "recast command-r"];
    let mut models = models(folder.path());
    models.retain(|(name, _)| telling.contains(&&**name));
    assert_eq!(models.len(), telling.len());
    for (name, path) in models {
        let before = llama::logits(&path, PROMPT).unwrap();
        let all = groups_of(&Model::open(&path).unwrap());
        for (what, group) in maimed(&all) {
            let out = folded(&path, Scales::PowersOfTwo, |_| vec![group.clone()]);
            let found = difference(&before, &out);
            assert!(found > 1e-3, "{name}: {what} changes the answers by {found} only");
        }
    }
}

#[test]
fn what_cannot_be_divided_is_in_no_group() {
    let folder = tempdir();
    let names = |arch| {
        let model = Model::open(&Tiny::new(arch).write(folder.path())).unwrap();
        groups_of(&model).into_iter().map(|g| g.name).collect::<Vec<_>>()
    };
    // Norms behind the projections: only what is multiplied inside a half can be scaled.
    let expected = ["blk.0.attn_v", "blk.0.ffn_up", "blk.1.attn_v", "blk.1.ffn_up"];
    assert_eq!(names(Arch::Olmo2), expected);
    assert!(names(Arch::Gemma3).iter().all(|name| !name.contains("post_")));
    assert_eq!(names(Arch::Qwen3Moe).len(), 2 * (3 + 4));
}
