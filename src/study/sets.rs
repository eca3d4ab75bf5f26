//! The prompt sets of a study, and what the answers to each depend on.

use toml::{Table, Value};

use super::error::Result;
use super::options::{Options, Verbs};
use super::recipe::Recipe;
use super::step::{Arg, Work};
use crate::eval::asr::Attack;
use crate::prompts::{self, Part};

/// Tokens of a prompt with its template, roughly.
const PROMPT_TOKENS: f64 = 48.0;
/// Options that choose sets or judges: no answer depends on them.
const NOT_OF_ANSWERS: [&str; 4] = ["attack", "benign", "judge", "judge-template"];

/// A set in the form of `aird asr`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct AskedSet {
    /// The attack's name, or the benign set's.
    pub name: String,
    /// What the answers depend on, besides the model.
    pub settings: Vec<Arg>,
    /// Estimated cost of the answers.
    pub work: Work,
}

/// The options of `aird asr` for plain answers to one set: no samples, no suffixes.
pub(super) fn plain(attacks: &Table) -> Table {
    let others = ["attack", "benign", "samples", "temperature", "suffixes", "seed"];
    let kept = attacks.iter().filter(|(name, _)| !others.contains(&name.as_str()));
    kept.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// The sets of a recipe: attacks, then benign sets.
///
/// # Errors
/// A name that is not an attack.
pub(super) fn asked_sets(recipe: &Recipe, verbs: &dyn Verbs) -> Result<Vec<AskedSet>> {
    let options = Options::of(verbs, "asr", &[]);
    let arguments = |table: &Table| options.arguments(table, &recipe.places);
    let mut sets = Vec::new();
    for attack in recipe.attack_list()? {
        let mut table = without(&recipe.attacks, &NOT_OF_ANSWERS);
        let sampled = matches!(attack, Attack::AdvDecoding | Attack::AdvDecodingRaw);
        if !sampled {
            table = without(&table, &["samples", "temperature", "seed"]);
        }
        if attack != Attack::AdvSuffix {
            table = without(&table, &["suffixes"]);
        }
        let n = number(&recipe.attacks, "limit").unwrap_or(f64::INFINITY);
        let n = n.min(prompts::harmful(Part::Test).len() as f64);
        let samples = number(&recipe.attacks, "samples").filter(|_| sampled).unwrap_or(1.0);
        let settings = [vec![Arg::text(attack.name())], arguments(&table)].concat();
        sets.push(AskedSet {
            name: attack.name().into(),
            settings,
            work: work(recipe, n * samples),
        });
    }
    let table = without(&plain(&recipe.attacks), &NOT_OF_ANSWERS);
    let table = without(&table, &["prompts"]);
    for name in recipe.benign() {
        let own = matches!(name.as_str(), "borderline" | "harmless");
        let file = (!own).then(|| Arg::File(recipe.places.resolve(&name)));
        let name = file.as_ref().map_or(name, Arg::stem);
        let settings = [vec![Arg::text(&name)], file.into_iter().collect(), arguments(&table)];
        let n = number(&recipe.attacks, "limit").unwrap_or(f64::INFINITY);
        let of_set = match name.as_str() {
            "borderline" => prompts::borderline(Part::Test).len(),
            _ => prompts::harmless(Part::Test).len(),
        };
        let n = n.min(of_set as f64);
        sets.push(AskedSet { name, settings: settings.concat(), work: work(recipe, n) });
    }
    Ok(sets)
}

fn work(recipe: &Recipe, answers: f64) -> Work {
    let tokens = number(&recipe.attacks, "max-tokens").unwrap_or_default();
    Work { read: answers * PROMPT_TOKENS, written: answers * tokens }
}

fn number(table: &Table, key: &str) -> Option<f64> {
    table.get(key).and_then(Value::as_integer).map(|n| n as f64)
}

fn without(table: &Table, names: &[&str]) -> Table {
    let kept = table.iter().filter(|(name, _)| !names.contains(&name.as_str()));
    kept.map(|(name, value)| (name.clone(), value.clone())).collect()
}
