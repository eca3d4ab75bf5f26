//! Console blocks of README and of the book print what they say they print.
//!
//! Those that need only the repository run with the other tests. Those that need real models take
//! minutes: `scripts/check-docs.sh` runs them, in the order of the book, in one folder.

use std::path::{Path, PathBuf};

use crate::support::root;

/// Pages whose blocks need only the repository.
const QUICK: [&str; 3] = ["README.md", "docs/formats.md", "docs/troubleshooting.md"];

fn check(path: &Path) {
    trycmd::TestCases::new().register_bin("aird", Path::new(env!("CARGO_BIN_EXE_aird"))).case(path);
}

fn has_console_blocks(path: &Path) -> bool {
    std::fs::read_to_string(path).unwrap().lines().any(|line| line == "```console")
}

/// Pages of the book with console blocks, in its order.
fn pages() -> Vec<PathBuf> {
    let summary = std::fs::read_to_string(root().join("docs/SUMMARY.md")).unwrap();
    let links = summary.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    let paths = links.map(|(page, _)| root().join("docs").join(page));
    paths.filter(|path| has_console_blocks(path)).collect()
}

#[test]
fn the_console_blocks_of_readme_hold() {
    check(Path::new(QUICK[0]));
}

#[test]
fn the_quick_console_blocks_of_the_book_hold() {
    for page in &QUICK[1..] {
        assert!(has_console_blocks(&root().join(page)), "{page} has no console blocks");
        check(Path::new(page));
    }
}

#[test]
#[ignore = "takes minutes and real models: scripts/check-docs.sh"]
fn the_console_blocks_of_the_book_hold_on_real_models() {
    let folder = std::env::var_os("AIRD_DOCS").expect("AIRD_DOCS is the folder to work in");
    std::env::set_current_dir(folder).unwrap();
    let is_quick = |path: &PathBuf| QUICK.iter().any(|quick| path.ends_with(quick));
    let mut pages: Vec<PathBuf> = pages().into_iter().filter(|path| !is_quick(path)).collect();
    assert!(pages.len() >= 3, "{pages:?}");
    let named = std::env::var("AIRD_DOCS_PAGES").unwrap_or_default();
    if !named.is_empty() {
        pages.retain(|path| named.split(' ').any(|name| path.ends_with(name)));
        assert_eq!(pages.len(), named.split(' ').count(), "{named}: found {pages:?}");
    }
    for page in pages {
        println!("{}", page.display());
        check(&page);
    }
}
