//! `aird repair`: its arguments.

mod name;
mod report;
mod request;
mod restore;

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{ArgGroup, Args, ValueEnum};

use self::name::repaired_name;
use self::restore::RestoreArgs;
use super::args::output_path;
use super::paths::{Paths, Verb};
use super::search::{AlphaArg, BlockArg, SearchArgs};
use super::stopped::or_stop_report;
use super::ui::Ui;
use crate::checkpoint::is_checkpoint;
use crate::gguf::GgmlType;
use crate::llama::graph::Part;
use crate::repair::Storage;
use crate::verbs::Stopped;
use crate::verbs::repair::run;

/// Bring a compressed model back to its original, or strengthen its refusal direction
///
/// With the original as --reference every matrix of the blocks is refitted to what the original
/// computes, on the zeros and in the types that the file has. Where the restored model refuses less
/// of held-out prompts than the original, aird then searches for the smallest edit along the
/// original's refusal direction that makes up for it. It writes MODEL-AIRD-Q4_K_M.gguf, and
/// llama.cpp runs it as a check. It takes minutes to hours; blocks that are done lie beside the
/// output, in OUT.aird-part, until all are.
///
/// With only a --direction, or --method aird, blocks of the model write more along the original's
/// refusal direction: which ones and how strongly is searched for. Where nothing helps within the
/// budget the tries are printed, nothing is written, and the exit code is 3.
///
/// With --in-place the model's own file is changed, and aird undo takes that back byte for byte.
/// With --lora an adapter for llama.cpp's --lora is written instead of a model: the edit, or, with
/// --reference, a correction of each matrix towards the original, of rank --rank.
#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("of").required(true).multiple(true).args(["direction", "reference"])
)]
pub(super) struct Repair {
    /// A GGUF file; any shard of a split one.
    model: PathBuf,
    /// The original model itself, from before it was compressed. Its direction is found where an
    /// edit along it is searched for, unless --direction gives it.
    #[arg(long, value_name = "MODEL")]
    reference: Option<PathBuf>,
    /// The ORIGINAL model's direction: of aird direction, run on the model before it was
    /// compressed.
    #[arg(long, value_name = "DIR")]
    direction: Option<PathBuf>,
    /// Keep the direction that was found in the reference.
    #[arg(
        long,
        value_name = "DIR",
        requires = "reference",
        conflicts_with = "direction",
        value_parser = output_path()
    )]
    keep_direction: Option<PathBuf>,
    /// Blocks to edit, e.g. 18 or 17,18:mlp; auto searches for them.
    #[arg(long, default_value = "auto", value_name = "LIST|auto")]
    block: BlockArg,
    /// How much stronger: 1 doubles what a block writes along the direction. Above 0; auto
    /// searches for it.
    #[arg(long, default_value = "auto", allow_hyphen_values = true, value_name = "X|auto")]
    alpha: AlphaArg,
    /// Which halves of a block.
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_values_t = PARTS
    )]
    parts: Vec<PartArg>,
    /// Type of the edited tensors: auto, keep, q8_0 or f16. auto keeps each one's own unless too
    /// much of the edit is lost in it; in place it is keep.
    #[arg(long = "type", value_parser = parse_storage, default_value = "auto", value_name = "TYPE")]
    storage: Storage,
    /// The file to write; default: the model's name with -AIRD before the quant's. It gets its name
    /// once the edit was found in it and llama.cpp ran it.
    #[arg(
        short,
        long,
        value_name = "OUT",
        conflicts_with_all = ["in_place", "lora"],
        value_parser = output_path()
    )]
    output: Option<PathBuf>,
    /// Change the model's own file, after a journal for aird undo is written. What was changed is
    /// read again and checked for the edit.
    ///
    /// A link is followed: in a download cache it is the cache's own file that changes, for all who
    /// use it. A program that has the file mapped sees the change while it runs.
    #[arg(long, conflicts_with = "lora")]
    in_place: bool,
    /// Let llama.cpp run what was changed in place, and check the whole file for non-finite
    /// values. A new file and an adapter are always run.
    #[arg(long, requires = "in_place")]
    verify: bool,
    /// Write a LoRA adapter, and no model.
    #[arg(long, value_name = "OUT", value_parser = output_path())]
    lora: Option<PathBuf>,
    /// How the adapter is written: gguf, a file for llama.cpp, or peft, a folder for transformers,
    /// vLLM and others that read PEFT's adapters.
    #[arg(long, value_enum, default_value = "gguf", requires = "lora", value_name = "FORMAT")]
    format: FormatArg,
    /// Let the edit fill the zeros of a pruned matrix, as the paper's does. Otherwise they stay,
    /// and the weights beside them take the whole of the edit along the direction.
    #[arg(long)]
    fill_zeros: bool,
    /// Replace what exists.
    #[arg(long)]
    force: bool,
    /// Print what would be written and how long it would take, and write nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    restore: RestoreArgs,
    #[command(flatten)]
    search: SearchArgs,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

/// Both halves of a block.
const PARTS: [PartArg; 2] = [PartArg::Attention, PartArg::Mlp];

/// How an adapter is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FormatArg {
    Gguf,
    Peft,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PartArg {
    Attention,
    Mlp,
}

impl Verb for Repair {
    fn paths(&self) -> Paths {
        let target = match (&self.lora, self.in_place) {
            // A folder is checked by the verb.
            (Some(_), _) if self.format == FormatArg::Peft => None,
            (Some(lora), _) => Some(lora.clone()),
            (None, true) => None,
            (None, false) => Some(self.output()),
        };
        let read = std::iter::once(&self.model)
            .chain(&self.direction)
            .chain(&self.reference)
            .chain(&self.restore.data);
        self.search
            .paths()
            .reads(read)
            .writes(target.iter().chain(&self.keep_direction))
            .with(self.force, self.dry_run)
    }

    fn models(&mut self) -> Result<Vec<&mut PathBuf>> {
        if is_checkpoint(&self.model) {
            if self.in_place {
                bail!(
                    "{} is a Hugging Face folder, which is not changed in place\n\
                     hint: -o names a new file",
                    self.model.display()
                );
            }
            if self.output.is_none() && self.lora.is_none() {
                bail!(
                    "{} is a Hugging Face folder, and the repaired model is a file\n\
                     hint: -o names it",
                    self.model.display()
                );
            }
        }
        Ok(std::iter::once(&mut self.model).chain(&mut self.reference).collect())
    }

    fn run(self, ui: &Ui) -> Result<()> {
        let request = self.request()?;
        self.warn_of_unused(ui);
        let result = run(&request, ui);
        if let Err(Stopped::NothingHelps(report)) = &result {
            self.print_nothing_helps(ui, report)?;
        }
        self.print(ui, &or_stop_report(ui, self.json, result)?)
    }
}

impl PartArg {
    fn part(self) -> Part {
        match self {
            PartArg::Attention => Part::Attention,
            PartArg::Mlp => Part::Mlp,
        }
    }
}

fn parse_storage(name: &str) -> Result<Storage, String> {
    match (name, GgmlType::from_name(name)) {
        ("auto", _) => Ok(Storage::Auto),
        ("keep", _) => Ok(Storage::Keep),
        (_, Some(ty @ (GgmlType::Q8_0 | GgmlType::F16))) => Ok(Storage::Named(ty)),
        _ => Err("expected auto, keep, q8_0 or f16".into()),
    }
}
