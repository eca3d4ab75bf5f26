//! A verb's own options, as the command line defines them: what a recipe may contain in a step or a
//! section, and the arguments that it becomes.

use toml::{Table, Value};

use super::error::{Error, Result};
use super::reading::{Places, nearest};
use super::step::Arg;

/// How many values an option takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// None: it is given or not.
    Flag,
    /// One value.
    One,
    /// One or several values.
    Many,
}

/// A long option of a verb.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptionInfo {
    /// Its name, without the dashes.
    pub name: String,
    /// How it is given.
    pub kind: Kind,
    /// The value if it is not given; empty: no value.
    pub default: Vec<String>,
    /// Its value is a path, whatever it looks like.
    pub is_path: bool,
    /// Its value is a path where it looks like one, and a name otherwise.
    pub may_be_path: bool,
}

/// The command line's definitions of verbs and their options.
pub trait Verbs {
    /// The long options of `verb`; empty if there is no such verb.
    fn options(&self, verb: &str) -> Vec<OptionInfo>;

    /// Parses a whole command, verb first.
    ///
    /// # Errors
    /// The command line's own message.
    fn check(&self, arguments: &[String]) -> std::result::Result<(), String>;
}

/// Options that a study sets itself, or that do not fit a step of a study.
fn is_reserved(verb: &str, name: &str) -> bool {
    const ALWAYS: [&str; 12] = [
        "json",
        "output",
        "force",
        "dry-run",
        "keep-shards",
        "threads",
        "gpu-layers",
        "device",
        "tensor-split",
        "rpc",
        "rpc-timeout",
        "rpc-silence",
    ];
    let own: &[&str] = match verb {
        "direction" => &["capture-only", "cvector"],
        "repair" => {
            &["direction", "reference", "keep-direction", "in-place", "lora", "format", "front"]
        }
        "asr" => &["ablate", "add", "lora", "transcripts", "html", "fail-if"],
        "tasks" => &["reference", "results", "lm-eval-dir"],
        _ => &[],
    };
    ALWAYS.contains(&name) || own.contains(&name)
}

/// The options of one verb that a recipe may name.
pub(super) struct Options<'v> {
    verbs: &'v dyn Verbs,
    verb: &'static str,
    known: Vec<OptionInfo>,
    /// Other arguments that the verb needs, for a check of the whole command.
    beside: &'static [&'static str],
}

impl<'v> Options<'v> {
    /// Those of `verb`, which parses with the arguments `beside` first.
    pub(super) fn of(
        verbs: &'v dyn Verbs,
        verb: &'static str,
        beside: &'static [&'static str],
    ) -> Options<'v> {
        Options { verbs, verb, known: verbs.options(verb), beside }
    }

    /// The option called `name`.
    pub(super) fn get(&self, name: &str) -> Option<&OptionInfo> {
        self.known.iter().find(|option| option.name == name)
    }

    /// Checks the options of a recipe at `within`, and adds every default that fits the rest.
    ///
    /// # Errors
    /// An unknown or reserved name, a value of another kind, or the command line's message.
    pub(super) fn resolve(&self, within: &str, given: &Table) -> Result<Table> {
        for (name, value) in given {
            self.check_one(within, name, value)?;
        }
        let parses = |table: &Table| self.verbs.check(&self.words(table));
        let said = |said| Error::Options { within: within.into(), said };
        parses(given).map_err(said)?;
        let mut table = given.clone();
        for option in &self.known {
            let wanted = !option.default.is_empty() && !is_reserved(self.verb, &option.name);
            if !wanted || table.contains_key(&option.name) {
                continue;
            }
            // A default that is written out may contradict what is given: then it is left out.
            table.insert(option.name.clone(), default_value(option));
            if parses(&table).is_err() {
                table.remove(&option.name);
            }
        }
        Ok(table)
    }

    fn check_one(&self, within: &str, name: &str, value: &Value) -> Result<()> {
        let Some(option) = self.get(name) else {
            let free = |o: &&OptionInfo| !is_reserved(self.verb, &o.name);
            let names: Vec<&str> =
                self.known.iter().filter(free).map(|o| o.name.as_str()).collect();
            return Err(Error::UnknownKey {
                within: within.into(),
                key: name.into(),
                expected: names.join(", "),
                hint: nearest(name, &names),
            });
        };
        if is_reserved(self.verb, name) {
            return Err(Error::Reserved { within: within.into(), key: name.into() });
        }
        let expected = match (option.kind, value) {
            (Kind::Flag, Value::Boolean(_)) => return Ok(()),
            (Kind::Flag, _) => "true or false",
            (Kind::Many, Value::Array(items)) if items.iter().all(|v| text(v).is_some()) => {
                return Ok(());
            }
            (_, value) if text(value).is_some() => return Ok(()),
            (Kind::Many, _) => "a value or a list of values",
            (Kind::One, _) => "one value",
        };
        Err(Error::Value {
            within: within.into(),
            key: name.into(),
            found: value.type_str().into(),
            expected: expected.into(),
        })
    }

    /// The whole command, files as the recipe names them.
    fn words(&self, table: &Table) -> Vec<String> {
        let mut words = vec![self.verb.to_owned()];
        words.extend(self.beside.iter().map(|word| (*word).to_owned()));
        for (name, value) in table {
            let Some(option) = self.get(name) else { continue };
            match option.kind {
                Kind::Flag if value.as_bool() == Some(true) => words.push(format!("--{name}")),
                Kind::Flag => {}
                _ => words.extend(texts(value).map(|text| format!("--{name}={text}"))),
            }
        }
        words
    }

    /// The arguments of a resolved table; values that equal the default are left out.
    pub(super) fn arguments(&self, table: &Table, places: &Places) -> Vec<Arg> {
        let mut out = Vec::new();
        for (name, value) in table {
            let Some(option) = self.get(name) else { continue };
            if option.kind == Kind::Flag {
                if value.as_bool() == Some(true) {
                    out.push(Arg::Text(format!("--{name}")));
                }
                continue;
            }
            let values: Vec<String> = texts(value).collect();
            if values == option.default {
                continue;
            }
            for text in values {
                let looks = text.contains(['/', '.']);
                if option.is_path || (option.may_be_path && looks) {
                    out.push(Arg::Text(format!("--{name}")));
                    out.push(Arg::File(places.resolve(&text)));
                } else if text.starts_with('-') {
                    out.push(Arg::Text(format!("--{name}={text}")));
                } else {
                    out.extend([Arg::Text(format!("--{name}")), Arg::Text(text)]);
                }
            }
        }
        out
    }
}

/// A single value as it stands on a command line.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        _ => None,
    }
}

/// The value, or those of a list.
pub(super) fn texts(value: &Value) -> impl Iterator<Item = String> + '_ {
    let several = value.as_array().map(Vec::as_slice);
    several.unwrap_or(std::slice::from_ref(value)).iter().filter_map(text)
}

fn default_value(option: &OptionInfo) -> Value {
    let value = |text: &String| match (text.parse::<i64>(), text.parse::<f64>()) {
        (Ok(number), _) => Value::Integer(number),
        (_, Ok(number)) if number.is_finite() => Value::Float(number),
        _ => Value::String(text.clone()),
    };
    match (option.kind, option.default.as_slice()) {
        (Kind::One, [one]) => value(one),
        (_, all) => Value::Array(all.iter().map(value).collect()),
    }
}
