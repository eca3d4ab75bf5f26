//! Arguments that several verbs share.

use std::path::{Path, PathBuf};

use clap::Args;

use super::text::bytes_text;
use super::ui::Ui;
use crate::gguf::{Layout, Model, Plan};
use crate::llama::Options;

/// Where a model file goes.
#[derive(Debug, Args)]
pub struct OutputArgs {
    /// The file to write.
    #[arg(short, long, value_name = "OUT")]
    pub output: PathBuf,
    /// Replace OUT if it exists.
    #[arg(long)]
    pub force: bool,
    /// Print what would be written, and write nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Write as many shards as the model has, not one file.
    #[arg(long)]
    pub keep_shards: bool,
}

impl OutputArgs {
    /// One file or as many as there were.
    pub fn layout(&self) -> Layout {
        if self.keep_shards { Layout::KeepShards } else { Layout::Single }
    }

    /// `--dry-run`: the files and their bytes.
    pub fn plan_text(&self, plan: &Plan) -> String {
        let line = |path: &Path, bytes| format!("{}  {}\n", path.display(), bytes_text(bytes));
        let mut text = String::from("would write\n");
        for file in &plan.files {
            text += &format!("  {}", line(&file.path, file.bytes));
        }
        text + &format!(
            "  of which {} of tensors made anew, the rest copied\n",
            bytes_text(plan.produced_bytes())
        )
    }
}

/// How llama.cpp runs.
#[derive(Debug, Args)]
pub struct EngineArgs {
    /// CPU threads; 0 for as many as there are cores.
    #[arg(long, default_value_t = 0, value_name = "N")]
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
}

/// The file name alone, as titles show it.
pub fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// The name of a model's file, of the first one if there are several.
pub fn model_name(model: &Model) -> String {
    file_name(&model.shards()[0].path)
}

/// Says where the result is.
pub fn say_written(ui: &Ui, files: &[(PathBuf, u64)]) {
    for (path, bytes) in files {
        ui.say(format_args!("wrote {} ({})", path.display(), bytes_text(*bytes)));
    }
}
