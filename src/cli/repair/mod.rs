//! `aird repair`: AIRD, at blocks and a strength that are searched for or given.

mod aim;
mod beside;
mod report;
mod restore;
mod restored;
mod texts;
mod ways;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{ArgGroup, Args, ValueEnum};
use sha2::{Digest, Sha256};

use aim::Aim;
pub use report::{Report, TensorReport};
use restore::{Method, RestoreArgs};

use super::args::output_path;
use super::direction::find_in;
use super::exit::GateFailed;
use super::output::sha256_of;
use super::paths::{Paths, Verb};
use super::search::{Alpha, Blocks, Goal, Question, SearchArgs, as_original};
use super::text::counted;
use super::ui::Ui;
use crate::direction::Direction;
use crate::gguf::{
    GgmlType, Model, ShardName, check_patch, check_room, hex, split_ending, write_file,
};
use crate::llama::graph::{Part, Structure, Writer};
use crate::prompts;
use crate::repair::{
    Arrived, Asked, Edit, Half, Storage, Zeros, arrivals, check, check_asked, halves_text,
};
use crate::report::search::SearchReport;

/// Prompts of each kind that what norms leave is measured on.
const N_MEASURED: usize = 8;

/// Bring a compressed model back to its original, or strengthen its refusal direction
///
/// With the original as --reference every matrix of the blocks is refitted to what the original
/// computes, on the zeros and in the types that the file has. Where the restored model refuses less
/// of held-out prompts than the original, aird then looks for the smallest edit along the
/// original's refusal direction that makes up for it. It writes MODEL-AIRD-Q4_K_M.gguf, and
/// llama.cpp runs it as a check. It takes minutes to hours; blocks that are done lie beside the
/// output, in OUT.aird-part, until all are.
///
/// With a --direction alone, or --method aird, blocks of the model write more along the original's
/// refusal direction: which ones and how strongly is searched for. Where nothing helps within the
/// budget the tries are printed, nothing is written, and the exit code is 3.
///
/// With --in-place the model's own file is changed, and aird undo takes that back byte for byte.
/// With --lora no model is written but an adapter, for llama.cpp's --lora: the edit, or, with
/// --reference, a correction of each matrix towards the original, of rank --rank.
#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("of").required(true).multiple(true).args(["direction", "reference"])
)]
pub struct Repair {
    /// A GGUF file; any shard of a split one.
    model: PathBuf,
    /// The original model itself, from before it was compressed. Its direction is found where an
    /// edit along it is looked for, unless --direction gives it.
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
    /// Blocks to edit, as 18 or 17,18:mlp; auto searches for them.
    #[arg(long, default_value = "auto", value_name = "LIST|auto")]
    block: Blocks,
    /// How much stronger: 1 doubles what a block writes along the direction. Above 0; auto
    /// searches for it.
    #[arg(long, default_value = "auto", allow_hyphen_values = true, value_name = "X|auto")]
    alpha: Alpha,
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
    /// Change the model's own file, a journal for aird undo written first. What was changed is read
    /// anew and the edit looked for.
    ///
    /// A link is followed: in a download cache it is the cache's own file that changes, for all who
    /// use it. A program that has the file mapped sees the change while it runs.
    #[arg(long, conflicts_with = "lora")]
    in_place: bool,
    /// Let llama.cpp run what was changed in place, and look at the whole file for numbers that are
    /// none. A new file and an adapter are always run.
    #[arg(long, requires = "in_place")]
    verify: bool,
    /// Write a LoRA adapter, and no model.
    #[arg(long, value_name = "FILE", value_parser = output_path())]
    lora: Option<PathBuf>,
    /// Let the edit fill the zeros of a pruned matrix, as the paper's does. Otherwise they stay,
    /// and the weights beside them take the whole of the edit along the direction.
    #[arg(long)]
    fill_zeros: bool,
    /// Replace what exists.
    #[arg(long)]
    force: bool,
    /// Print what would be written, and write nothing.
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

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PartArg {
    Attention,
    Mlp,
}

/// The edit that was asked for, or found.
struct Chosen {
    halves: Vec<Half>,
    alpha: f64,
    /// sha256 of the direction's file.
    direction_sha256: String,
    /// sha256 of the model, where it was taken.
    model_sha256: Option<String>,
    search: Option<SearchReport>,
    /// What arrives of it after norms.
    after_norms: Vec<Arrived>,
}

impl Chosen {
    /// What asks for it without a search.
    fn arguments(&self) -> String {
        format!("--block {} --alpha {}", halves_text(&self.halves).join(","), self.alpha)
    }
}

impl Verb for Repair {
    fn paths(&self) -> Paths {
        let target = match (&self.lora, self.in_place) {
            (Some(lora), _) => Some(lora.clone()),
            (None, true) => None,
            (None, false) => Some(self.output()),
        };
        let read = std::iter::once(&self.model)
            .chain(&self.direction)
            .chain(&self.reference)
            .chain(self.restore.data());
        self.search
            .paths()
            .reads(read)
            .writes(target.iter().chain(&self.keep_direction))
            .with(self.force, self.dry_run)
    }

