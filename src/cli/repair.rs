//! `aird repair`: AIRD at a given block and strength.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::output::{FileReport, OutputArgs, no_sha256, sha256_of};
use super::text::table;
use super::ui::Ui;
use crate::direction::Direction;
use crate::gguf::{
    GgmlType, Layout, Model, Patch, Rewrite, ShardName, Step, check_output, check_patch, hex,
};
use crate::llama::architecture::Part;
use crate::repair::{Edit, Edited, Storage, adapter, apply, edit, replacement};

/// Strengthen what blocks of a compressed model write along the original's refusal direction
#[derive(Debug, Args)]
pub struct Repair {
    /// A GGUF file; any shard of a split one.
    model: PathBuf,
    /// The ORIGINAL model's direction: of aird direction, run on the model before it was
    /// compressed.
    #[arg(long, value_name = "DIR")]
    direction: PathBuf,
    /// Blocks to edit, as 18 or 17,18.
    #[arg(long, required = true, value_delimiter = ',', value_name = "LIST")]
    block: Vec<u32>,
    /// How much stronger: 1 doubles what the block writes along the direction. Above 0.
    #[arg(long, allow_negative_numbers = true, value_name = "X")]
    alpha: f64,
    /// Which halves of a block.
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_values_t = [PartArg::Attention, PartArg::Mlp]
    )]
    parts: Vec<PartArg>,
    /// Type of the edited tensors: auto, keep, q8_0 or f16. auto keeps each one's own unless too
    /// much of the edit is lost in it.
    #[arg(long = "type", value_parser = parse_storage, default_value = "auto", value_name = "TYPE")]
    storage: Storage,
    /// The file to write; default: the model's name with -AIRD before the quant's.
    #[arg(short, long, value_name = "OUT", conflicts_with_all = ["in_place", "lora"])]
    output: Option<PathBuf>,
    /// Change the model's own file, a journal for aird undo written first.
    #[arg(long, conflicts_with = "lora")]
    in_place: bool,
    /// Write the edit as a LoRA adapter, and no model.
    #[arg(long, value_name = "FILE")]
    lora: Option<PathBuf>,
    /// Replace what exists.
    #[arg(long)]
    force: bool,
    /// Print what would be written, and write nothing.
    #[arg(long)]
    dry_run: bool,
    /// Edit models of unknown architectures too, as if no norm followed what they write.
    #[arg(long)]
    any_architecture: bool,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PartArg {
    Attention,
    Mlp,
}

/// What `aird repair --json` prints.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Files that were (with `--dry-run`, would be) written or changed.
    pub files: Vec<FileReport>,
    /// True if nothing was written.
    pub dry_run: bool,
    /// Where the old bytes are kept, for `--in-place`.
    pub journals: Vec<String>,
    /// The edited tensors; none for an adapter.
    pub tensors: Vec<TensorReport>,
}

/// One edited tensor.
#[derive(Debug, Serialize)]
pub struct TensorReport {
    /// Its name.
    pub name: String,
    /// Its type before.
    pub from: String,
    /// Its type after.
    pub to: String,
    /// The alpha that is really in the file.
    pub realised_alpha: f64,
    /// What rounding added, relative to the tensor (Frobenius).
    pub noise: f64,
    /// The same of the type's own rounding.
    pub own_noise: f64,
}

impl Repair {
    pub fn run(self, ui: &Ui) -> Result<()> {
        let model = Model::open(&self.model)?;
        let direction = Direction::read(&self.direction)?;
        let unit = direction.unit()?;
        if self.in_place {
            check_patch(&model)?;
        }
        let output = self.output();
        let target = self.lora.as_ref().or((!self.in_place).then_some(&output));
        if let Some(target) = target.filter(|_| !self.dry_run) {
            let shards = model.shards().iter().map(|s| s.path.as_path());
            let inputs: Vec<&Path> = shards.chain([self.direction.as_path()]).collect();
            check_output(target, self.force, &inputs)?;
        }
        let parts: Vec<Part> = self.parts.iter().map(|p| p.part()).collect();
        let mut blocks = self.block.clone();
        blocks.sort_unstable();
        blocks.dedup();
        let asked = Edit {
            unit: &unit,
            alpha: self.alpha,
            blocks: &blocks,
            parts: &parts,
            storage: self.storage,
            any_architecture: self.any_architecture,
        };
        let edited = edit(&model, asked, &ui.progress())?;
        if let Some(path) = &self.lora {
            return self.write_adapter(ui, &model, asked, &edited, path);
        }
        self.tell(ui, &edited);
        let direction = hex(&Sha256::digest(std::fs::read(&self.direction)?));
        let step = self.step(&edited, &blocks, &direction);
        match self.in_place {
            true => self.patch(ui, model, &edited, step),
            false => self.rewrite(ui, &model, &edited, step, output),
        }
    }

