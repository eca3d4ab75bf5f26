//! The originals of a recipe: one `[base]`, or a `[[base]]` for each. With several, every base has
//! a study of its own: the recipe as it reads for that base alone.

use toml::{Table, Value};

use super::error::{Error, Result};
use super::reading::{described, is_name, nearest};
use crate::report::{BASES, PAGE};

/// The recipes of every base with its name; the recipe itself, without a name, if it has one
/// `[base]`. A variant or a repair keeps what it says of that base: `base = "NAME"` in a variant
/// means that only this base has it.
///
/// # Errors
/// Bases without names of their own, a variant of a base that does not exist, one direction for
/// several bases.
pub(super) fn by_base(recipe: Table) -> Result<Vec<(Option<String>, Table)>> {
    let Some(Value::Array(bases)) = recipe.get("base") else { return Ok(vec![(None, recipe)]) };
    let names = names(bases)?;
    check(&recipe, &names)?;
    Ok(names.iter().map(|name| (Some(name.clone()), of_base(&recipe, name))).collect())
}

fn names(bases: &[Value]) -> Result<Vec<String>> {
    let wrong = |what: String| Err(Error::Recipe { what });
    let mut names: Vec<String> = Vec::new();
    for base in bases {
        let Some(name) = base.get("name").and_then(Value::as_str) else {
            return Err(Error::MissingKey {
                within: "[[base]]".into(),
                key: "name",
                expected: "a name of its own for each base: its folder in the run",
            });
        };
        match name {
            name if !is_name(name) || [PAGE, BASES].contains(&name) => {
                return wrong(format!(
                    "a base is named '{name}', expected only letters, digits, '-', '_' and '.', \
                     and neither {PAGE} nor {BASES}"
                ));
            }
            name if names.iter().any(|other| other.eq_ignore_ascii_case(name)) => {
                return wrong(format!("two bases are named '{name}'"));
            }
            name => names.push(name.into()),
        }
    }
    if names.is_empty() {
        return wrong("base is an empty list, expected a [base] or at least one [[base]]".into());
    }
    Ok(names)
}

fn check(recipe: &Table, names: &[String]) -> Result<()> {
    if recipe.get("direction").is_some_and(|direction| direction.get("file").is_some()) {
        let what = "[direction]: file is one base's direction, and there are several bases\n\
                    hint: write it into its [[base]]: direction = \"FILE\"";
        return Err(Error::Recipe { what: what.into() });
    }
    let known: Vec<&str> = names.iter().map(String::as_str).collect();
    for variant in tables(recipe, "variant") {
        let Some(base) = variant.get("base") else { continue };
        let name = base.as_str().unwrap_or_default();
        if !known.contains(&name) {
            return Err(Error::Value {
                within: format!("variant {}", name_of(variant)),
                key: "base".into(),
                found: described(base),
                expected: format!("one of {}{}", known.join(", "), nearest(name, &known)),
            });
        }
    }
    Ok(())
}

/// The recipe with only this base, its variants, and their repairs.
fn of_base(recipe: &Table, name: &str) -> Table {
    let mut own = recipe.clone();
    let is_other = |variant: &Table| {
        variant.get("base").and_then(Value::as_str).is_some_and(|base| base != name)
    };
    let gone: Vec<&str> =
        tables(recipe, "variant").filter(|variant| is_other(variant)).map(name_of).collect();
    if let Some(Value::String(title)) = own.get_mut("name") {
        *title += &format!(", {name}");
    }
    let base = tables(recipe, "base").find(|base| name_of(base) == name).cloned();
    let mut base = base.unwrap_or_default();
    base.remove("name");
    if let Some(file) = base.remove("direction") {
        let direction = own.entry("direction").or_insert_with(|| Value::Table(Table::new()));
        if let Some(direction) = direction.as_table_mut() {
            direction.insert("file".into(), file);
        }
    }
    own.insert("base".into(), Value::Table(base));
    if let Some(Value::Array(variants)) = own.get_mut("variant") {
        variants.retain(|variant| !variant.as_table().is_some_and(is_other));
        for variant in variants.iter_mut().filter_map(Value::as_table_mut) {
            variant.remove("base");
        }
    }
    let repairs = match own.get_mut("repair") {
        Some(Value::Array(repairs)) => repairs.as_mut_slice(),
        Some(repair) => std::slice::from_mut(repair),
        None => &mut [],
    };
    for repair in repairs {
        if let Some(Value::Array(variants)) = repair.get_mut("variants") {
            variants.retain(|variant| !variant.as_str().is_some_and(|name| gone.contains(&name)));
        }
    }
    own
}

