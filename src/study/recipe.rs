//! A recipe: the description of a study, read from TOML with every default filled in.
//!
//! Steps and sections use the names of the verbs' options: `[attacks]` holds those of `aird asr`,
//! `[tasks]` those of `aird tasks`, and so on. The command line itself checks them.

use std::path::Path;

use toml::{Table, Value};

use super::bases::by_base;
use super::error::{Error, Result};
use super::options::{Options, Verbs, texts};
use super::overrides::{Override, override_all};
use super::reading::{Places, Section, folder_of, is_name, named_twice};
use super::repairs::{ONLY, Repair, repairs};
use crate::eval::asr::Attack;
use crate::prompts::TextFile;

/// Stand-ins for files when a verb's options are checked.
const WRITES: &[&str] = &["model", "-o", "out"];

/// The description of a study.
#[derive(Debug, Clone, PartialEq)]
pub struct Recipe {
    /// Name of the study.
    pub name: String,
    /// Name of the base in a recipe with several; None with one.
    pub base: Option<String>,
    /// Seed of every draw that has no own seed.
    pub seed: u64,
    /// Path of the original model's file.
    pub model: String,
    /// Options of the adapter merge that comes first, if any.
    pub merge: Option<Table>,
    /// The models that are made from it.
    pub variants: Vec<Variant>,
    /// File with the base's direction, if there is one already.
    pub direction_file: Option<String>,
    /// Options of `aird direction`.
    pub direction: Table,
    /// The ways in which variants are repaired.
    pub repairs: Vec<Repair>,
    /// Options of `aird asr`.
    pub attacks: Table,
    /// Options of `aird tasks`.
    pub tasks: Table,
    /// True if answers with the direction removed are measured.
    pub necessity: bool,
    /// True if answers with the direction added are measured.
    pub sufficiency: bool,
    /// Where relative paths begin.
    pub places: Places,
    /// Notes for the user.
    pub notes: Vec<String>,
}

/// A model made from the base.
#[derive(Debug, Clone, PartialEq)]
pub struct Variant {
    /// Name of the variant, unique in the study.
    pub name: String,
    /// Path of its file, if it was made already.
    pub file: Option<String>,
    /// Else the verbs that make it, with their options.
    pub steps: Vec<(&'static str, Table)>,
}

impl Recipe {
    /// Reads the recipe at `path`, changed by `overrides`: one for each of its bases.
    ///
    /// # Errors
    /// It cannot be read, is not TOML, or holds something that no verb accepts.
    pub fn read(path: &Path, overrides: &[Override], verbs: &dyn Verbs) -> Result<Vec<Recipe>> {
        let text = TextFile::read(path)?.text;
        let not_toml = |e: toml::de::Error| Error::Toml { path: path.into(), said: e.to_string() };
        let mut table: Table = toml::from_str(&text).map_err(not_toml)?;
        override_all(&mut table, overrides)?;
        let places = Places { folder: folder_of(path) };
        let recipe = |(base, table)| Recipe::of_base(base, table, places.clone(), verbs);
        by_base(table)?.into_iter().map(recipe).collect()
    }

    fn of_base(
        base_name: Option<String>,
        table: Table,
        places: Places,
        verbs: &dyn Verbs,
    ) -> Result<Recipe> {
        let mut top = Section::new("at the top", table);
        let name = top.required_text("name", "the study's name")?;
        let seed = top.number("seed", 0)?;
        let missing =
            Error::MissingKey { within: "at the top".into(), key: "base", expected: "a [base]" };
        let (model, merge) = base(top.table("base")?.ok_or(missing)?, verbs)?;
        let variants = variants(top.tables("variant")?, seed, verbs)?;
        let mut direction =
            Section::new("[direction]", top.table("direction")?.unwrap_or_default());
        let direction_file = direction.text("file")?;
        let direction =
            Options::of(verbs, "direction", WRITES).resolve("[direction]", &direction.rest())?;
        let names: Vec<&str> = variants.iter().map(|variant| variant.name.as_str()).collect();
        let repairs = repairs(top.table_or_tables("repair")?, &names, verbs)?;
        let attacks = seeded(top.table("attacks")?.unwrap_or_default(), seed);
        let attacks = Options::of(verbs, "asr", &["model"]).resolve("[attacks]", &attacks)?;
        let mut notes = Vec::new();
        let tasks = tasks(top.table("tasks")?.unwrap_or_default(), verbs, &mut notes)?;
        let interventions = top.table("interventions")?.unwrap_or_default();
        top.end()?;
        let mut recipe = Recipe {
            name,
            base: base_name,
            seed,
            model,
            merge,
            variants,
            direction_file,
            direction,
            repairs,
            attacks,
            tasks,
            necessity: false,
            sufficiency: false,
            places,
            notes,
        };
        recipe.intervene(interventions)?;
        recipe.check_suffixes()?;
        Ok(recipe)
    }

    /// The interventions to measure; by default all sets with plain answers.
    fn intervene(&mut self, table: Table) -> Result<()> {
        let mut section = Section::new("[interventions]", table);
        let vanilla = self.attack_list()?.contains(&Attack::Vanilla);
        let harmless = self.benign().iter().any(|set| set == "harmless");
        self.necessity = section.flag("necessity", vanilla)?;
        self.sufficiency = section.flag("sufficiency", harmless)?;
        section.end()?;
        let lacks = |what: &str, list: &str| Error::Recipe {
            what: format!("[interventions] compares with plain answers: put {what} into {list}"),
        };
        match () {
            () if self.necessity && !vanilla => Err(lacks("vanilla", "attacks.attack")),
            () if self.sufficiency && !harmless => Err(lacks("harmless", "attacks.benign")),
            () => Ok(()),
        }
    }