    fn rewrite(
        &self,
        ui: &Ui,
        model: &Model,
        edited: &[Edited],
        step: Step,
        output: PathBuf,
    ) -> Result<()> {
        let mut rewrite = Rewrite::new(model, Layout::Single);
        apply(&mut rewrite, edited)?;
        let (force, dry_run, keep_shards) = (self.force, self.dry_run, false);
        let out = OutputArgs { output, force, dry_run, keep_shards };
        let files = if dry_run {
            rewrite.record(step.source("model", &no_sha256()));
            out.plan(ui, &rewrite, self.json)?
        } else {
            rewrite.record(step.source("model", &sha256_of(ui, model)?));
            out.write(ui, rewrite)?
        };
        self.print(ui, files, Vec::new(), edited)
    }

    /// No hash of the source: an edit in place costs what it changes, not what the file holds.
    fn patch(&self, ui: &Ui, model: Model, edited: &[Edited], step: Step) -> Result<()> {
        if let Some(other) = edited.iter().find(|e| e.from != e.to) {
            bail!(
                "{} would have to become {} to hold the edit, which changes the file's size\n\
                 hint: a new file with -o, or --type keep",
                other.name,
                other.to
            );
        }
        if self.dry_run {
            return self.print(ui, Vec::new(), Vec::new(), edited);
        }
        let mut patch = Patch::new(&model);
        for one in edited {
            patch.replace(&one.name, replacement(one))?;
        }
        let progress = ui.progress();
        let ready = patch.produce(&progress)?;
        drop(model);
        let patched = ready.apply(Some(step), &progress)?;
        drop(progress);
        let model = Model::open(&self.model)?;
        for one in edited {
            let same = model.tensor(&one.name).is_some_and(|t| t.data() == one.bytes);
            if !same {
                bail!(
                    "{} is not as it was written\nhint: aird undo {}",
                    one.name,
                    self.model.display()
                );
            }
        }
        if patched.files.is_empty() {
            ui.say("nothing to change: the file holds these very bytes");
            return self.print(ui, Vec::new(), Vec::new(), edited);
        }
        if !patched.in_history {
            ui.say("the header has no room for the step: it is in the journal alone");
        }
        let journals = patched.journals.iter().map(|p| p.display().to_string()).collect();
        ui.say(format_args!("changed {}; aird undo takes it back", self.model.display()));
        let file = |path: &PathBuf| FileReport {
            path: path.display().to_string(),
            bytes: std::fs::metadata(path).map_or(0, |m| m.len()),
        };
        self.print(ui, patched.files.iter().map(file).collect(), journals, edited)
    }

    fn write_adapter(
        &self,
        ui: &Ui,
        model: &Model,
        asked: Edit<'_>,
        edited: &[Edited],
        path: &Path,
    ) -> Result<()> {
        let file = adapter(model, asked)?;
        if edited.iter().any(|e| e.name.ends_with(".bias")) {
            ui.warn("an adapter reaches no biases: theirs is left out of the edit");
        }
        if !self.dry_run {
            file.write(path)?;
            ui.say(format_args!("wrote {}", path.display()));
        }
        let bytes = file.encode().len() as u64;
        let files = vec![FileReport { path: path.display().to_string(), bytes }];
        self.print(ui, files, Vec::new(), &[])
    }

    /// `Model-Q4_K_M.gguf` -> `Model-AIRD-Q4_K_M.gguf`: who downloads selects by the quant's name.
    fn output(&self) -> PathBuf {
        self.output.clone().unwrap_or_else(|| repaired_name(&self.model))
    }

    fn tell(&self, ui: &Ui, edited: &[Edited]) {
        for e in edited.iter().filter(|e| e.from != e.to) {
            let why = match self.storage {
                Storage::Auto => format!("too much is lost in {}", e.from),
                Storage::Named(ty) if ty == e.to => "as asked".into(),
                _ => "its rows do not fit the type asked for".into(),
            };
            ui.say(format_args!("{} becomes {}: {why}", e.name, e.to));
        }
    }

