//! The repairs of a recipe: one `[repair]`, or a `[[repair]]` for each way of repairing.

use toml::{Table, Value};

use super::error::{Error, Result};
use super::options::{Options, Verbs};
use super::reading::{Section, Tables, is_name, nearest};

/// The name of the repair in `[repair]`, and so the ending of its models' names.
pub(super) const ONLY: &str = "repaired";

/// A way of repairing variants.
#[derive(Debug, Clone, PartialEq)]
pub struct Repair {
    /// Its name, unique in the study.
    pub name: String,
    /// Names of the variants that it repairs.
    pub variants: Vec<String>,
    /// Options of `aird repair`.
    pub options: Table,
}

impl Repair {
    /// True if it restores first, then edits along the direction what is left.
    pub fn restores(&self) -> bool {
        self.text("method") == Some("restore")
    }

    /// True if it is the one of `[repair]`, whose models are only called repaired.
    pub fn is_only(&self) -> bool {
        self.name == ONLY
    }

    /// The name of the model that it makes of `variant`.
    pub fn model_name(&self, variant: &str) -> String {
        format!("{variant}-{}", self.name)
    }

    /// The value of an option, if it is a text.
    pub(super) fn text(&self, option: &str) -> Option<&str> {
        self.options.get(option)?.as_str()
    }
}

/// The name of a `[[repair]]`: its own or, by default, its method.
pub(super) fn name_of(table: &Table) -> &str {
    let text = |key: &str| table.get(key).and_then(Value::as_str);
    text("name").or(text("method")).unwrap_or("aird")
}

/// Reads the repairs of the variants called `variants`.
///
/// # Errors
/// Keys or options that do not exist, variants that do not, names that are not unique.
pub(super) fn repairs(tables: Tables, variants: &[&str], verbs: &dyn Verbs) -> Result<Vec<Repair>> {
    let repairs: Vec<Repair> = match tables {
        Tables::One(table) => vec![repair("[repair]", ONLY, table, variants, verbs)?],
        Tables::Several(tables) => {
            let one = |table: Table| {
                let name = name_of(&table).to_owned();
                repair(&format!("repair {name}"), &name, table, variants, verbs)
            };
            tables.into_iter().map(one).collect::<Result<_>>()?
        }
    };
    check_names(&repairs, variants)?;
    Ok(repairs)
}

fn repair(
    within: &str,
    default_name: &str,
    table: Table,
    variants: &[&str],
    verbs: &dyn Verbs,
) -> Result<Repair> {
    let mut section = Section::new(within, table);
    let name = section.text("name")?.unwrap_or_else(|| default_name.to_owned());
    let all = || variants.iter().map(ToString::to_string).collect();
    let repaired: Vec<String> = section.texts("variants")?.unwrap_or_else(all);
    if let Some(unknown) = repaired.iter().find(|name| !variants.contains(&name.as_str())) {
        return Err(Error::Value {
            within: within.into(),
            key: "variants".into(),
            found: format!("'{unknown}'"),
            expected: format!("some of {}{}", variants.join(", "), nearest(unknown, variants)),
        });
    }
    let options = Options::of(verbs, "repair", &["model", "--direction", "direction"]);
    Ok(Repair { name, variants: repaired, options: options.resolve(within, &section.rest())? })
}

/// A repair's name becomes a part of its models' names, which must differ from all others.
fn check_names(repairs: &[Repair], variants: &[&str]) -> Result<()> {
    let wrong = |what: String| Err(Error::Recipe { what });
    for (i, repair) in repairs.iter().enumerate() {
        let name = &repair.name;
        if !is_name(name) {
            return wrong(format!(
                "a repair is named '{name}', expected only letters, digits, '-', '_' and '.'"
            ));
        }
        if repairs[..i].iter().any(|other| other.name == *name) {
            return wrong(format!(
                "two repairs are named '{name}'\n\
                 hint: give each a name of its own; the default is its method"
            ));
        }
    }
    let made = repairs.iter().flat_map(|r| r.variants.iter().map(|v| r.model_name(v)));
    let mut names: Vec<String> = made.chain(variants.iter().map(ToString::to_string)).collect();
    names.sort();
    match names.windows(2).find(|two| two[0] == two[1]) {
        None => Ok(()),
        Some(twice) => wrong(format!(
            "two models are named '{}', expected different names\n\
             hint: a repaired model is named after its variant and its repair",
            twice[0]
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::options::{Kind, OptionInfo};

    /// A command line whose `repair` has two options.
    struct Line;

    impl Verbs for Line {
        fn options(&self, _: &str) -> Vec<OptionInfo> {
            let option = |name: &str, default: &[&str]| OptionInfo {
                name: name.into(),
                kind: Kind::One,
                default: default.iter().map(ToString::to_string).collect(),
                is_path: false,
                may_be_path: false,
            };
            vec![option("method", &[]), option("max-tokens", &["24"])]
        }

        fn check(&self, _: &[String]) -> std::result::Result<(), String> {
            Ok(())
        }
    }

    fn read(recipe: &str) -> Result<Vec<Repair>> {
        let mut top = Section::new("at the top", toml::from_str(recipe).unwrap());
        repairs(top.table_or_tables("repair")?, &["a", "b"], &Line)
    }

    #[test]
    fn one_repair_or_several_are_read() {
        for (recipe, restores) in [("", false), ("[repair]\nmethod = 'restore'", true)] {
            let one = read(recipe).unwrap();
            assert_eq!(one.len(), 1);
            assert!(one[0].is_only() && one[0].restores() == restores);
            assert_eq!(one[0].model_name("a"), "a-repaired");
            assert_eq!(one[0].variants, ["a", "b"]);
        }

        let both = "[[repair]]\n[[repair]]\nmethod = 'restore'\nvariants = ['b']";
        let both = read(both).unwrap();
        let names: Vec<String> = both.iter().map(|repair| repair.model_name("b")).collect();
        assert_eq!(names, ["b-aird", "b-restore"]);
        assert!(!both[0].restores() && both[1].restores() && !both[1].is_only());
        assert_eq!(both[0].options["max-tokens"].as_integer(), Some(24));
        assert_eq!(both[1].variants, ["b"]);
    }

    #[test]
    fn names_of_models_are_unique() {
        let said = |recipe: &str| read(recipe).unwrap_err().to_string();
        assert!(said("[[repair]]\n[[repair]]\nmethod = 'aird'").contains("two repairs are named"));
        assert!(said("[[repair]]\nname = ''").contains("a repair is named ''"));
        let mut top = Section::new("at the top", toml::from_str("[[repair]]").unwrap());
        let tables = top.table_or_tables("repair").unwrap();
        let said = repairs(tables, &["a", "a-aird"], &Line).unwrap_err().to_string();
        assert!(said.contains("two models are named 'a-aird'"), "{said}");
    }
}
