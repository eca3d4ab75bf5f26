//! What is asked: the arguments.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;

use super::super::paths::Paths;
use crate::eval::asr::Attack;
use crate::verbs::asr::{BenignSet, SetChoice};

/// What is asked.
#[derive(Debug, Args)]
pub(super) struct SetArgs {
    /// Attacks, separated by commas: vanilla, adv-suffix, adv-decoding, adv-decoding-raw; all;
    /// none. Only vanilla takes --system: the others have no system prompt.
    #[arg(long, default_value = "vanilla", value_delimiter = ',', value_name = "LIST")]
    attack: Vec<String>,
    /// Harmful prompts; default: the test part of aird's own.
    #[arg(long, value_name = "FILE")]
    prompts: Option<PathBuf>,
    /// The field or column that holds the prompt.
    #[arg(long, value_name = "NAME")]
    field: Option<String>,
    /// Only the first prompts, of every set.
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
    samples: usize,
    /// Temperature of those.
    #[arg(long, default_value_t = 1.0, value_name = "T")]
    temperature: f32,
}

impl SetArgs {
    /// `paths`, and the files that these arguments name.
    pub(super) fn read_from(&self, paths: Paths) -> Paths {
        let words = ["none", "borderline", "harmless"];
        let benign = self.benign.iter().map(String::as_str);
        let paths = paths.reads(self.prompts.iter().chain(&self.suffixes));
        benign.fold(paths, |paths, name| paths.reads_unless(Some(name), &words))
    }

    /// As the verb takes it.
    pub(super) fn choice(&self) -> Result<SetChoice> {
        let attacks = self.attacks()?;
        let sampling = self.temperature > 0.0 && self.temperature.is_finite();
        if self.samples == 0 || self.limit == Some(0) || !sampling {
            bail!("--samples and --limit are at least 1, --temperature is above 0");
        }
        let benign = self.benign();
        if attacks.is_empty() && benign.is_empty() {
            bail!("nothing is asked: --attack none and --benign none");
        }
        Ok(SetChoice {
            attacks,
            harmful: self.prompts.clone(),
            field: self.field.clone(),
            limit: self.limit,
            benign,
            suffixes: self.suffixes.clone(),
            samples: self.samples,
            temperature: self.temperature,
        })
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
        Ok(attacks)
    }

    fn benign(&self) -> Vec<BenignSet> {
        let set = |name: &String| match name.as_str() {
            "borderline" => BenignSet::Borderline,
            "harmless" => BenignSet::Harmless,
            file => BenignSet::File(file.into()),
        };
        match self.benign.as_slice() {
            [] => vec![BenignSet::Borderline, BenignSet::Harmless],
            [only] if only == "none" => Vec::new(),
            names => names.iter().map(set).collect(),
        }
    }
}
