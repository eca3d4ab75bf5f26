//! What is asked: attacks on harmful prompts, and benign sets.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;

use super::super::paths::Paths;
use crate::eval::asr::{Attack, Headline, Way};
use crate::prompts::{self, ChatTemplate, Part, PromptSet, TextFile};

/// What is asked.
#[derive(Debug, Args)]
pub struct SetArgs {
    /// Attacks, by commas: vanilla, adv-suffix, adv-decoding, adv-decoding-raw; all; none. Of them
    /// vanilla alone takes --system: the others have no system prompt.
    #[arg(long, default_value = "vanilla", value_delimiter = ',', value_name = "LIST")]
    attack: Vec<String>,
    /// Harmful prompts; default: the test part of aird's own.
    #[arg(long, value_name = "FILE")]
    prompts: Option<PathBuf>,
    /// The field or column that holds the prompt.
    #[arg(long, value_name = "NAME")]
    field: Option<String>,
    /// The first prompts alone, of every set.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Harmless prompts, to count refusals: a file, borderline or harmless (aird's own test parts,
    /// both by default), or none; may be given several times.
    #[arg(long, value_name = "FILE")]
    benign: Vec<String>,
    /// Suffixes for adv-suffix: a line each, or JSON with a field suffix.
    #[arg(long, value_name = "FILE")]
    suffixes: Option<PathBuf>,
    /// Answers to each prompt, in attacks that sample.
    #[arg(long, default_value_t = 5, value_name = "N")]
    pub samples: usize,
    /// Temperature of those.
    #[arg(long, default_value_t = 1.0, value_name = "T")]
    pub temperature: f32,
}

/// Prompts, and how they are put.
pub struct Set {
    /// The attack's name, or the benign set's.
    pub name: String,
    /// None for a benign set.
    pub attack: Option<Attack>,
    /// In order.
    pub prompts: PromptSet,
    /// What follows each prompt; None but for adv-suffix.
    pub suffixes: Option<PromptSet>,
    system: Option<String>,
    sampled: (usize, f32),
}

impl Set {
    /// How it is put to a model with this template.
    pub fn way(&self, template: &ChatTemplate) -> Way {
        let system = self.system.as_deref();
        match self.attack {
            Some(attack) => {
                let suffixes = self.suffixes.iter().flat_map(PromptSet::texts);
                let suffixes: Vec<String> = suffixes.map(str::to_owned).collect();
                attack.way(system, &suffixes, self.sampled, template)
            }
            None => Way::plain(&self.name, system),
        }
    }

    /// True if the user's system prompt is said: attacks but the first have none.
    pub fn has_system(&self) -> bool {
        matches!(self.attack, None | Some(Attack::Vanilla))
    }

    /// Which share is its headline.
    pub fn headline(&self) -> Headline {
        self.attack.map_or(Headline::Only, Attack::headline)
    }
}

impl SetArgs {
    /// `paths`, and the files that these arguments name.
    pub fn read_from(&self, paths: Paths) -> Paths {
        let words = ["none", "borderline", "harmless"];
        let benign = self.benign.iter().map(String::as_str);
        let paths = paths.reads(self.prompts.iter().chain(&self.suffixes));
        benign.fold(paths, |paths, name| paths.reads_unless(Some(name), &words))
    }

    /// Attacks in the order of the study's table, then benign sets in the order given.
    pub fn sets(&self, system: Option<&str>) -> Result<Vec<Set>> {
        let attacks = self.attacks()?;
        let sampling = self.temperature > 0.0 && self.temperature.is_finite();
        if self.samples == 0 || self.limit == Some(0) || !sampling {
            bail!("--samples and --limit are at least 1, --temperature is above 0");
        }
        let suffixes = match (attacks.contains(&Attack::AdvSuffix), &self.suffixes) {
            (true, Some(path)) => Some(read_suffixes(path)?),
            (true, None) => bail!(
                "adv-suffix needs suffixes, and none are given\n\
                 hint: --suffixes FILE, a line each; aird brings none along. Or name the other \
                 three: --attack vanilla,adv-decoding,adv-decoding-raw"
            ),
            (false, _) => None,
        };
        let set = |name: &str, attack: Option<Attack>, prompts: PromptSet| Set {
            name: name.into(),
            attack,
            prompts: match self.limit {
                Some(limit) => prompts.first(limit),
                None => prompts,
            },
            system: system.map(str::to_owned),
            suffixes: suffixes.clone().filter(|_| attack == Some(Attack::AdvSuffix)),
            sampled: (self.samples, self.temperature),
        };
        let mut sets = Vec::new();
        if !attacks.is_empty() {
            let harmful = match &self.prompts {
                Some(file) => prompts::load(file, self.field.as_deref())?,
                None => prompts::harmful(Part::Test),
            };
            for attack in attacks {
                sets.push(set(attack.name(), Some(attack), harmful.clone()));
            }
        }
        for (name, prompts) in self.benign()? {
            sets.push(set(&name, None, prompts));
        }
        check_names(&sets)?;
        Ok(sets)
    }

    fn attacks(&self) -> Result<Vec<Attack>> {
        let mut attacks = Vec::new();
        for name in &self.attack {
            match (name.as_str(), Attack::from_name(name)) {
                ("all", _) => attacks.extend(Attack::ALL),
                ("none", _) if self.attack.len() == 1 => {}
                (_, Some(attack)) => attacks.push(attack),
                (_, None) => bail!(
                    "--attack {name}: expected {}, all or none",
                    Attack::ALL.map(Attack::name).join(", ")
                ),
            }
        }
        attacks.sort_unstable();
        attacks.dedup();
        Ok(attacks)
    }

    fn benign(&self) -> Result<Vec<(String, PromptSet)>> {
        let names: Vec<&str> = match self.benign.is_empty() {
            true => vec!["borderline", "harmless"],
            false => self.benign.iter().map(String::as_str).collect(),
        };
        let mut sets = Vec::new();
        for name in names {
            match name {
                "none" if self.benign.len() == 1 => {}
                "borderline" => sets.push((name.to_owned(), prompts::borderline(Part::Test))),
                "harmless" => sets.push((name.to_owned(), prompts::harmless(Part::Test))),
                file => {
                    let path = Path::new(file);
                    sets.push((super::stem(path), prompts::load(path, self.field.as_deref())?));
                }
            }
        }
        Ok(sets)
    }
}

/// Names are what the report, the transcripts and --fail-if go by.
fn check_names(sets: &[Set]) -> Result<()> {
    if sets.is_empty() {
        bail!("nothing is asked: --attack none and --benign none");
    }
    let mut names: Vec<&str> = sets.iter().map(|set| set.name.as_str()).collect();
    names.sort_unstable();
    match names.windows(2).find(|two| two[0] == two[1]) {
        Some(twice) => bail!("two sets are named '{}', expected different names", twice[0]),
        None => Ok(()),
    }
}

fn read_suffixes(path: &Path) -> Result<PromptSet> {
    let file = TextFile::read(path);
    // A file of another shape, by its usual field.
    let set = file.and_then(|file| file.prompts(Some("suffix")).or_else(|_| file.prompts(None)));
    set.context("no suffixes to attack with")
}
