//! Methods of Python's strings that templates call and `minijinja-contrib` does not know.

use minijinja::value::{Tuple, Value, from_args};
use minijinja::{Error, ErrorKind, State};
use minijinja_contrib::pycompat;

/// `value.method(args)`: pycompat's methods, and ours where it knows none.
pub(super) fn call(
    state: &mut State,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    let Some(text) = value.as_str() else {
        return pycompat::unknown_method_callback(state, value, method, args);
    };
    match method {
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(args)?;
            Ok(text.strip_prefix(prefix).unwrap_or(text).into())
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(args)?;
            Ok(text.strip_suffix(suffix).unwrap_or(text).into())
        }
        "partition" => {
            let sep = separator(args)?;
            let (before, after) = text.split_once(sep).unwrap_or((text, ""));
            Ok(triple(before, if text.contains(sep) { sep } else { "" }, after))
        }
        "rpartition" => {
            let sep = separator(args)?;
            let (before, after) = text.rsplit_once(sep).unwrap_or(("", text));
            Ok(triple(before, if text.contains(sep) { sep } else { "" }, after))
        }
        "rsplit" if !args.is_empty() => {
            let (_, n): (&str, Option<i64>) = from_args(args)?;
            let sep = separator(&args[..1])?;
            // Python counts the splits, and takes a negative number for all.
            let n_parts = n.and_then(|n| usize::try_from(n).ok()).map_or(usize::MAX, |n| n + 1);
            let mut parts: Vec<&str> = text.rsplitn(n_parts, sep).collect();
            parts.reverse();
            Ok(parts.into_iter().map(Value::from).collect())
        }
        _ => pycompat::unknown_method_callback(state, value, method, args),
    }
}

fn separator(args: &[Value]) -> Result<&str, Error> {
    match from_args(args)? {
        ("",) => Err(Error::new(ErrorKind::InvalidOperation, "empty separator")),
        (sep,) => Ok(sep),
    }
}

fn triple(before: &str, sep: &str, after: &str) -> Value {
    Tuple::from([before, sep, after].map(Value::from)).into()
}