    fn step(&self, edited: &[Edited], blocks: &[u32], direction: &str) -> Step {
        let realised = edited.iter().map(|e| (e.realised_alpha * 1e4).round() / 1e4);
        let parts: Vec<&str> = self.parts.iter().map(|p| p.part().name()).collect();
        Step::new("repair")
            .parameter("alpha", self.alpha)
            .parameter("blocks", blocks.to_vec())
            .parameter("parts", parts)
            .parameter("type", storage_name(self.storage))
            .parameter("realised", realised.collect::<Vec<f64>>())
            .source("direction", direction)
            .changed(edited.iter().map(|e| e.name.as_str()))
    }

    fn print(
        &self,
        ui: &Ui,
        files: Vec<FileReport>,
        journals: Vec<String>,
        edited: &[Edited],
    ) -> Result<()> {
        let tensor = |e: &Edited| TensorReport {
            name: e.name.clone(),
            from: e.from.to_string(),
            to: e.to.to_string(),
            realised_alpha: e.realised_alpha,
            noise: e.noise,
            own_noise: e.own_noise,
        };
        let tensors = edited.iter().map(tensor).collect();
        if self.json {
            return ui.print_json(&Report { files, dry_run: self.dry_run, journals, tensors });
        }
        let mut rows = vec![["tensor", "type", "alpha", "realised"].map(String::from).to_vec()];
        for e in edited {
            let ty =
                if e.from == e.to { e.to.to_string() } else { format!("{} -> {}", e.from, e.to) };
            let [asked, realised] = [self.alpha, e.realised_alpha].map(|x| format!("{x:.3}"));
            rows.push(vec![e.name.clone(), ty, asked, realised]);
        }
        if rows.len() == 1 { Ok(()) } else { ui.print(table(&rows, &[2, 3], "")) }
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

fn storage_name(storage: Storage) -> String {
    match storage {
        Storage::Auto => "auto".into(),
        Storage::Keep => "keep".into(),
        Storage::Named(ty) => ty.name().to_lowercase(),
    }
}

/// The model's name with `-AIRD` before its last part, if that names a quant; else at its end.
fn repaired_name(model: &Path) -> PathBuf {
    // Shards are joined: the new file is not one of several.
    let shard = ShardName::parse(model).map(|shard| shard.prefix);
    let stem = match &shard {
        Some(prefix) => prefix.file_name(),
        None => model.file_stem(),
    };
    let stem = stem.unwrap_or_default().to_string_lossy().into_owned();
    let is_quant = |part: &str| {
        let part = part.to_uppercase();
        let sizes = ["_XXS", "_XS", "_XL", "_S", "_M", "_L", "_MOE"];
        let bare = sizes.iter().find_map(|size| part.strip_suffix(size)).unwrap_or(&part);
        let known = ["IQ1", "IQ2", "IQ3", "FP16", "FP32"].contains(&bare);
        known || [&part, bare].into_iter().any(|name| GgmlType::from_name(name).is_some())
    };
    let (base, quant) = match stem.rsplit_once(['-', '.']) {
        Some((base, quant)) if is_quant(quant) => (base.to_owned(), format!("-{quant}")),
        _ => (stem, String::new()),
    };
    model.with_file_name(format!("{base}-AIRD{quant}.gguf"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_stands_before_the_quant() {
        for (model, repaired) in [
            ("a/Model-Q4_K_M.gguf", "a/Model-AIRD-Q4_K_M.gguf"),
            ("Model.Q8_0.gguf", "Model-AIRD-Q8_0.gguf"),
            ("Model-Instruct.gguf", "Model-Instruct-AIRD.gguf"),
            ("model.gguf", "model-AIRD.gguf"),
            ("qwen2.5-7b-instruct-q4_k_m.gguf", "qwen2.5-7b-instruct-AIRD-q4_k_m.gguf"),
            ("M-IQ3_XS.gguf", "M-AIRD-IQ3_XS.gguf"),
            ("M-Q4_K_M-00001-of-00003.gguf", "M-AIRD-Q4_K_M.gguf"),
        ] {
            assert_eq!(repaired_name(Path::new(model)), Path::new(repaired));
        }
    }
}
