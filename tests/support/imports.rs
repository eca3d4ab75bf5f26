//! Which source file of a crate uses which, and which of them use each other in a circle.
//!
//! A path counts, in a `use` or anywhere in the code, that begins with `crate`, `super`, `self` or
//! a module declared in the same file. It is followed through re-exports to the file that holds
//! what it names: `pub use` hands a name on, and uses nothing itself.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A path, name by name.
type Path = Vec<String>;
/// The files that each file uses; a file goes by its module path, empty for the root of the crate.
pub type Edges = BTreeMap<Path, BTreeSet<Path>>;

/// Names and single other characters.
pub fn tokens(line: &str) -> impl Iterator<Item = &str> {
    let in_name = |c: char| c.is_alphanumeric() || c == '_';
    let mut rest = line;
    std::iter::from_fn(move || {
        rest = rest.trim_start();
        let first = rest.chars().next()?;
        let end = if in_name(first) {
            rest.find(|c| !in_name(c)).unwrap_or(rest.len())
        } else {
            first.len_utf8()
        };
        let (token, tail) = rest.split_at(end);
        rest = tail;
        Some(token)
    })
}

/// Code without its comments and with its strings empty: what they say is no path.
fn bare(code: &str) -> String {
    let (mut out, mut rest) = (String::new(), code);
    while let Some(first) = rest.chars().next() {
        let raw = rest.strip_prefix('r').map(|r| r.trim_start_matches('#'));
        let skipped = match raw.filter(|raw| raw.starts_with('"')) {
            Some(raw) => {
                let n_hashes = rest.len() - raw.len() - 1;
                let end = format!("\"{}", "#".repeat(n_hashes));
                Some(raw[1..].find(&end).map_or(rest.len(), |at| 2 + n_hashes + at + end.len()))
            }
            None if rest.starts_with("//") => Some(rest.find('\n').unwrap_or(rest.len())),
            None if rest.starts_with("'\"'") => Some(3),
            None if first == '"' => Some(string_len(rest)),
            None => None,
        };
        let n = skipped.unwrap_or(first.len_utf8());
        out.push_str(if skipped.is_some() { "" } else { &rest[..n] });
        rest = &rest[n..];
    }
    out
}

/// Bytes of the string literal that `text` begins with, its quotes included.
fn string_len(text: &str) -> usize {
    let mut is_escaped = false;
    let ends = |(_, c): &(usize, char)| {
        let ends = *c == '"' && !is_escaped;
        is_escaped = *c == '\\' && !is_escaped;
        ends
    };
    text.char_indices().skip(1).find(ends).map_or(text.len(), |(at, _)| at + 1)
}

/// `chart/mod.rs` -> `chart`, `chart/draw.rs` -> `chart`, `draw`; the root is empty.
fn module_of(file: &str) -> Path {
    let stem = file.strip_suffix(".rs").unwrap_or(file);
    let mut names: Path = stem.split('/').map(str::to_owned).collect();
    names.pop_if(|last| ["mod", "lib"].contains(&last.as_str()));
    names
}

/// The paths of one file, as they stand there.
#[derive(Default)]
struct Paths {
    used: Vec<Path>,
    /// By the name that is handed on.
    re_exported: BTreeMap<String, Path>,
}

impl Paths {
    fn of(code: &[&str]) -> Paths {
        let mut paths = Paths::default();
        let mut rest = code;
        let mut is_public = false;
        while let [first, tail @ ..] = rest {
            rest = tail;
            match *first {
                "pub" => {
                    // `pub(crate)`, `pub(in crate::llama)`: no path of anything used.
                    if let ["(", ..] = rest {
                        rest = after(rest, ")");
                    }
                    is_public = true;
                    continue;
                }
                // Not the `use<'a>` of a type.
                "use" if rest.first() != Some(&"<") => {
                    let end = rest.iter().position(|t| *t == ";").unwrap_or(rest.len());
                    let mut leaves = Vec::new();
                    expand(&rest[..end], &[], &mut leaves);
                    for (alias, path) in leaves {
                        match is_public {
                            true => drop(paths.re_exported.insert(alias, path)),
                            false => paths.used.push(path),
                        }
                    }
                    rest = &rest[end..];
                }
                // What follows `a::` begins no path of its own.
                ":" if rest.first() == Some(&":") => rest = rest.get(2..).unwrap_or_default(),
                name if is_name(name) && rest.starts_with(&[":", ":"]) => {
                    let mut path = vec![name.to_owned()];
                    while let [":", ":", next, tail @ ..] = rest
                        && is_name(next)
                    {
                        path.push((*next).to_owned());
                        rest = tail;
                    }
                    paths.used.push(path);
                }
                _ => {}
            }
            is_public = false;
        }
        paths
    }
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

fn after<'c, 't>(code: &'c [&'t str], end: &str) -> &'c [&'t str] {
    let at = code.iter().position(|t| *t == end).map_or(code.len(), |at| at + 1);
    &code[at..]
}

