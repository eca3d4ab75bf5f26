//! The rules of the house that a machine can check: sizes, order of folders, what may stand
//! where. A rule that nobody checks is a wish.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::imports::{Crate, on_circles, tokens};
use crate::support::root;

const MAX_FILE_LINES: usize = 600;
const MAX_FN_LINES: usize = 70;
const MAX_LINE_CHARS: usize = 100;
const MAX_MAIN_LINES: usize = 80;

/// Folders of `src/` from the top: each may use those after it, never those before.
const LAYERS: [&str; 19] = [
    "cli",
    "study",
    "verbs",
    "report",
    "eval",
    "repair",
    "direction",
    "judge",
    "prompts",
    "refit",
    "compress",
    "origin",
    "stats",
    "adapter",
    "checkpoint",
    "quant",
    "llama",
    "gguf",
    "numeric",
];

/// A source file; `path` is relative to the repository, with `/` between its parts.
struct Source {
    path: String,
    text: String,
}

impl Source {
    /// Lines with their numbers, comments left out.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let is_code = |(_, line): &(usize, &str)| !line.trim_start().starts_with("//");
        self.text.lines().enumerate().map(|(i, line)| (i + 1, line)).filter(is_code)
    }

    /// As [`Source::code`], up to the unit tests, which stand last.
    fn shipped(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code().take_while(|(_, line)| *line != "#[cfg(test)]")
    }

    fn is_shipped(&self) -> bool {
        self.path.starts_with("src/")
            || (self.path.starts_with("crates/") && self.path.contains("/src/"))
    }

    /// `src/quant/rows.rs` -> `quant`; None for files directly in `src`, and of other crates.
    fn folder(&self) -> Option<&str> {
        self.path.strip_prefix("src/")?.split_once('/').map(|(folder, _)| folder)
    }
}

