//! A real browser, to look at pages with: chromium without a window.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::tempdir;

/// Names it has on PATH.
const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/// A browser.
pub struct Browser(PathBuf);

/// What AIRD_CHROMIUM says (a path), else what is on PATH. None, with the reason printed, if that
/// says `skip`.
///
/// # Panics
/// If there is none: a test must not pass because nothing was tested.
pub fn browser() -> Option<Browser> {
    const HINT: &str = "hint: install chromium, or set AIRD_CHROMIUM to its path, or to skip";
    match std::env::var_os("AIRD_CHROMIUM") {
        Some(word) if word == "skip" => {
            eprintln!("skipped: AIRD_CHROMIUM=skip");
            return None;
        }
        Some(path) => {
            assert!(Path::new(&path).is_file(), "no browser at AIRD_CHROMIUM={path:?}\n{HINT}");
            return Some(Browser(path.into()));
        }
        None => {}
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .flat_map(|folder| NAMES.map(|name| folder.join(name)))
        .find(|path| path.is_file());
    assert!(found.is_some(), "no browser on PATH: {}\n{HINT}", NAMES.join(", "));
    found.map(Browser)
}

impl Browser {
    /// Shows the page `html` in a frame of `width` and `height` pixels, with `more` arguments, and
    /// gives what the browser printed. A frame, as its windows are not narrower than 500 pixels.
    pub fn show(&self, html: &str, (width, height): (u32, u32), more: &[&str]) -> String {
        let folder = tempdir();
        let page = folder.path().join("frame.html");
        let inside = html.replace('&', "&amp;").replace('"', "&quot;");
        let frame = format!(
            "<!DOCTYPE html><html style=\"color-scheme:light dark\"><body style=\"margin:0\">\
             <iframe style=\"border:0;display:block\" width=\"{width}\" height=\"{height}\" \
             srcdoc=\"{inside}\"></iframe></body></html>"
        );
        std::fs::write(&page, frame).unwrap();
        self.open(&page, (width, height), more)
    }

    /// Opens a file in a window of that size.
    ///
    /// # Panics
    /// If the browser fails.
    pub fn open(&self, page: &Path, (width, height): (u32, u32), more: &[&str]) -> String {
        let profile = tempdir();
        let output = Command::new(&self.0)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"])
            .args(["--no-first-run", "--disable-background-networking", "--disable-sync"])
            .args(["--disable-component-update", "--disable-dev-shm-usage", "--hide-scrollbars"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg(format!("--window-size={width},{height}"))
            .args(more)
            .arg(format!("file://{}", page.display()))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {said}", page.display());
        String::from_utf8(output.stdout).unwrap()
    }
}