/// The leaves of a `use` tree, each with the name that it has here: `a::{b, c as d}` is `a::b` as
/// `b` and `a::c` as `d`.
fn expand(tree: &[&str], before: &[String], leaves: &mut Vec<(String, Path)>) {
    let mut path = before.to_vec();
    for (i, token) in tree.iter().enumerate() {
        match *token {
            "{" => {
                let group = &tree[i + 1..tree.len() - 1];
                return split(group).for_each(|branch| expand(branch, &path, leaves));
            }
            "as" => {
                let alias = tree.get(i + 1).copied().unwrap_or_default();
                return leaves.push((alias.to_owned(), path));
            }
            // `a::{self}` is `a` itself; a path that begins with `self` keeps it.
            "self" if !path.is_empty() => {}
            name if is_name(name) || name == "*" => path.push(name.to_owned()),
            _ => {}
        }
    }
    if let Some(last) = path.last() {
        leaves.push((last.clone(), path));
    }
}

/// The branches of a group, at commas outside inner groups.
fn split<'c, 't>(group: &'c [&'t str]) -> impl Iterator<Item = &'c [&'t str]> {
    let mut depth = 0;
    group.split(move |token| {
        depth += i32::from(*token == "{") - i32::from(*token == "}");
        *token == "," && depth == 0
    })
}

/// All files of a crate.
pub struct Crate {
    files: BTreeMap<Path, Paths>,
}

impl Crate {
    /// `files`: each file's path below the crate's `src/`, and its code without unit tests.
    pub fn new<'s>(files: impl IntoIterator<Item = (&'s str, &'s str)>) -> Crate {
        let paths = |(file, code): (&str, &str)| {
            (module_of(file), Paths::of(&tokens(&bare(code)).collect::<Vec<_>>()))
        };
        Crate { files: files.into_iter().map(paths).collect() }
    }

    /// From the root of the crate, a path that stands in the file `from`; None if it leads into
    /// another crate.
    fn absolute(&self, from: &[String], path: &[String]) -> Option<Path> {
        let (mut base, mut rest) = (from.to_vec(), path);
        match path.first()?.as_str() {
            "crate" => (base, rest) = (Path::new(), &path[1..]),
            "self" => rest = &path[1..],
            "super" => {
                while rest.first().is_some_and(|name| name == "super") {
                    base.pop()?;
                    rest = &rest[1..];
                }
            }
            child => {
                base.push(child.to_owned());
                self.files.get(&base)?;
                rest = &path[1..];
            }
        }
        base.extend_from_slice(rest);
        Some(base)
    }

    /// The file that holds what an absolute path names.
    fn holder(&self, path: &[String]) -> Option<Path> {
        let at = (0..=path.len()).rev().find(|n| self.files.contains_key(&path[..*n]))?;
        let (module, rest) = path.split_at(at);
        let re_exports = &self.files[module].re_exported;
        let Some(original) = rest.first().and_then(|name| re_exports.get(name)) else {
            return Some(module.to_vec());
        };
        // None: what another crate holds.
        let mut original = self.absolute(module, original)?;
        original.extend_from_slice(&rest[1..]);
        self.holder(&original)
    }

    /// Which file uses which.
    pub fn edges(&self) -> Edges {
        let used = |file: &Path, paths: &Paths| {
            let absolute = paths.used.iter().filter_map(|path| self.absolute(file, path));
            let holders = absolute.filter_map(|path| self.holder(&path));
            holders.filter(|other| other != file).collect()
        };
        self.files.iter().map(|(file, paths)| (file.clone(), used(file, paths))).collect()
    }
}

/// The uses that lie on a circle: `a` of `b` where `b`, by others or by itself, uses `a`.
pub fn on_circles(edges: &Edges) -> Vec<(&Path, &Path)> {
    let all = edges.iter().flat_map(|(from, used)| used.iter().map(move |to| (from, to)));
    all.filter(|(from, to)| reached(edges, to).contains(from)).collect()
}

/// All files that `from` uses, by others or by itself.
fn reached<'e>(edges: &'e Edges, from: &Path) -> BTreeSet<&'e Path> {
    let mut reached = BTreeSet::new();
    let mut open = VecDeque::from_iter(&edges[from]);
    while let Some(file) = open.pop_front() {
        if reached.insert(file) {
            open.extend(&edges[file]);
        }
    }
    reached
}