fn collect(folder: &Path, out: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.map(|e| e.unwrap().path()) {
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            collect(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

fn sources() -> Vec<Source> {
    let mut paths = Vec::new();
    for folder in ["src", "crates", "tests", "benches", "fuzz"] {
        collect(&root().join(folder), &mut paths);
    }
    paths.sort();
    assert!(paths.len() > 30, "only {} source files found", paths.len());
    let read = |path: PathBuf| {
        let relative = path.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/");
        Source { path: relative, text: fs::read_to_string(&path).unwrap() }
    };
    paths.into_iter().map(read).collect()
}

/// Fails with every finding at once: one look mends them all.
fn none(findings: Vec<String>) {
    assert!(findings.is_empty(), "{} findings:\n{}", findings.len(), findings.join("\n"));
}

/// Findings of a rule that looks at one shipped line at a time.
fn in_shipped_lines(bad: impl Fn(&Source, &str) -> bool) -> Vec<String> {
    let sources = sources();
    let shipped = sources.iter().filter(|s| s.is_shipped());
    let lines = shipped.flat_map(|s| s.shipped().map(move |(n, line)| (s, n, line)));
    let found = lines.filter(|(s, _, line)| bad(s, line));
    found.map(|(s, n, line)| format!("{}:{n}: {}", s.path, line.trim())).collect()
}

#[test]
fn every_file_says_what_it_is_and_is_short() {
    let mut findings = Vec::new();
    for source in sources() {
        let path = &source.path;
        if !source.text.starts_with("//! ") {
            findings.push(format!("{path}: does not open with `//!`"));
        }
        let n_lines = source.text.lines().count();
        if n_lines > MAX_FILE_LINES {
            findings.push(format!("{path}: {n_lines} lines, at most {MAX_FILE_LINES}"));
        }
        if path == "src/main.rs" && n_lines > MAX_MAIN_LINES {
            findings.push(format!("{path}: {n_lines} lines, at most {MAX_MAIN_LINES}"));
        }
        for (n, line) in (1..).zip(source.text.lines()) {
            let n_chars = line.chars().count();
            if n_chars > MAX_LINE_CHARS {
                findings.push(format!("{path}:{n}: {n_chars} characters"));
            }
        }
    }
    none(findings);
}

/// Lines from a function's first to its closing brace; None if `first` begins none.
fn fn_lines(lines: &[&str], first: usize) -> Option<usize> {
    let line = lines[first];
    let trimmed = line.trim_start();
    const BEFORE: [&str; 8] =
        ["pub", "(super)", "(crate)", "const", "async", "unsafe", "extern", "\"C\""];
    let mut rest = trimmed;
    while let Some(shorter) = BEFORE.iter().find_map(|word| rest.strip_prefix(word)) {
        rest = shorter.trim_start();
    }
    rest.strip_prefix("fn ")?;
    // rustfmt puts the closing brace under the first letter.
    let indent = &line[..line.len() - trimmed.len()];
    let closing = format!("{indent}}}");
    if trimmed.ends_with('}') || trimmed.ends_with(';') {
        return Some(1);
    }
    lines[first..].iter().position(|l| *l == closing).map(|n| n + 1)
}

#[test]
fn every_function_fits_on_a_screen() {
    let mut findings = Vec::new();
    for source in sources() {
        let lines: Vec<&str> = source.text.lines().collect();
        for first in 0..lines.len() {
            if let Some(n) = fn_lines(&lines, first).filter(|&n| n > MAX_FN_LINES) {
                let name = lines[first].trim();
                findings.push(format!("{}:{}: {n} lines: {name}", source.path, first + 1));
            }
        }
    }
    none(findings);
}

#[test]
fn nothing_is_left_to_do_or_to_debug() {
    let mut findings = Vec::new();
    for source in sources() {
        for (n, line) in source.code() {
            let macros = ["todo", "dbg"].map(|name| format!("{name}!("));
            if macros.iter().any(|m| line.contains(m)) {
                findings.push(format!("{}:{n}: {}", source.path, line.trim()));
            }
        }
    }
    none(findings);
}

#[test]
fn nothing_shipped_unwraps() {
    none(in_shipped_lines(|_, line| line.contains(".unwrap()") || line.contains(".expect(")));
}

#[test]
fn only_the_command_line_prints() {
    let may_print = |s: &Source| s.folder() == Some("cli") || s.path == "src/main.rs";
    none(in_shipped_lines(|source, line| {
        let prints = ["println!(", "print!("].iter().any(|m| line.contains(m));
        prints && !may_print(source)
    }));
}

#[test]
fn unsafe_code_stands_in_two_places_and_says_why_it_is_sound() {
    let mut findings = Vec::new();
    for source in sources() {
        let path = &source.path;
        let lines: Vec<&str> = source.text.lines().collect();
        for (n, line) in source.code() {
            let words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
            if !words.into_iter().any(|word| word == "unsafe") || line.contains('"') {
                continue;
            }
            let allowed = ["src/llama/", "crates/gguf/src/model.rs", "tests/support/"];
            if !allowed.iter().any(|a| path.starts_with(a)) {
                findings.push(format!("{path}:{n}: unsafe: {}", line.trim()));
            }
            if !is_explained(&lines[..n - 1]) && !line.contains("unsafe extern") {
                findings.push(format!("{path}:{n}: no SAFETY line: {}", line.trim()));
            }
        }
    }
    none(findings);
}

/// True if the comment above, perhaps over the beginning of a statement, says `SAFETY:`; for an
/// unsafe function its documentation says `# Safety`.
fn is_explained(before: &[&str]) -> bool {
    let mut above = before.iter().rev();
    let statement = |line: &&&str| {
        !line.trim_start().starts_with("//") && !line.trim_end().ends_with([';', '}'])
    };
    let comment = |line: &str| line.trim_start().starts_with("//");
    let mut rest = above.by_ref().skip_while(statement);
    rest.by_ref()
        .take_while(|line| comment(line))
        .any(|line| line.contains("SAFETY:") || line.contains("# Safety"))
}

/// What stands behind each `crate::`, of `crate::{a, b::{c, d}}` both `a` and `b`.
fn used_folders(source: &Source) -> Vec<(usize, String)> {
    let mut used = Vec::new();
    // Inside a group: how many braces are open.
    let mut depth = 0;
    let mut expected = false;
    for (n, line) in source.code() {
        for word in tokens(line) {
            match word {
                "crate" => expected = true,
                "{" if depth > 0 || expected => depth += 1,
                "}" if depth > 0 => {
                    depth -= 1;
                    expected = false;
                }
                // `pub(crate)` uses nothing.
                ")" => expected = false,
                "," => expected = depth == 1,
                name if expected && name.starts_with(char::is_alphabetic) => {
                    used.push((n, name.into()));
                    expected = false;
                }
                _ => {}
            }
        }
    }
    used
}

#[test]
fn folders_use_only_what_is_below_them() {
    let rank = |folder: &str| LAYERS.iter().position(|&layer| layer == folder);
    let sources = sources();
    let mut findings = Vec::new();
    for source in &sources {
        let Some(folder) = source.folder() else { continue };
        let Some(own) = rank(folder) else {
            findings.push(format!("{}: the folder has no place in LAYERS", source.path));
            continue;
        };
        for (n, other) in used_folders(source) {
            if rank(&other).is_some_and(|other| other < own) {
                findings.push(format!("{}:{n}: {folder} uses {other}", source.path));
            }
        }
    }
    let map = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let folders = map.lines().filter_map(|l| l.strip_prefix("pub mod ")?.strip_suffix(';'));
    let ranks: Vec<_> = folders.map(rank).collect();
    if !ranks.is_sorted() {
        findings.push("src/lib.rs: its modules do not stand in the order of LAYERS".into());
    }
    none(findings);
}

/// The code of each file of the crate in `folder`, by its path there.
fn shipped_code<'s>(sources: &'s [Source], folder: &str) -> Vec<(&'s str, String)> {
    let code = |source: &'s Source| {
        let path = source.path.strip_prefix(folder).filter(|path| *path != "main.rs")?;
        let lines: Vec<&str> = source.shipped().map(|(_, line)| line).collect();
        Some((path, lines.join("\n")))
    };
    sources.iter().filter_map(code).collect()
}

#[test]
fn files_do_not_use_each_other_in_a_circle() {
    let sources = sources();
    let mut findings = Vec::new();
    for folder in ["src/", "crates/gguf/src/"] {
        let files = shipped_code(&sources, folder);
        let edges = Crate::new(files.iter().map(|(path, code)| (*path, code.as_str()))).edges();
        assert!(edges.values().any(|used| !used.is_empty()), "{folder}: no file uses another");
        let names = |module: &[String]| format!("{folder}{}", module.join("/"));
        for (from, to) in on_circles(&edges) {
            findings.push(format!("{} uses {}, and that uses it", names(from), names(to)));
        }
    }
    none(findings);
}

#[test]
fn a_circle_is_seen_through_re_exports_and_inline_paths() {
    let files = [
        ("lib.rs", "pub mod shapes;\npub use other_crate as other;"),
        ("shapes/mod.rs", "mod line;\nmod point;\npub use line::{Line, Style as Stroke};"),
        // Through the re-export, under another name; the root is no part of a circle.
        ("shapes/point.rs", "use super::{Line as L, Stroke};\npub(in crate::shapes) fn f() {}"),
        ("shapes/line.rs", r#"fn f(p: crate::shapes::point::Point) -> &str { "\"{" }"#),
        // Comments, strings and other crates are no paths.
        ("text.rs", "use crate::other::X;\n// crate::page\nconst A: &str = \"use crate::page;\";"),
        ("page.rs", "use std::{fmt, io::{self, Write}};\nuse crate::text::{self, A};"),
    ];
    let edges = Crate::new(files).edges();
    let named = |module: &Vec<String>| module.join("/");
    let circles: Vec<_> = on_circles(&edges).iter().map(|(a, b)| (named(a), named(b))).collect();
    let [line, point] = ["shapes/line", "shapes/point"].map(str::to_owned);
    assert_eq!(circles, [(line.clone(), point.clone()), (point, line)]);
    let used = |module: &str| edges[&[module.to_owned()][..]].iter().map(named).collect::<Vec<_>>();
    assert_eq!((used("text"), used("page")), (Vec::new(), vec!["text".to_owned()]));
}

#[test]
fn the_scanners_find_what_they_look_for() {
    let long = format!("impl X {{\n    pub fn f() {{\n{}    }}\n}}", "        x();\n".repeat(70));
    let lines: Vec<&str> = long.lines().collect();
    assert_eq!(fn_lines(&lines, 0), None);
    assert_eq!(fn_lines(&lines, 1), Some(72));
    assert_eq!(fn_lines(&["fn f();", "}"], 0), Some(1));
    assert_eq!(fn_lines(&["pub(super) const fn f(", "    x: u8,", ") {", "}"], 0), Some(4));

    let text = "use crate::{\n    quant::{self, rows},\n    cli,\n};\n\
                // crate::study\nfn f() -> crate::gguf::Model {}\npub(crate) fn g() {}\n";
    let source = Source { path: "src/stats/x.rs".into(), text: text.into() };
    let used = used_folders(&source);
    let used: Vec<_> = used.iter().map(|(n, name)| (*n, name.as_str())).collect();
    assert_eq!(used, [(2, "quant"), (3, "cli"), (6, "gguf")]);

    assert!(is_explained(&["f();", "// SAFETY: it is.", "let x ="]));
    assert!(is_explained(&["/// # Safety", "/// It is.", "#[inline]"]));
    assert!(!is_explained(&["// SAFETY: of another.", "f();"]));
    assert!(!is_explained(&["// Why not."]));
}

/// Files that are or would be committed; None where there is no git.
fn committed() -> Option<Vec<PathBuf>> {
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"])
        .current_dir(root())
        .output();
    let listed = listed.ok().filter(|o| o.status.success())?;
    let names = String::from_utf8(listed.stdout).unwrap();
    Some(names.split_terminator('\0').map(|name| root().join(name)).collect())
}

#[test]
fn no_committed_file_names_a_place_on_one_machine() {
    let Some(files) = committed() else {
        eprintln!("skipped: no git here");
        return;
    };
    // In pieces, so that this file does not name it either.
    let place = ["/", "work", "/"].concat();
    let mut findings = Vec::new();
    for path in files.iter().filter(|p| p.is_file()) {
        let Ok(text) = fs::read_to_string(path) else { continue };
        for (n, line) in (1..).zip(text.lines()) {
            if line.contains(&place) {
                findings.push(format!("{}:{n}: {line}", path.display()));
            }
        }
    }
    none(findings);
}
