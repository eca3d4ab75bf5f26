//! Writes a recipe as TOML, every default included.

use toml::{Table, Value};

use super::recipe::Recipe;

/// The resolved recipe: reading it gives the same study.
pub fn toml_text(recipe: &Recipe) -> String {
    let mut out = format!(
        "name = {}\nseed = {}\n\n[base]\nmodel = {}\n",
        quoted(&recipe.name),
        recipe.seed,
        quoted(&recipe.model)
    );
    if let Some(merge) = &recipe.merge {
        out += &format!("merge = {}\n", inline(merge));
    }
    for variant in &recipe.variants {
        out += &format!("\n[[variant]]\nname = {}\n", quoted(&variant.name));
        match &variant.file {
            Some(file) => out += &format!("file = {}\n", quoted(file)),
            None => {
                let step = |(verb, options): &(&str, Table)| {
                    format!("    {{ {verb} = {} }},\n", inline(options))
                };
                let steps: String = variant.steps.iter().map(step).collect();
                out += &format!("steps = [\n{steps}]\n");
            }
        }
    }
    out += "\n[direction]\n";
    if let Some(file) = &recipe.direction_file {
        out += &format!("file = {}\n", quoted(file));
    }
    out += &lines(&recipe.direction);
    for repair in &recipe.repairs {
        out += &match recipe.repairs.as_slice() {
            [only] if only.is_only() => "\n[repair]\n".into(),
            _ => format!("\n[[repair]]\nname = {}\n", quoted(&repair.name)),
        };
        let variants: Vec<String> = repair.variants.iter().map(|name| quoted(name)).collect();
        out += &format!("variants = [{}]\n", variants.join(", "));
        out += &lines(&repair.options);
    }
    out += &format!("\n[attacks]\n{}", lines(&recipe.attacks));
    out += &format!("\n[tasks]\n{}", lines(&recipe.tasks));
    out += &format!(
        "\n[interventions]\nnecessity = {}\nsufficiency = {}\n",
        recipe.necessity, recipe.sufficiency
    );
    out
}

fn lines(table: &Table) -> String {
    table.iter().map(|(name, value)| format!("{name} = {}\n", value_text(value))).collect()
}

fn inline(table: &Table) -> String {
    let pair = |(name, value): (&String, &Value)| format!("{name} = {}", value_text(value));
    format!("{{ {} }}", table.iter().map(pair).collect::<Vec<_>>().join(", "))
}

fn value_text(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        Value::Integer(number) => number.to_string(),
        // With a point, so that it is read as a float again.
        Value::Float(number) => format!("{number:?}"),
        Value::Boolean(flag) => flag.to_string(),
        Value::Datetime(date) => date.to_string(),
        Value::Array(items) => {
            format!("[{}]", items.iter().map(value_text).collect::<Vec<_>>().join(", "))
        }
        Value::Table(table) => inline(table),
    }
}

/// A basic string: characters that would end it or control a terminal are escaped.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out += "\\n",
            '\t' => out += "\\t",
            c if c.is_control() => out += &format!("\\u{:04X}", c as u32),
            c => out.push(c),
        }
    }
    out + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_what_they_were() {
        let mut table = Table::new();
        let text = "a \"b\" \\ \n\t\u{7} \u{e9}";
        table.insert("text".into(), Value::String(text.into()));
        table.insert("whole-float".into(), Value::Float(1.0));
        table.insert("small".into(), Value::Float(1e-9));
        table.insert("list".into(), Value::Array(vec![Value::Integer(-1), Value::Boolean(true)]));
        let again: Table = toml::from_str(&lines(&table)).unwrap();
        assert_eq!(again, table);
        let nested: Table = toml::from_str(&format!("x = {}", inline(&table))).unwrap();
        assert_eq!(nested["x"], Value::Table(table));
    }
}
