//! Arguments that several verbs share.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::Args;
use clap::builder::{PathBufValueParser, TypedValueParser};

use super::ui::Ui;
use crate::adapter::Adapter;
use crate::gguf::{Model, Value, ValueType};
use crate::llama::{self, Engine, Options, Trial, check_kind};

/// ggml's own limit on the threads of a graph, `GGML_MAX_N_THREADS`; with more it crashes.
const MAX_THREADS: i64 = 512;
/// A prompt and a token of its answer.
const MIN_CTX: u32 = 2;

/// How llama.cpp runs.
#[derive(Debug, Clone, Args)]
pub struct EngineArgs {
    /// CPU threads; 0 for as many as there are cores.
    #[arg(long, default_value_t = 0, value_name = "N",
        value_parser = clap::value_parser!(u32).range(..=MAX_THREADS))]
    pub threads: u32,
    /// Blocks to run on the GPU, in a build with one.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub gpu_layers: u32,
}

impl EngineArgs {
    /// As the engine wants them.
    pub fn options(&self) -> Options {
        Options { threads: self.threads, gpu_layers: self.gpu_layers }
    }

    /// Loads `model`, which was tried in a process of its own first; Ctrl-C ends the load and what
    /// is then decoded.
    pub fn load(&self, ui: &Ui, model: &Model) -> Result<Engine> {
        self.load_with(ui, model, None)
    }

    /// As [`EngineArgs::load`], with an adapter set.
    pub fn load_with(&self, ui: &Ui, model: &Model, lora: Option<&Path>) -> Result<Engine> {
        let (path, options) = (model.shards()[0].path.as_path(), self.options());
        let prober = ui.prober();
        check_kind(model)?;
        if let Some(lora) = lora {
            check_adapter(model, lora)?;
        }
        let first = prober.first_token(&Trial { model: path, lora: None, options })?;
        if let Some(complaint) = first.complaint() {
            bail!("{}: {complaint}\nhint: aird verify finds non-finite weights", path.display());
        }
        if lora.is_some() {
            prober.first_token(&Trial { model: path, lora, options })?;
        }
        let mut engine = Engine::load_interruptible(path, options, ui.interrupt())?;
        if engine.n_ctx_train() < MIN_CTX {
            let n = engine.n_ctx_train();
            bail!("{}: context_length is {n}, expected at least {MIN_CTX}", path.display());
        }
        if !engine.has_tokenizer() {
            return Err(llama::Error::NoTokenizer { path: path.into() }.into());
        }
        lora.map(|lora| engine.set_adapter(lora, 1.0)).transpose()?;
        Ok(engine)
    }
}

/// Parses the path of a file to write. Elsewhere `-` stands for stdout, which no verb writes a
/// file to: a file of that name must not come of it.
pub fn output_path() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(|path| match path.as_os_str() == "-" {
        false => Ok(path),
        true => Err("aird cannot write a file to stdout, expected a path (./- is a file)"),
    })
}

/// What a merge would refuse, and what llama.cpp reads otherwise than aird.
fn check_adapter(model: &Model, lora: &Path) -> Result<()> {
    const ALPHA: &str = "adapter.lora.alpha";
    Adapter::open(lora)?.check(model)?;
    match Model::open(lora)?.kv().get(ALPHA).map(Value::value_type) {
        None | Some(ValueType::F32) => Ok(()),
        Some(found) => bail!(
            "{}: key '{ALPHA}' is {}, expected f32: llama.cpp reads no other\n\
             hint: aird merge folds the adapter into the weights",
            lora.display(),
            found.name()
        ),
    }
}

/// The file name alone, as titles show it.
pub fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// The name of a model's file, of the first one if there are several.
pub fn model_name(model: &Model) -> String {
    file_name(&model.shards()[0].path)
}

/// Models in pairs: each further one with the first, and from the third on with the one before it.
pub fn compared<T>(models: &[T]) -> impl Iterator<Item = (&T, &T)> {
    models.iter().enumerate().skip(1).flat_map(move |(i, model)| {
        let before = (i > 1).then(|| (&models[i - 1], model));
        [(&models[0], model)].into_iter().chain(before)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_compared_with_the_first_and_the_one_before() {
        let pairs: Vec<(&u8, &u8)> = compared(&[1, 2, 3, 4]).collect();
        assert_eq!(pairs, [(&1, &2), (&1, &3), (&2, &3), (&1, &4), (&3, &4)]);
        assert_eq!(compared(&[1]).count(), 0);
    }
}
