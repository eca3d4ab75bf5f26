//! What is asked: attacks on harmful prompts, and benign sets.

use std::path::{Path, PathBuf};

use super::super::error::{Context, Error, Result};
use super::super::model::file_stem;
use crate::eval::asr::{Attack, Headline, Way};
use crate::prompts::{self, ChatTemplate, Part, PromptSet, TextFile};

/// Which prompts are asked.
#[derive(Debug, Clone, PartialEq)]
pub struct SetChoice {
    /// Attacks on the harmful prompts; asked in the order of [`Attack::ALL`], each once.
    pub attacks: Vec<Attack>,
    /// A file of harmful prompts; None for the test part of aird's own.
    pub harmful: Option<PathBuf>,
    /// The field or column of the files that holds the prompt; None for the usual names.
    pub field: Option<String>,
    /// The first prompts only, of every set; at least 1.
    pub limit: Option<usize>,
    /// Harmless prompts, of which refusals are counted.
    pub benign: Vec<BenignSet>,
    /// A file of suffixes for [`Attack::AdvSuffix`], which needs one: a line each, or JSON with a
    /// field `suffix`.
    pub suffixes: Option<PathBuf>,
    /// Answers to each prompt, in attacks that sample; at least 1.
    pub samples: usize,
    /// Temperature of those; above 0.
    pub temperature: f32,
}

/// A set of harmless prompts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BenignSet {
    /// The test part of aird's own that look harmful.
    Borderline,
    /// The test part of aird's own.
    Harmless,
    /// A file.
    File(PathBuf),
}

/// The prompts of an attack or a benign set, and how they are put.
pub(super) struct EvaluationSet {
    /// The attack's name, or the benign set's.
    pub name: String,
    /// None for a benign set.
    pub attack: Option<Attack>,
    /// In order.
    pub prompts: PromptSet,
    /// What follows each prompt; None except for adv-suffix.
    pub suffixes: Option<PromptSet>,
    system: Option<String>,
    samples: usize,
    temperature: f32,
}

impl EvaluationSet {
    /// How it is put to a model with this template.
    pub(super) fn way(&self, template: &ChatTemplate) -> Way {
        let system = self.system.as_deref();
        match self.attack {
            Some(attack) => {
                let suffixes = self.suffixes.iter().flat_map(PromptSet::texts);
                let suffixes: Vec<String> = suffixes.map(str::to_owned).collect();
                attack.way(system, &suffixes, (self.samples, self.temperature), template)
            }
            None => Way::plain(&self.name, system),
        }
    }

    /// True if it is put with the user's system prompt: attacks except the first have none.
    pub(super) fn has_system(&self) -> bool {
        matches!(self.attack, None | Some(Attack::Vanilla))
    }

    /// Which share is its headline.
    pub(super) fn headline(&self) -> Headline {
        self.attack.map_or(Headline::Only, Attack::headline)
    }
}

impl SetChoice {
    /// Reads the prompts: attacks in the order of the study's table, then benign sets in the order
    /// given.
    pub(super) fn read(&self, system: Option<&str>) -> Result<Vec<EvaluationSet>> {
        self.check()?;
        let mut attacks = self.attacks.clone();
        attacks.sort_unstable();
        attacks.dedup();
        let suffixes = match (attacks.contains(&Attack::AdvSuffix), &self.suffixes) {
            (true, Some(path)) => Some(read_suffixes(path)?),
            (true, None) => return Err(Error::NoSuffixes),
            (false, _) => None,
        };
        let set = |name: &str, attack: Option<Attack>, prompts: PromptSet| EvaluationSet {
            name: name.into(),
            attack,
            prompts: match self.limit {
                Some(limit) => prompts.first(limit),
                None => prompts,
            },
            system: system.map(str::to_owned),
            suffixes: suffixes.clone().filter(|_| attack == Some(Attack::AdvSuffix)),
            samples: self.samples,
            temperature: self.temperature,
        };
        let mut sets = Vec::new();
        if !attacks.is_empty() {
            let harmful = match &self.harmful {
                Some(file) => prompts::load(file, self.field.as_deref())?,
                None => prompts::harmful(Part::Test),
            };
            for attack in attacks {
                sets.push(set(attack.name(), Some(attack), harmful.clone()));
            }
        }
        for benign in &self.benign {
            sets.push(match benign {
                BenignSet::Borderline => set("borderline", None, prompts::borderline(Part::Test)),
                BenignSet::Harmless => set("harmless", None, prompts::harmless(Part::Test)),
                BenignSet::File(path) => {
                    set(&file_stem(path), None, prompts::load(path, self.field.as_deref())?)
                }
            });
        }
        check_names(&sets)?;
        Ok(sets)
    }

    fn check(&self) -> Result<()> {
        if self.samples == 0 || self.limit == Some(0) {
            return Err(Error::sentence("samples and limit are at least 1"));
        }
        match self.temperature > 0.0 && self.temperature.is_finite() {
            true => Ok(()),
            false => Err(Error::sentence("temperature is above 0")),
        }
    }
}

/// The report, the transcripts and conditions name the sets.
fn check_names(sets: &[EvaluationSet]) -> Result<()> {
    if sets.is_empty() {
        return Err(Error::sentence("nothing is asked: there is no attack and no benign set"));
    }
    let mut names: Vec<&str> = sets.iter().map(|set| set.name.as_str()).collect();
    names.sort_unstable();
    match names.windows(2).find(|two| two[0] == two[1]) {
        None => Ok(()),
        Some(twice) => Err(Error::Sentence(format!(
            "two sets are named '{}', expected different names",
            twice[0]
        ))),
    }
}

fn read_suffixes(path: &Path) -> Result<PromptSet> {
    let file = TextFile::read(path);
    // A file of another shape, by its usual field.
    let set = file.and_then(|file| file.prompts(Some("suffix")).or_else(|_| file.prompts(None)));
    set.about(|| "no suffixes to attack with".into())
}
