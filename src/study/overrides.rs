//! `--set KEY=VALUE`: a recipe changed on the command line.

use std::str::FromStr;

use toml::{Table, Value};

use super::error::{Error, Result};
use super::reading::nearest;
use super::repairs;

/// One change: a dotted key and its value. Variants go by their names, bases and repairs too where
/// there are several.
#[derive(Debug, Clone, PartialEq)]
pub struct Override {
    text: String,
    keys: Vec<String>,
    value: Value,
}

impl FromStr for Override {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Override, String> {
        let (keys, value) =
            text.split_once('=').ok_or("expected KEY=VALUE, e.g. attacks.limit=8")?;
        let keys: Vec<String> = keys.split('.').map(|key| key.trim().to_owned()).collect();
        if keys.iter().any(String::is_empty) {
            return Err("expected a key, e.g. attacks.limit".into());
        }
        // What is not a TOML value is a text: names and paths need no quotes.
        let parsed = toml::from_str::<Table>(&format!("v = {value}"));
        let parsed = parsed.ok().and_then(|mut table| table.remove("v"));
        let value = parsed.unwrap_or_else(|| Value::String(value.trim().into()));
        Ok(Override { text: text.into(), keys, value })
    }
}

/// Applies the overrides in order.
///
/// # Errors
/// A variant, repair or step that does not exist, or a key within something that is not a table.
pub fn override_all(recipe: &mut Table, overrides: &[Override]) -> Result<()> {
    for one in overrides {
        let keys: Vec<&str> = one.keys.iter().map(String::as_str).collect();
        set(recipe, &keys, &one.value)
            .map_err(|what| Error::Set { text: one.text.clone(), what })?;
    }
    Ok(())
}

fn set(table: &mut Table, keys: &[&str], value: &Value) -> std::result::Result<(), String> {
    match keys {
        [] => Err("expected a key after the name".into()),
        [key] => {
            table.insert((*key).into(), value.clone());
            Ok(())
        }
        ["variant", name, rest @ ..] => set(named(table, "variant", name)?, rest, value),
        // With one [base] or [repair] the next key is an option's, not a name.
        [kind @ ("base" | "repair"), name, rest @ ..]
            if table.get(*kind).is_some_and(Value::is_array) =>
        {
            set(named(table, kind, name)?, rest, value)
        }
        [verb @ ("prune" | "quantize" | "merge"), rest @ ..] if table.contains_key("steps") => {
            set(step(table, verb)?, rest, value)
        }
        [key, rest @ ..] => {
            let inner = table.entry(*key).or_insert_with(|| Value::Table(Table::new()));
            let inner = inner.as_table_mut().ok_or_else(|| format!("{key} holds no keys"))?;
            set(inner, rest, value)
        }
    }
}

/// The one called `name` in the list of tables `kind`.
fn named<'t>(
    table: &'t mut Table,
    kind: &str,
    name: &str,
) -> std::result::Result<&'t mut Table, String> {
    let name_of = |one: &Table| match kind {
        "repair" => repairs::name_of(one).to_owned(),
        _ => one.get("name").and_then(Value::as_str).unwrap_or_default().to_owned(),
    };
    let all = table.get_mut(kind).and_then(Value::as_array_mut);
    let mut names = Vec::new();
    for one in all.into_iter().flatten().filter_map(Value::as_table_mut) {
        match name_of(one) {
            found if found == name => return Ok(one),
            found => names.push(found),
        }
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let hint = nearest(name, &names);
    Err(format!("no {kind} is named '{name}', expected one of {}{hint}", names.join(", ")))
}

/// The options of a variant's first step of that verb.
fn step<'t>(table: &'t mut Table, verb: &str) -> std::result::Result<&'t mut Table, String> {
    let steps = table.get_mut("steps").and_then(Value::as_array_mut);
    let mut options = steps.into_iter().flatten().filter_map(|s| s.as_table_mut()?.get_mut(verb));
    let options = options.next().ok_or_else(|| format!("no step of the variant is {verb}"))?;
    options.as_table_mut().ok_or_else(|| format!("{verb} holds no keys"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECIPE: &str = "
        name = 'x'
        [attacks]
        limit = 4
        [[variant]]
        name = 'a'
        file = 'a.gguf'
        [[variant]]
        name = 'wanda'
        steps = [{ prune = { sparsity = 0.5 } }, { quantize = { method = 'rtn' } }]";

    fn changed(overrides: &[&str]) -> Result<Table> {
        let mut table: Table = toml::from_str(RECIPE).unwrap();
        let parsed: Vec<Override> = overrides.iter().map(|o| o.parse().unwrap()).collect();
        override_all(&mut table, &parsed)?;
        Ok(table)
    }

    #[test]
    fn keys_lead_through_sections_variants_and_steps() {
        let table = changed(&[
            "attacks.limit=8",
            "tasks.data-dir=some/folder",
            "variant.wanda.prune.sparsity=0.4",
            "variant.wanda.quantize.type=q4_0",
            "attacks.attack=['vanilla', 'adv-decoding']",
        ])
        .unwrap();
        assert_eq!(table["attacks"]["limit"].as_integer(), Some(8));
        assert_eq!(table["attacks"]["attack"].as_array().unwrap().len(), 2);
        assert_eq!(table["tasks"]["data-dir"].as_str(), Some("some/folder"));
        let steps = &table["variant"][1]["steps"];
        assert_eq!(steps[0]["prune"]["sparsity"].as_float(), Some(0.4));
        assert_eq!(steps[1]["quantize"]["type"].as_str(), Some("q4_0"));
    }

    #[test]
    fn bases_and_repairs_are_found_by_their_names_where_there_are_several() {
        let set = |recipe: &str, text: &str| {
            let mut table: Table = toml::from_str(recipe).unwrap();
            override_all(&mut table, &[text.parse().unwrap()]).map(|()| table)
        };
        let one = set("[repair]\nmethod = 'aird'", "repair.max-tokens=4").unwrap();
        assert_eq!(one["repair"]["max-tokens"].as_integer(), Some(4));
        let several = "[[repair]]\n[[repair]]\nmethod = 'restore'\n[[repair]]\nname = 'mild'";
        for (i, name) in ["aird", "restore", "mild"].iter().enumerate() {
            let table = set(several, &format!("repair.{name}.max-tokens=4")).unwrap();
            assert_eq!(table["repair"][i]["max-tokens"].as_integer(), Some(4));
        }
        let said = set(several, "repair.max-tokens=4").unwrap_err().to_string();
        assert!(said.contains("no repair is named 'max-tokens', expected one of aird, restore"));
        let bases = "[[base]]\nname = 'a'\n[[base]]\nname = 'b'";
        let table = set(bases, "base.b.model=m.gguf").unwrap();
        assert_eq!(table["base"][1]["model"].as_str(), Some("m.gguf"));
    }

    #[test]
    fn what_is_not_there_is_named_with_what_is_near() {
        let said = |text: &str| changed(&[text]).unwrap_err().to_string();
        assert!(said("variant.wandaa.prune.sparsity=1").contains("did you mean 'wanda'?"));
        assert!(said("variant.wanda.merge.lora=x").contains("no step of the variant is merge"));
        assert!(said("name.x=1").contains("name holds no keys"));
        assert!(said("variant.wanda=1").contains("expected a key after the name"));
        assert!("attacks".parse::<Override>().is_err());
        assert!("a..b=1".parse::<Override>().is_err());
    }
}