    fn check_suffixes(&self) -> Result<()> {
        let attacks = self.attack_list()?;
        if attacks.contains(&Attack::AdvSuffix) && !self.attacks.contains_key("suffixes") {
            let what = "[attacks]: adv-suffix needs suffixes, a file with one a line".into();
            return Err(Error::Recipe { what });
        }
        Ok(())
    }

    /// The attacks, in the study's order.
    ///
    /// # Errors
    /// A name that is not an attack.
    pub fn attack_list(&self) -> Result<Vec<Attack>> {
        let mut attacks = Vec::new();
        let named = self.attacks.get("attack").into_iter().flat_map(texts);
        let named: Vec<String> = named.collect();
        for name in named.iter().flat_map(|text| text.split(',')) {
            match (name, Attack::from_name(name)) {
                ("all", _) => attacks.extend(Attack::ALL),
                ("none", _) => {}
                (_, Some(attack)) => attacks.push(attack),
                (name, None) => {
                    return Err(Error::Value {
                        within: "[attacks]".into(),
                        key: "attack".into(),
                        found: format!("'{name}'"),
                        expected: format!(
                            "some of {}, all or none",
                            Attack::ALL.map(Attack::name).join(", ")
                        ),
                    });
                }
            }
        }
        attacks.sort_unstable();
        attacks.dedup();
        Ok(attacks)
    }

    /// The benign sets in the form that `aird asr` takes; empty for none.
    pub fn benign(&self) -> Vec<String> {
        let named: Vec<String> = self.attacks.get("benign").into_iter().flat_map(texts).collect();
        match named.as_slice() {
            [] => vec!["borderline".into(), "harmless".into()],
            [none] if none == "none" => Vec::new(),
            _ => named,
        }
    }
}

fn base(table: Table, verbs: &dyn Verbs) -> Result<(String, Option<Table>)> {
    let mut section = Section::new("[base]", table);
    let model = section.required_text("model", "a GGUF file")?;
    let merge = section.table("merge")?;
    section.end()?;
    let options = Options::of(verbs, "merge", WRITES);
    let merge = merge.map(|merge| options.resolve("base.merge", &merge)).transpose()?;
    Ok((model, merge))
}

fn variants(tables: Vec<Table>, seed: u64, verbs: &dyn Verbs) -> Result<Vec<Variant>> {
    let mut variants: Vec<Variant> = Vec::new();
    for table in tables {
        let mut section = Section::new("[[variant]]", table);
        let name = section.required_text("name", "the variant's name")?;
        section.within = format!("variant {name}");
        let (file, steps) = (section.text("file")?, section.tables("steps")?);
        section.end()?;
        check_name(&name)?;
        if let Some(other) = variants.iter().find(|other| other.name.eq_ignore_ascii_case(&name)) {
            return Err(Error::Recipe { what: named_twice("variants", &other.name, &name) });
        }
        if file.is_some() != steps.is_empty() {
            let what = format!("variant {name} has a file or steps, one of the two");
            return Err(Error::Recipe { what });
        }
        let within = format!("variant {name}");
        let steps = steps.into_iter().map(|one| chain_step(&within, one, seed, verbs));
        let steps = steps.collect::<Result<_>>()?;
        variants.push(Variant { name, file, steps });
    }
    Ok(variants)
}

/// Variant names become file names, and names of repairs. Names that differ only in case are one
/// file on some systems.
fn check_name(name: &str) -> Result<()> {
    let folded = name.to_ascii_lowercase();
    let is_a_repairs = folded.strip_suffix(ONLY).is_some_and(|start| start.ends_with('-'));
    let what = match () {
        () if !is_name(name) => "only letters, digits, '-', '_' and '.'",
        () if folded == "base" => "another one: that is the original's",
        () if is_a_repairs => "another ending: that is a repair's",
        () => return Ok(()),
    };
    Err(Error::Recipe { what: format!("a variant is named '{name}', expected {what}") })
}

/// `{ prune = { ... } }`: one verb and its options.
fn chain_step(
    within: &str,
    table: Table,
    seed: u64,
    verbs: &dyn Verbs,
) -> Result<(&'static str, Table)> {
    let mut section = Section::new(within, table);
    let mut found = Vec::new();
    for verb in ["merge", "prune", "quantize"] {
        found.extend(section.table(verb)?.map(|options| (verb, options)));
    }
    section.end()?;
    let Ok([(verb, options)]) = <[_; 1]>::try_from(found) else {
        let what = format!("a step of {within} is one of merge, prune and quantize");
        return Err(Error::Recipe { what });
    };
    let options = if options.contains_key("data") { seeded(options, seed) } else { options };
    let within = format!("{within}: {verb}");
    Ok((verb, Options::of(verbs, verb, WRITES).resolve(&within, &options)?))
}

/// The options with the study's seed, unless they have one.
fn seeded(mut table: Table, seed: u64) -> Table {
    let seed = Value::Integer(i64::try_from(seed).unwrap_or(i64::MAX));
    table.entry("seed").or_insert(seed);
    table
}

/// Benchmarks need data that aird may not ship: if the recipe names none, they are left out.
fn tasks(mut table: Table, verbs: &dyn Verbs, notes: &mut Vec<String>) -> Result<Table> {
    if table.contains_key("tasks") && !table.contains_key("data-dir") {
        table.remove("tasks");
        notes.push(
            "no benchmark is run: the recipe names no data\nhint: --set tasks.data-dir=FOLDER"
                .into(),
        );
    }
    Options::of(verbs, "tasks", &["model"]).resolve("[tasks]", &table)
}
