//! The proof that an edit is in a file: what its tensors write along r, decoded again from the
//! file's bytes and compared with what they wrote before. It uses nothing that rounding reported.

use super::edit::{Edited, matrices};
use super::error::{Error, Result};
use crate::gguf::{Model, Tensor, Watch};
use crate::numeric::dot;
use crate::quant::{decoded, realised_alpha, written_along};

/// A file's alpha and the reported one may differ by this part of it, because their sums run in
/// another order.
const TOLERANCE: f64 = 1e-3;

/// What the tensors of an edit wrote before the edit. It holds no part of the model.
#[derive(Debug, Clone)]
pub struct Proof {
    tensors: Vec<TensorBefore>,
}

/// What one tensor wrote.
#[derive(Debug, Clone)]
struct TensorBefore {
    name: String,
    /// `u^T W` of each matrix; `u . b` of each bias.
    written: Vec<Vec<f64>>,
}

impl Proof {
    /// Reads what the tensors of `edited` write in `model`, which is not yet edited.
    ///
    /// # Errors
    /// As [`super::edit()`], or an interrupt.
    pub fn before(model: &Model, edited: &[Edited], watch: &dyn Watch) -> Result<Proof> {
        watch.stage("reading", edited.iter().map(|e| e.bytes.len() as u64).sum());
        let before = |one: &Edited| {
            let tensor = tensor(model, &one.name)?;
            let written = written(tensor, one, watch)?;
            Ok(TensorBefore { name: one.name.clone(), written })
        };
        Ok(Proof { tensors: edited.iter().map(before).collect::<Result<_>>()? })
    }

    /// Reads the edit back from `model`, the written file. NaN, infinity, and an alpha other than
    /// that of `edited` are errors.
    ///
    /// # Errors
    /// [`Error::NotFinite`], [`Error::NotThere`], or an interrupt.
    pub fn check(&self, model: &Model, edited: &[Edited], watch: &dyn Watch) -> Result<()> {
        watch.stage("reading back", edited.iter().map(|e| e.bytes.len() as u64).sum());
        for (before, one) in self.tensors.iter().zip(edited) {
            let tensor = tensor(model, &before.name)?;
            let after = written(tensor, one, watch)?;
            let (name, ty) = (before.name.clone(), tensor.info.ty);
            if !after.iter().flatten().all(|g| g.is_finite()) {
                return Err(Error::NotFinite { name, ty });
            }
            let (found, expected) = (realised_alpha(&before.written, &after), one.realised_alpha);
            let same = (found - expected).abs() <= TOLERANCE * expected.abs();
            if !same {
                return Err(Error::NotThere { name, found, expected });
            }
        }
        Ok(())
    }
}

fn tensor<'m>(model: &'m Model, name: &str) -> Result<Tensor<'m>> {
    let missing = || crate::gguf::Error::NoTensor { name: name.into() };
    Ok(model.tensor(name).ok_or_else(missing)?)
}

fn written(tensor: Tensor<'_>, edited: &Edited, watch: &dyn Watch) -> Result<Vec<Vec<f64>>> {
    let along = edited.read.as_slice();
    if edited.is_bias {
        let values = decoded(tensor, 0..tensor.info.n_rows())?;
        return Ok(values.chunks(along.len()).map(|b| vec![dot(b, along)]).collect());
    }
    let of_matrix = |rows| Ok(written_along(tensor, rows, along, watch)?);
    matrices(tensor, along.len())?.into_iter().map(of_matrix).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Edit, Half, Storage, Zeros, apply, edit};
    use super::*;
    use crate::gguf::{Builder, GgmlType, Layout, Rewrite, Unwatched};
    use serde_json::json;

    use crate::llama::graph::{Part, Structure};
    use crate::quant::encode_rows;

    const N: usize = 256;

    /// One block's MLP writer of `ty`, [N, N].
    fn write(path: &std::path::Path, ty: GgmlType) {
        let wave: Vec<f32> = (0..N * N).map(|i| (i as f32 * 0.37).sin()).collect();
        let mut bytes = vec![0; ty.bytes_for((N * N) as u64).unwrap() as usize];
        encode_rows(ty, &wave, N, None, &mut bytes).unwrap();
        let mut file = Builder::new();
        file.kv("general.architecture", "llama").kv("llama.embedding_length", N as u32);
        file.tensor("blk.0.ffn_down.weight", &[N as u64, N as u64], ty, bytes).unwrap();
        file.write(path).unwrap();
    }

    /// That of a model with no more than this matrix.
    fn structure() -> Structure {
        let writer = json!({"tensor": "blk.0.ffn_down.weight", "block": 0, "part": "mlp",
            "experts": false, "links": []});
        let point = json!({"number": 0, "kind": "sum", "block": 0, "writers": [writer],
            "obstacle": null});
        let root = json!({"op": 0, "name": "x", "before": 0, "n_alike": 1});
        let structure = json!({"architecture": "llama", "root": root, "points": [point],
            "groups": [], "reads": [], "remembers": true, "loops": false});
        serde_json::from_value(structure).unwrap()
    }

    #[test]
    fn an_edit_that_is_not_in_the_file_is_found_out() {
        let folder = tempfile::tempdir().unwrap();
        let [before, after] = ["a.gguf", "b.gguf"].map(|name| folder.path().join(name));
        for ty in [GgmlType::F32, GgmlType::Q4_K, GgmlType::Q4_0] {
            write(&before, ty);
            let model = Model::open(&before).unwrap();
            let unit: Vec<f32> =
                (0..N).map(|i| if i % 2 == 0 { 0.088_388_35 } else { 0.0 }).collect();
            let halves = [Half { block: 0, part: Part::Mlp }];
            let (storage, zeros, structure) = (Storage::Auto, Zeros::Keep, &structure());
            let (unit, halves) = (&unit[..], &halves[..]);
            let asked = Edit { unit, alpha: 2.0, halves, storage, zeros, structure };
            let edited = edit(&model, asked, &Unwatched).unwrap();
            let proof = Proof::before(&model, &edited, &Unwatched).unwrap();
            let check = |edited: &[Edited]| {
                let mut rewrite = Rewrite::new(&model, Layout::Single);
                apply(&mut rewrite, edited).unwrap();
                rewrite.write(&after, true, &Unwatched).unwrap();
                proof.check(&Model::open(&after).unwrap(), edited, &Unwatched)
            };
            check(&edited).unwrap();
            let missing = proof.check(&model, &edited, &Unwatched).unwrap_err();
            assert!(matches!(missing, Error::NotThere { .. }), "{ty}: {missing}");
            // Half of the columns of every row changed places.
            let mut mixed = edited.clone();
            let row_bytes = mixed[0].bytes.len() / N;
            mixed[0].bytes.chunks_mut(row_bytes).for_each(|row| row.rotate_left(row_bytes / 2));
            if ty != GgmlType::Q4_K {
                let missing = check(&mixed).unwrap_err();
                assert!(matches!(missing, Error::NotThere { .. }), "{ty}: {missing}");
            }
        }
    }
}
