//! Methods of Python's values that templates call, where `minijinja-contrib` has none or differs.

use minijinja::value::{Kwargs, Tuple, Value, ValueKind, from_args};
use minijinja::{Error, ErrorKind, State};
use minijinja_contrib::pycompat;

use super::strings::{find, lstrip, part, rsplit, rstrip, split, split_lines, strip, title};

/// A method's result; None for a method that is not defined here.
type Answer = Result<Option<Value>, Error>;

/// `value.method(args)`: the methods here, else pycompat's.
pub(super) fn call(
    state: &mut State,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    let answer = match (value.as_str(), value.kind()) {
        (Some(text), _) => of_text(text, method, args)?,
        (None, ValueKind::Seq | ValueKind::Iterable) => of_list(value, method, args)?,
        // Nothing a template can call changes a value: the copy may be the same.
        (None, ValueKind::Map) if method == "copy" && args.is_empty() => Some(value.clone()),
        _ => None,
    };
    match answer {
        Some(value) => Ok(value),
        None => pycompat::unknown_method_callback(state, value, method, args),
    }
}

fn of_text(text: &str, method: &str, args: &[Value]) -> Answer {
    if let Some(found) = searched(text, method, args)? {
        return Ok(Some(found));
    }
    Ok(Some(match method {
        "strip" => strip(text, chars(args)?).into(),
        "lstrip" => lstrip(text, chars(args)?).into(),
        "rstrip" => rstrip(text, chars(args)?).into(),
        "split" | "rsplit" => {
            let (sep, most, named): (Option<&str>, Option<i64>, Kwargs) = from_args(args)?;
            let sep = sep.or(named.get("sep")?);
            // Python takes a negative number for all.
            let most = most.or(named.get("maxsplit")?).and_then(|n| usize::try_from(n).ok());
            named.assert_all_used()?;
            let parts = if method == "split" { split } else { rsplit }(text, sep, most);
            list(parts.ok_or_else(|| invalid("empty separator"))?)
        }
        "splitlines" => {
            let (keep_ends, named): (Option<bool>, Kwargs) = from_args(args)?;
            let keep_ends = keep_ends.or(named.get("keepends")?).unwrap_or(false);
            named.assert_all_used()?;
            list(split_lines(text, keep_ends))
        }
        "partition" => {
            let (before, after) = text.split_once(separator(args)?).unwrap_or((text, ""));
            triple(text, before, after)
        }
        "rpartition" => {
            let (before, after) = text.rsplit_once(separator(args)?).unwrap_or(("", text));
            triple(text, before, after)
        }
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(args)?;
            text.strip_prefix(prefix).unwrap_or(text).into()
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(args)?;
            text.strip_suffix(suffix).unwrap_or(text).into()
        }
        "title" => {
            let () = from_args(args)?;
            title(text).into()
        }
        _ => return Ok(None),
    }))
}

/// Methods that look for a text, between two indices if these are given.
fn searched(text: &str, method: &str, args: &[Value]) -> Answer {
    let index = |from_end| -> Result<Option<usize>, Error> {
        let (sub, start, end): (&str, Option<i64>, Option<i64>) = from_args(args)?;
        Ok(find(text, sub, (start, end), from_end))
    };
    let found = |index: Option<usize>| index.map_or(Value::from(-1), Value::from);
    let needed = |index: Option<usize>| index.ok_or_else(|| invalid("substring not found"));
    Ok(Some(match method {
        "find" => found(index(false)?),
        "rfind" => found(index(true)?),
        "index" => needed(index(false)?)?.into(),
        "rindex" => needed(index(true)?)?.into(),
        "count" => {
            let (sub, start, end): (&str, Option<i64>, Option<i64>) = from_args(args)?;
            part(text, start, end).map_or(0, |(_, part)| part.matches(sub).count()).into()
        }
        "startswith" | "endswith" if args.len() > 1 => {
            let (_, start, end): (&Value, Option<i64>, Option<i64>) = from_args(args)?;
            let Some((_, part)) = part(text, start, end) else { return Ok(Some(false.into())) };
            let wanted: Vec<Value> = match args[0].as_str() {
                Some(_) => vec![args[0].clone()],
                None => args[0].try_iter()?.collect(),
            };
            let at_start = method == "startswith";
            let holds = |wanted: &str| {
                if at_start { part.starts_with(wanted) } else { part.ends_with(wanted) }
            };
            wanted.iter().filter_map(Value::as_str).any(holds).into()
        }
        _ => return Ok(None),
    }))
}

fn of_list(list: &Value, method: &str, args: &[Value]) -> Answer {
    Ok(match method {
        "copy" if args.is_empty() => Some(list.clone()),
        "index" => {
            let (wanted,): (&Value,) = from_args(args)?;
            let place = list.try_iter()?.position(|item| item == *wanted);
            Some(place.ok_or_else(|| invalid("the value is not in the list"))?.into())
        }
        _ => None,
    })
}

fn list(parts: Vec<&str>) -> Value {
    parts.into_iter().map(Value::from).collect()
}

fn invalid(what: &'static str) -> Error {
    Error::new(ErrorKind::InvalidOperation, what)
}

fn chars(args: &[Value]) -> Result<Option<&str>, Error> {
    let (chars,) = from_args(args)?;
    Ok(chars)
}

fn separator(args: &[Value]) -> Result<&str, Error> {
    match from_args(args)? {
        ("",) => Err(invalid("empty separator")),
        (sep,) => Ok(sep),
    }
}

/// What is before and after the separator, with the separator itself; empty if it is not there.
fn triple(text: &str, before: &str, after: &str) -> Value {
    let sep = &text[before.len()..text.len() - after.len()];
    Tuple::from([before, sep, after].map(Value::from)).into()
}