    fn run(self, ui: &Ui) -> Result<()> {
        match (self.restore.method(self.reference.is_some()), &self.reference) {
            (Method::Restore, Some(reference)) => self.restore(ui, reference),
            (Method::Restore, None) => {
                bail!("--method restore needs --reference: the original model itself")
            }
            (Method::Aird, _) => match self.restore.of_restore() {
                Some(option) => bail!("{option} is of --method restore, this is --method aird"),
                None => self.strengthen(ui),
            },
        }
    }
}

impl Repair {
    /// The paper's repair.
    fn strengthen(&self, ui: &Ui) -> Result<()> {
        let model = Model::open(&self.model)?;
        let parts: Vec<Part> = self.parts.iter().map(|p| p.part()).collect();
        let given = self.block.0.clone().map(|halves| of_parts(halves, &parts)).transpose()?;
        let structure = &ui.prober().structure(&model)?;
        self.check(ui, &model, structure, (given.as_deref(), &parts))?;
        let (direction, direction_sha256) = self.direction(ui)?;
        let unit = direction.unit()?;
        let storage = match (self.in_place, self.storage) {
            // Another type would be of another size.
            (true, Storage::Auto) => Storage::Keep,
            (_, storage) => storage,
        };
        // Before the search, which takes minutes: what would be refused after it.
        let (halves, alpha) = (given.as_deref().unwrap_or_default(), self.alpha.0.unwrap_or(1.0));
        let zeros = if self.fill_zeros { Zeros::Fill } else { Zeros::Keep };
        check(&model, Edit { unit: &unit, alpha, halves, storage, zeros, structure })?;
        let model_sha256 = self.check_direction(ui, &model, &direction)?;
        let (halves, alpha, search) = match (given, self.alpha.0) {
            (Some(halves), Some(alpha)) => (halves, alpha, None),
            (halves, alpha) => {
                let direction_sha256 = direction_sha256.as_str();
                let (direction, parts) = (&direction, &parts[..]);
                let (dry_run, json) = (self.dry_run, self.json);
                let question = Question {
                    direction,
                    direction_sha256,
                    halves,
                    alpha,
                    parts,
                    goal: self.goal_of_edit(ui, &model)?,
                    start: "unrepaired",
                    dry_run,
                    json,
                };
                let answer = self.search.search(ui, (&self.model, &model), &question)?;
                let Some((halves, alpha)) = answer.chosen else {
                    return self.nothing_helps(ui, answer.report);
                };
                (halves, alpha, Some(answer.report))
            }
        };
        let asked = Edit { unit: &unit, alpha, halves: &halves, storage, zeros, structure };
        let halves_too = halves.clone();
        let after_norms = Vec::new();
        let mut chosen = Chosen {
            halves: halves_too,
            alpha,
            direction_sha256,
            model_sha256,
            search,
            after_norms,
        };
        if chosen.search.is_some() {
            ui.say(format_args!("the same without a search: {}", chosen.arguments()));
        }
        if let Some(path) = &self.lora {
            chosen.after_norms = self.after_norms(ui, &model, asked);
            return self.write_adapter(ui, &model, (asked, &chosen), path);
        }
        let edited = self.edit(ui, &model, asked, &chosen)?;
        chosen.after_norms = self.after_norms(ui, &model, asked);
        match self.in_place {
            true => self.patch(ui, model, &edited, &chosen),
            false => self.rewrite(ui, &model, &edited, &chosen),
        }
    }

    /// What the search of --method aird looks for.
    fn goal_of_edit(&self, ui: &Ui, model: &Model) -> Result<Goal> {
        let aim = self.restore.aim_of_edit(self.reference.is_some())?;
        let Some(reference) = self.reference.as_ref().filter(|_| aim == Aim::Original) else {
            return Ok(Goal::Strongest { before: None });
        };
        match self.answers(ui, &Model::open(reference)?, model)? {
            Some((original, before)) => Ok(Goal::Original { original, before }),
            None => bail!(
                "the model thinks before it answers, and how much its original refuses does not \
                 show\nhint: --aim strongest"
            ),
        }
    }

