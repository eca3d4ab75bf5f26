//! Filters and tests of Python's Jinja, where those of minijinja differ.

use minijinja::value::{Kwargs, Rest, Value, ValueKind, ValueOrKwargs};
use minijinja::{Environment, Error, ErrorKind, State, filters};

use super::strings::{split_lines, strip};
use super::tojson::tojson;

/// Replaces minijinja's filters and tests by these.
pub(super) fn add(environment: &mut Environment<'_>) {
    environment.add_test("iterable", is_iterable);
    environment.add_test("sequence", is_sequence);
    environment.add_filter("d", default);
    environment.add_filter("default", default);
    environment.add_filter("e", escape);
    environment.add_filter("escape", escape);
    environment.add_filter("float", float);
    environment.add_filter("indent", indent);
    environment.add_filter("int", int);
    environment.add_filter("tojson", tojson);
    environment.add_filter("trim", trim);
}

/// Whether Python's `iter` accepts it: None is not iterable there, but it is for minijinja.
fn is_iterable(value: &Value) -> bool {
    !value.is_none() && value.try_iter().is_ok()
}

/// Whether it has a length and can be indexed: texts and dicts, too.
fn is_sequence(value: &Value) -> bool {
    use ValueKind::{Iterable, Map, Seq, String, Undefined};
    matches!(value.kind(), Undefined | String | Seq | Iterable | Map)
}

/// `default(value, default_value="", boolean=False)`.
fn default(value: &Value, args: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let mut args = args.into_values();
    // A default may be none: an `Option<Value>` could not distinguish that from no default.
    let named = args.pop_if(|last| last.is_kwargs()).map(Kwargs::try_from).transpose()?;
    let given = |place: usize, name: &str| match &named {
        Some(named) if named.has(name) => named.get(name).map(Some),
        _ => Ok(args.get(place).cloned()),
    };
    let other: Value = given(0, "default_value")?.unwrap_or_else(|| "".into());
    let also_false = given(1, "boolean")?.is_some_and(|value: Value| value.is_true());
    named.map_or(Ok(()), |named| named.assert_all_used())?;
    if args.len() > 2 {
        return Err(ErrorKind::TooManyArguments.into());
    }
    Ok(if value.is_undefined() || (also_false && !value.is_true()) { other } else { value.clone() })
}

/// Escaped for HTML in the words of MarkupSafe, unless it is so already.
fn escape(value: &Value) -> Value {
    if value.is_safe() {
        return value.clone();
    }
    let mut escaped = String::new();
    for c in value.to_string().chars() {
        match c {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&#34;",
            '\'' => escaped += "&#39;",
            c => escaped.push(c),
        }
    }
    Value::from_safe_string(escaped)
}

/// `int(value, default=0, base=10)`: what is not a number becomes the default.
fn int(
    state: &State,
    value: &Value,
    default: Option<Value>,
    base: Option<u32>,
    named: Kwargs,
) -> Result<Value, Error> {
    let default = default.or(named.get("default")?).unwrap_or_else(|| 0.into());
    let base = base.or(named.get("base")?);
    named.assert_all_used()?;
    let none_named = Kwargs::from_iter(std::iter::empty::<(&str, Value)>());
    filters::int(state, &as_number(value), Some(default), base, none_named)
}

/// `float(value, default=0.0)`.
fn float(value: &Value, default: Option<Value>, named: Kwargs) -> Result<Value, Error> {
    let default = default.or(named.get("default")?).unwrap_or_else(|| 0.0.into());
    named.assert_all_used()?;
    let number = as_number(value);
    let parsed = match number.as_str() {
        Some(text) => text.parse().ok(),
        None => f64::try_from(number).ok(),
    };
    Ok(parsed.map_or(default, Value::from))
}

/// A text in Rust's spelling of numbers: without Python's `_` and the white space around.
fn as_number(value: &Value) -> Value {
    match value.as_str() {
        Some(text) => strip(text, None).replace('_', "").into(),
        None if value.kind() == ValueKind::Bool => u32::from(value.is_true()).into(),
        None => value.clone(),
    }
}

/// `indent(s, width=4, first=False, blank=False)`, where a width may be a text.
fn indent(
    value: &Value,
    width: Option<Value>,
    first: Option<bool>,
    blank: Option<bool>,
    named: Kwargs,
) -> Result<String, Error> {
    let width = width.or(named.get("width")?).unwrap_or_else(|| 4.into());
    let first = first.or(named.get("first")?).unwrap_or(false);
    let blank = blank.or(named.get("blank")?).unwrap_or(false);
    named.assert_all_used()?;
    let indention = match width.as_str() {
        Some(text) => text.to_owned(),
        None => " ".repeat(usize::try_from(width)?),
    };
    let text = value.to_string() + "\n";
    let mut out = String::new();
    for (n, line) in split_lines(&text, false).into_iter().enumerate() {
        if n > 0 {
            out.push('\n');
        }
        // `first` puts it in front of all, were the first line blank or not.
        if if n == 0 { first } else { blank || !line.is_empty() } {
            out += &indention;
        }
        out += line;
    }
    Ok(out)
}

/// `trim(value, chars=None)`.
fn trim(value: &Value, chars: Option<&str>) -> String {
    strip(&value.to_string(), chars).to_owned()
}