/// The tables in a list of the recipe; what is not a table is told where the recipe is read.
fn tables<'r>(recipe: &'r Table, key: &str) -> impl Iterator<Item = &'r Table> {
    let list = recipe.get(key).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_table)
}

fn name_of(table: &Table) -> &str {
    table.get("name").and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECIPE: &str = "
        name = 'two'
        [[base]]
        name = 'small'
        model = 's.gguf'
        [[base]]
        name = 'large'
        model = 'l.gguf'
        merge = { lora = 'a.gguf' }
        direction = 'l.safetensors'
        [[variant]]
        name = 'wanda'
        steps = []
        [[variant]]
        name = 'ready'
        base = 'large'
        file = 'l-q2.gguf'
        [[repair]]
        variants = ['wanda', 'ready']
        [[repair]]
        method = 'restore'";

    fn read(recipe: &str) -> Result<Vec<(Option<String>, Table)>> {
        by_base(toml::from_str(recipe).unwrap())
    }

    #[test]
    fn every_base_has_its_own_variants_and_repairs() {
        let found = read(RECIPE).unwrap();
        let expected: [(&str, &str, &[&str]); 2] =
            [("small", "s.gguf", &["wanda"]), ("large", "l.gguf", &["wanda", "ready"])];
        assert_eq!(found.len(), expected.len());
        for ((name, own), (base, model, variants)) in found.iter().zip(expected) {
            assert_eq!(name.as_deref(), Some(base));
            assert_eq!(own["name"].as_str(), Some(format!("two, {base}").as_str()));
            assert_eq!(own["base"]["model"].as_str(), Some(model));
            assert!(own["base"].get("name").is_none());
            let direction = own.get("direction").map(|direction| direction["file"].as_str());
            assert_eq!(direction, (base == "large").then_some(Some("l.safetensors")));
            let named: Vec<&str> = tables(own, "variant").map(name_of).collect();
            assert_eq!(named, variants);
            assert!(tables(own, "variant").all(|variant| !variant.contains_key("base")));
            let repaired = own["repair"][0]["variants"].as_array().unwrap();
            let repaired: Vec<&str> = repaired.iter().filter_map(Value::as_str).collect();
            assert_eq!(repaired, variants);
        }
    }

    #[test]
    fn one_base_is_the_recipe_itself() {
        let table: Table = toml::from_str("name = 'x'\n[base]\nmodel = 'm'").unwrap();
        assert_eq!(by_base(table.clone()).unwrap(), [(None, table)]);
    }

    #[test]
    fn what_is_wrong_with_bases_is_said() {
        let two = |first: &str, second: &str| format!("[[base]]\n{first}\n[[base]]\n{second}\n");
        for (recipe, expected) in [
            (two("name = 'a'", "model = 'm'"), "[[base]]: name is missing"),
            (two("name = 'a'", "name = 'A'"), "two bases are named 'A'"),
            (two("name = 'a'", "name = '../b'"), "a base is named '../b'"),
            ("base = []".into(), "base is an empty list"),
            (
                two("name = 'a'", "name = 'b'\n[direction]\nfile = 'd'"),
                "file is one base's direction",
            ),
            (
                two("name = 'small'", "name = 'b'\n[[variant]]\nname = 'v'\nbase = 'smal'"),
                "variant v: base is 'smal', expected one of small, b\nhint: did you mean 'small'?",
            ),
        ] {
            let said = read(&recipe).unwrap_err().to_string();
            assert!(said.contains(expected), "{said}");
        }
    }
}