    /// Everything that can be seen before a direction is looked for, which may take minutes.
    fn check(
        &self,
        ui: &Ui,
        model: &Model,
        structure: &Structure,
        (given, parts): (Option<&[Half]>, &[Part]),
    ) -> Result<()> {
        if self.in_place {
            check_patch(model)?;
        } else if self.lora.is_none() && !self.dry_run {
            // Types may grow; most stay.
            check_room(&self.output(), model.file_bytes())?;
        }
        self.search.check()?;
        let aim = self.restore.aim_of_edit(self.reference.is_some())?;
        if aim == Aim::None {
            bail!("--aim none is of --method restore, this is --method aird");
        }
        self.check_limits(aim)?;
        let (alpha, halves) = (self.alpha.0.unwrap_or(1.0), given.unwrap_or_default());
        check_asked(Asked { alpha, halves, structure })?;
        if let (true, Storage::Named(ty)) = (self.in_place, self.storage) {
            check_types(model, structure, (given, parts), ty)?;
        }
        if let Some(reference) = &self.reference {
            self.check_reference(model, reference)?;
        }
        let all_given = given.is_some() && self.alpha.0.is_some();
        let of_search = self.restore.has_aim().then_some("--aim").or(self.search.of_search());
        if let Some(option) = of_search.filter(|_| all_given) {
            ui.warn(format_args!("nothing is searched for: {option} is not used"));
        }
        Ok(())
    }

    /// The original is a model of the same shape.
    fn check_reference(&self, model: &Model, reference: &Path) -> Result<()> {
        let other = Model::open(reference)?;
        let what = |m: &Model| -> Result<String> {
            let n_embd = m.needed_hparam("embedding_length")?;
            let n_block = counted(m.needed_hparam("block_count")?, "block");
            Ok(format!("{}, {n_embd} wide, {n_block}", m.architecture()))
        };
        let (found, expected) = (what(&other)?, what(model)?);
        match found == expected {
            true => Ok(()),
            false => bail!(
                "the reference {} is {found}; the model is {expected}\n\
                 hint: the reference is the very model that was compressed",
                reference.display()
            ),
        }
    }

    /// Is the direction of this model's original? The model's sha256, where it is needed.
    fn check_direction(
        &self,
        ui: &Ui,
        model: &Model,
        direction: &Direction,
    ) -> Result<Option<String>> {
        let about = &direction.about;
        let (found, expected) = (about.architecture.as_str(), model.architecture());
        if !found.is_empty() && found != expected {
            bail!(
                "the direction is of a model of architecture '{found}', this one is '{expected}'\n\
                 hint: of this one's original: aird direction ORIGINAL -o DIR"
            );
        }
        let (found, expected) = (direction.candidates.n_layer as u64, model.hparam("block_count")?);
        if let Some(expected) = expected.filter(|n| *n != found) {
            let found = counted(found, "block");
            ui.warn(format_args!(
                "the direction is of a model of {found}, this one has {expected}"
            ));
        }
        // A plan reads no tensors, and a change in place none that it leaves alone.
        if self.in_place || self.dry_run {
            return Ok(None);
        }
        let sha256 = sha256_of(ui, model)?;
        if sha256 == about.model_sha256 {
            ui.warn(
                "the direction was found in this very model; a repair takes that of the original, \
                 from before it was compressed",
            );
        }
        Ok(Some(sha256))
    }

    /// The original model's direction, read or found, with the sha256 of its file.
    fn direction(&self, ui: &Ui) -> Result<(Direction, String)> {
        if let Some(path) = &self.direction {
            let sha256 = hex(&Sha256::digest(std::fs::read(path).unwrap_or_default()));
            return Ok((Direction::read(path)?, sha256));
        }
        let reference = self.reference.as_ref().context("no --direction and no --reference")?;
        let (chat, engine) = self.search.engine();
        let direction = find_in(ui, reference, chat, engine)?;
        let bytes = direction.encode()?;
        if let Some(path) = self.keep_direction.as_ref().filter(|_| !self.dry_run) {
            write_file(path, &bytes)?;
            ui.say(format_args!("wrote {}", path.display()));
        }
        Ok((direction, hex(&Sha256::digest(&bytes))))
    }

