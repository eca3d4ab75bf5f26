//! `aird repair`: AIRD, at blocks and a strength that are searched for or given.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::direction::find_in;
use super::exit::GateFailed;
use super::output::{FileReport, OutputArgs, no_sha256, sha256_of};
use super::search::{Alpha, Blocks, Question, SearchArgs};
use super::text::table;
use super::ui::Ui;
use crate::direction::Direction;
use crate::gguf::{
    GgmlType, Layout, Model, Patch, Rewrite, ShardName, Step, check_output, check_patch, hex,
    write_file,
};
use crate::llama::architecture::Part;
use crate::repair::{
    Edit, Edited, Half, Storage, adapter, apply, check, edit, halves_text, replacement,
};
use crate::report::search::SearchReport;

/// Strengthen what blocks of a compressed model write along the original's refusal direction
#[derive(Debug, Args)]
pub struct Repair {
    /// A GGUF file; any shard of a split one.
    model: PathBuf,
    /// The ORIGINAL model's direction: of aird direction, run on the model before it was
    /// compressed.
    #[arg(long, value_name = "DIR", required_unless_present = "reference")]
    direction: Option<PathBuf>,
    /// The original model itself: its direction is found first.
    #[arg(long, value_name = "MODEL", conflicts_with = "direction")]
    reference: Option<PathBuf>,
    /// Keep the direction that was found in the reference.
    #[arg(long, value_name = "DIR", requires = "reference")]
    keep_direction: Option<PathBuf>,
    /// Blocks to edit, as 18 or 17,18:mlp; auto searches for them.
    #[arg(long, default_value = "auto", value_name = "LIST|auto")]
    block: Blocks,
    /// How much stronger: 1 doubles what a block writes along the direction. Above 0; auto
    /// searches for it.
    #[arg(long, default_value = "auto", allow_negative_numbers = true, value_name = "X|auto")]
    alpha: Alpha,
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
    #[command(flatten)]
    search: SearchArgs,
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
    /// The edited blocks or halves of them; none where nothing helps.
    pub blocks: Vec<String>,
    /// The strength; null where nothing helps.
    pub alpha: Option<f64>,
    /// What was tried; null where both were given.
    pub search: Option<SearchReport>,
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

/// The edit that was asked for, or found.
struct Chosen {
    halves: Vec<Half>,
    alpha: f64,
    /// sha256 of the direction's file.
    direction_sha256: String,
    search: Option<SearchReport>,
}

impl Repair {
    pub fn run(self, ui: &Ui) -> Result<()> {
        let model = Model::open(&self.model)?;
        if self.in_place {
            check_patch(&model)?;
        }
        self.check_outputs(&model)?;
        self.search.check()?;
        let parts: Vec<Part> = self.parts.iter().map(|p| p.part()).collect();
        let (direction, direction_sha256) = self.direction(ui)?;
        let unit = direction.unit()?;
        let given = self.block.0.clone().map(|halves| of_parts(halves, &parts)).transpose()?;
        let storage = self.storage;
        let any_architecture = self.any_architecture;
        // Before the search, which takes minutes: what would be refused after it.
        let (halves, alpha) = (given.as_deref().unwrap_or_default(), self.alpha.0.unwrap_or(1.0));
        check(&model, Edit { unit: &unit, alpha, halves, storage, any_architecture })?;
        let (halves, alpha, search) = match (given, self.alpha.0) {
            (Some(halves), Some(alpha)) => (halves, alpha, None),
            (halves, alpha) => {
                let direction_sha256 = direction_sha256.as_str();
                let (direction, parts) = (&direction, &parts[..]);
                let question = Question { direction, direction_sha256, halves, alpha, parts };
                let answer = self.search.search(ui, (&self.model, &model), &question)?;
                let Some((halves, alpha)) = answer.chosen else {
                    return self.nothing_helps(ui, answer.report);
                };
                (halves, alpha, Some(answer.report))
            }
        };
        let asked = Edit { unit: &unit, alpha, halves: &halves, storage, any_architecture };
        let edited = edit(&model, asked, &ui.progress())?;
        let chosen = Chosen { halves: halves.clone(), alpha, direction_sha256, search };
        if let Some(path) = &self.lora {
            return self.write_adapter(ui, &model, (asked, &chosen), &edited, path);
        }
        self.tell(ui, &edited);
        match self.in_place {
            true => self.patch(ui, model, &edited, &chosen),
            false => self.rewrite(ui, &model, &edited, &chosen),
        }
    }

    /// Looks at every file to be written before anything that takes time.
    fn check_outputs(&self, model: &Model) -> Result<()> {
        if self.dry_run {
            return Ok(());
        }
        let output = self.output();
        let target = self.lora.as_ref().or((!self.in_place).then_some(&output));
        let shards = model.shards().iter().map(|s| s.path.as_path());
        let read = self.direction.iter().chain(&self.reference).map(PathBuf::as_path);
        let inputs: Vec<&Path> = shards.chain(read).collect();
        for path in target.into_iter().chain(&self.keep_direction).chain(self.search.front()) {
            check_output(path, self.force, &inputs)?;
        }
        Ok(())
    }

