//! The repairs of a recipe: one `[repair]`, or a `[[repair]]` for each way of repairing.

use toml::{Table, Value};

use super::error::{Error, Result};
use super::options::{Options, Verbs};
use super::reading::{Section, Tables, is_name, named_twice, nearest};
use crate::report::repair_title;

/// The name of the repair in `[repair]`, and so the ending of its models' names.
pub(super) const ONLY: &str = "repaired";
/// What reports call other models; the last one is the word for the models of [`ONLY`].
const OTHERS: [&str; 3] = ["base", "compressed", ONLY];

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

    /// The word for its models in reports.
    fn title(&self) -> &str {
        repair_title((!self.is_only()).then_some(self.name.as_str()))
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
    let again = (1..repaired.len()).find(|&i| repaired[..i].contains(&repaired[i]));
    if let Some(i) = again {
        let what = format!("{within}: variants: '{}' is listed twice", repaired[i]);
        return Err(Error::Recipe { what });
    }
    let options = Options::of(verbs, "repair", &["model", "--direction", "direction"]);
    Ok(Repair { name, variants: repaired, options: options.resolve(within, &section.rest())? })
}

/// A repair's name becomes a part of its models' names, which must differ from all others.
fn check_names(repairs: &[Repair], variants: &[&str]) -> Result<()> {
    for (i, repair) in repairs.iter().enumerate() {
        check_name(repair, &repairs[..i])?;
    }
    let made = repairs.iter().flat_map(|r| r.variants.iter().map(|v| r.model_name(v)));
    let mut names: Vec<String> = made.chain(variants.iter().map(ToString::to_string)).collect();
    names.sort_by_key(|name| name.to_ascii_lowercase());
    match names.windows(2).find(|two| two[0].eq_ignore_ascii_case(&two[1])) {
        None => Ok(()),
        Some(two) => Err(Error::Recipe {
            what: format!(
                "{}\nhint: a repaired model is named after its variant and its repair",
                named_twice("models", &two[0], &two[1])
            ),
        }),
    }
}

/// The name of a repair among the `others` before it: reports must not show two models by one word.
fn check_name(repair: &Repair, others: &[Repair]) -> Result<()> {
    let name = &repair.name;
    let is_namesake = |other: &&Repair| other.name.eq_ignore_ascii_case(name);
    let looks_alike = |other: &&Repair| other.title().eq_ignore_ascii_case(repair.title());
    let is_anothers = || OTHERS.iter().any(|other| other.eq_ignore_ascii_case(name));
    let what = if !is_name(name) {
        format!("a repair is named '{name}', expected only letters, digits, '-', '_' and '.'")
    } else if let Some(other) = others.iter().find(is_namesake) {
        format!(
            "{}\nhint: give each a name of its own; the default is its method",
            named_twice("repairs", &other.name, name)
        )
    } else if !repair.is_only() && is_anothers() {
        format!("a repair is named '{name}', expected another name: reports call other models so")
    } else if let Some(other) = others.iter().find(looks_alike) {
        format!(
            "reports show both repairs '{}' and '{name}' as '{}'\nhint: give one another name",
            other.name,
            repair.title()
        )
    } else {
        return Ok(());
    };
    Err(Error::Recipe { what })
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
        let cased = "[[repair]]\n[[repair]]\nname = 'Aird'";
        assert!(
            said(cased).contains("two repairs are named 'aird' and 'Aird', expected names that")
        );
        let mut top = Section::new("at the top", toml::from_str("[[repair]]").unwrap());
        let tables = top.table_or_tables("repair").unwrap();
        let said = repairs(tables, &["a", "a-aird"], &Line).unwrap_err().to_string();
        assert!(said.contains("two models are named 'a-aird'"), "{said}");
        let mut top = Section::new("at the top", toml::from_str("[[repair]]").unwrap());
        let tables = top.table_or_tables("repair").unwrap();
        let said = repairs(tables, &["a", "A-aird"], &Line).unwrap_err().to_string();
        assert!(said.contains("two models are named 'a-aird' and 'A-aird'"), "{said}");
    }

    #[test]
    fn no_repair_is_shown_by_the_word_for_another_model() {
        let said = |recipe: &str| read(recipe).unwrap_err().to_string();
        for name in ["base", "compressed", "Compressed", "Repaired"] {
            let said = said(&format!("[[repair]]\nname = '{name}'"));
            assert!(
                said.contains(&format!("a repair is named '{name}', expected another")),
                "{said}"
            );
        }
        let both = "[[repair]]\nmethod = 'restore'\n[[repair]]\nname = 'restored'";
        let expected = "reports show both repairs 'restore' and 'restored' as 'restored'\nhint: ";
        assert!(said(both).contains(expected), "{}", said(both));
        // The name of a study's only repair may be given.
        let named = "[[repair]]\nname = 'repaired'\n[[repair]]\nmethod = 'restore'";
        assert!(read(named).unwrap()[0].is_only());
        assert!(read("[[repair]]\nname = 'restored'").is_ok());
    }

    #[test]
    fn a_variant_is_listed_once() {
        let said = read("[[repair]]\nvariants = ['a', 'b', 'a']").unwrap_err().to_string();
        assert_eq!(said, "recipe: repair aird: variants: 'a' is listed twice");
        let said = read("[repair]\nvariants = ['b', 'b']").unwrap_err().to_string();
        assert_eq!(said, "recipe: [repair]: variants: 'b' is listed twice");
    }
}