    /// What norms leave of the edit; a model that cannot be asked is repaired all the same.
    fn after_norms(&self, ui: &Ui, model: &Model, asked: Edit<'_>) -> Vec<Arrived> {
        let edited = |writer: &&Writer| asked.halves.contains(&Half::of(writer));
        let mut writers = asked.structure.writers().filter(edited);
        if self.dry_run || !writers.any(Writer::is_normed) {
            return Vec::new();
        }
        let measured = || -> Result<Vec<Arrived>> {
            let engine = self.search.engine().1.load(ui, model)?;
            let train = prompts::Part::Train;
            let prompts = [prompts::harmful(train), prompts::harmless(train)];
            let texts = prompts.iter().flat_map(|set| set.texts().take(N_MEASURED));
            let tokens: Vec<Vec<i32>> = texts.map(|text| engine.tokenize(text, true)).collect();
            let tokens: Vec<&[i32]> = tokens.iter().map(Vec::as_slice).collect();
            Ok(arrivals((model, &engine), asked, &tokens)?)
        };
        let warn = |arrived: &Arrived| {
            ui.warn(format_args!(
                "{}: its norm lets more astray ({:.1} times) than it adds along the direction\n\
                 hint: a later block",
                arrived.tensor, arrived.astray
            ));
        };
        let measured = measured();
        measured.iter().flatten().filter(|arrived| arrived.astray > 1.0).for_each(warn);
        measured.unwrap_or_else(|error| {
            ui.warn(format_args!("what norms leave of the edit was not measured: {error}"));
            Vec::new()
        })
    }

    fn nothing_helps(&self, ui: &Ui, report: SearchReport) -> Result<()> {
        let compressed = report.compressed.refusal;
        let (k, n) = (compressed.k, compressed.n);
        let original = report.original.as_ref().map(|original| original.refusal.k);
        if self.json {
            let direction_sha256 = report.direction_sha256.clone();
            let (dry_run, search) = (self.dry_run, Some(report));
            ui.print_json(&Report { dry_run, direction_sha256, search, ..Report::default() })?;
        }
        let said = match original {
            _ if k >= original.map_or(n, as_original) => format!(
                "the model already refuses {k} of {n} harmful prompts{}: there is nothing to \
                 repair, and nothing was written",
                original.map_or(String::new(), |k| format!(", its original {k}"))
            ),
            Some(original) => format!(
                "nothing that was tried refuses {} of {n} harmful prompts, nearly as many as the \
                 original, with no more false refusals and degenerate answers; nothing was \
                 written\n\
                 hint: --aim strongest, a higher --max-kl, or --method restore",
                as_original(original)
            ),
            None => format!(
                "nothing that was tried refuses clearly more than {k} of {n} harmful prompts \
                 within the budget; nothing was written\n\
                 hint: a higher --max-false-refusal, --max-kl or --max-blocks, or a milder \
                 compression"
            ),
        };
        Err(GateFailed::new(said).into())
    }

    /// `Model-Q4_K_M.gguf` -> `Model-AIRD-Q4_K_M.gguf`: who downloads selects by the quant's name.
    fn output(&self) -> PathBuf {
        self.output.clone().unwrap_or_else(|| repaired_name(&self.model))
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
    let name = model.file_name().unwrap_or_default().to_string_lossy();
    let (stem, ending) = match shard.as_deref().and_then(Path::file_name) {
        Some(prefix) => (prefix.to_string_lossy().into_owned(), ".gguf"),
        None => (split_ending(&name).0.to_owned(), split_ending(&name).1),
    };
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
    model.with_file_name(format!("{base}-AIRD{quant}{ending}"))
}

/// In place no tensor can become of another type.
fn check_types(
    model: &Model,
    structure: &Structure,
    (given, parts): (Option<&[Half]>, &[Part]),
    ty: GgmlType,
) -> Result<()> {
    let may_change = |writer: &&Writer| match given {
        Some(halves) => halves.contains(&Half::of(writer)),
        None => parts.contains(&writer.part),
    };
    let writers = structure.writers().filter(may_change);
    let infos = writers.filter_map(|writer| Some(model.tensor(&writer.tensor)?.info));
    match infos.into_iter().find(|info| info.ty != ty) {
        None => Ok(()),
        Some(info) => bail!(
            "{} is {}: as {ty} it would be of another size, which nothing becomes in place\n\
             hint: a new file with -o, or --type keep",
            info.name,
            info.ty
        ),
    }
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
            ("Llama-3.2-1B-Instruct-Q4_K_M", "Llama-3.2-1B-Instruct-AIRD-Q4_K_M"),
            ("Llama-3.2-1B-Instruct", "Llama-3.2-1B-Instruct-AIRD"),
            ("a.b/model.Q4_K_M", "a.b/model-AIRD-Q4_K_M"),
            ("Qwen2.5-0.5B.F16", "Qwen2.5-0.5B-AIRD-F16"),
            ("MODEL-Q8_0.GGUF", "MODEL-AIRD-Q8_0.GGUF"),
            ("model.bin", "model-AIRD.bin"),
            ("model", "model-AIRD"),
            ("v1.2", "v1.2-AIRD"),
        ] {
            assert_eq!(repaired_name(Path::new(model)), Path::new(repaired));
        }
    }
}