    /// The original model's direction, read or found, with the sha256 of its file.
    fn direction(&self, ui: &Ui) -> Result<(Direction, String)> {
        let Some(reference) = &self.reference else {
            let path = self.direction.as_deref().context("no --direction and no --reference")?;
            let sha256 = hex(&Sha256::digest(std::fs::read(path).unwrap_or_default()));
            return Ok((Direction::read(path)?, sha256));
        };
        let (chat, engine) = self.search.engine();
        let direction = find_in(ui, reference, chat, engine)?;
        let bytes = direction.encode()?;
        if let Some(path) = self.keep_direction.as_ref().filter(|_| !self.dry_run) {
            write_file(path, &bytes)?;
            ui.say(format_args!("wrote {}", path.display()));
        }
        Ok((direction, hex(&Sha256::digest(&bytes))))
    }

    fn nothing_helps(&self, ui: &Ui, report: SearchReport) -> Result<()> {
        let compressed = report.compressed.refusal;
        if self.json {
            let (files, journals, tensors) = (Vec::new(), Vec::new(), Vec::new());
            let (dry_run, blocks, alpha, search) = (self.dry_run, Vec::new(), None, Some(report));
            ui.print_json(&Report { files, dry_run, journals, tensors, blocks, alpha, search })?;
        }
        Err(GateFailed::new(format!(
            "nothing that was tried refuses more than {} of {} harmful prompts within the budget; \
             nothing was written\n\
             hint: a higher --max-false-refusal, --max-kl or --max-blocks, or a milder compression",
            compressed.k, compressed.n
        ))
        .into())
    }

    fn rewrite(&self, ui: &Ui, model: &Model, edited: &[Edited], chosen: &Chosen) -> Result<()> {
        let (output, step) = (self.output(), self.step(edited, chosen));
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
        self.print(ui, files, Vec::new(), edited, chosen)
    }

    /// No hash of the source: an edit in place costs what it changes, not what the file holds.
    fn patch(&self, ui: &Ui, model: Model, edited: &[Edited], chosen: &Chosen) -> Result<()> {
        if let Some(other) = edited.iter().find(|e| e.from != e.to) {
            bail!(
                "{} would have to become {} to hold the edit, which changes the file's size\n\
                 hint: a new file with -o, or --type keep",
                other.name,
                other.to
            );
        }
        if self.dry_run {
            return self.print(ui, Vec::new(), Vec::new(), edited, chosen);
        }
        let mut patch = Patch::new(&model);
        for one in edited {
            patch.replace(&one.name, replacement(one))?;
        }
        let progress = ui.progress();
        let ready = patch.produce(&progress)?;
        drop(model);
        let patched = ready.apply(Some(self.step(edited, chosen)), &progress)?;
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
            return self.print(ui, Vec::new(), Vec::new(), edited, chosen);
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
        self.print(ui, patched.files.iter().map(file).collect(), journals, edited, chosen)
    }

    fn write_adapter(
        &self,
        ui: &Ui,
        model: &Model,
        (asked, chosen): (Edit<'_>, &Chosen),
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
        self.print(ui, files, Vec::new(), &[], chosen)
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

    fn step(&self, edited: &[Edited], chosen: &Chosen) -> Step {
        let realised = edited.iter().map(|e| (e.realised_alpha * 1e4).round() / 1e4);
        Step::new("repair")
            .parameter("alpha", chosen.alpha)
            .parameter("blocks", halves_text(&chosen.halves))
            .parameter("type", storage_name(self.storage))
            .parameter("realised", realised.collect::<Vec<f64>>())
            .source("direction", &chosen.direction_sha256)
            .changed(edited.iter().map(|e| e.name.as_str()))
    }

    fn print(
        &self,
        ui: &Ui,
        files: Vec<FileReport>,
        journals: Vec<String>,
        edited: &[Edited],
        chosen: &Chosen,
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
            let (blocks, alpha) = (halves_text(&chosen.halves), Some(chosen.alpha));
            let (dry_run, search) = (self.dry_run, chosen.search.clone());
            let report = Report { files, dry_run, journals, tensors, blocks, alpha, search };
            return ui.print_json(&report);
        }
        let mut rows = vec![["tensor", "type", "alpha", "realised"].map(String::from).to_vec()];
        for e in edited {
            let ty =
                if e.from == e.to { e.to.to_string() } else { format!("{} -> {}", e.from, e.to) };
            let [asked, realised] = [chosen.alpha, e.realised_alpha].map(|x| format!("{x:.3}"));
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

/// Those of `halves` that are in `parts`.
fn of_parts(mut halves: Vec<Half>, parts: &[Part]) -> Result<Vec<Half>> {
    halves.retain(|half| parts.contains(&half.part));
    match halves.is_empty() {
        true => bail!("--block and --parts leave nothing to edit"),
        false => Ok(halves),
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
