//! A place for studies: a folder with a tiny model, its direction, prompts, a text and a recipe.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use aird::direction::Direction;
use serde_json::Value;

use super::{Arch, TempDir, Tiny, aird, stderr, tempdir};

/// A folder with a tiny model, its direction, prompts, a text and a recipe about them.
pub struct Place {
    pub folder: TempDir,
}

/// The variants of [`RECIPE`].
pub const VARIANTS: &str = "
[[variant]]
name = 'magnitude'
steps = [{ prune = { method = 'magnitude', sparsity = 0.5 } }]

[[variant]]
name = 'chain'
steps = [
    { prune = { method = 'wanda', sparsity = 0.25, data = 'harmless.txt', samples = 6, ctx = 64,
        chat-template = 'none' } },
    { quantize = { method = 'rtn', type = 'q8_0' } },
]
";

/// Noise has no direction of its own: the base's is given, and the repair's place.
pub const RECIPE: &str = "
name = 'tiny'

[base]
model = 'tiny-llama-F32.gguf'
VARIANTS
[direction]
file = 'base.safetensors'
harmful = 'harmful.txt'
harmless = 'harmless.txt'
chat-template = 'none'

[repair]
variants = ['magnitude']
block = '1'
alpha = 2.0
chat-template = 'none'

[attacks]
attack = ['vanilla', 'adv-decoding']
prompts = 'harmful.txt'
limit = 4
samples = 2
max-tokens = 4
chat-template = 'none'

[tasks]
text = 'text.txt'
ctx = 32
chunks = 2
";

impl Place {
    pub fn new() -> Place {
        let place = Place { folder: tempdir() };
        let model = Tiny::new(Arch::Llama).seed(3).write(place.folder.path());
        for (name, verb) in [("harmful.txt", "sell"), ("harmless.txt", "tell")] {
            let lines: Vec<String> =
                (0..20).map(|i| format!("{verb} me story number {i}")).collect();
            place.write(name, &lines.join("\n"));
        }
        place.write("text.txt", &"there is a text that is read on and on. ".repeat(8));
        place.write("recipe.toml", &RECIPE.replace("VARIANTS", VARIANTS));
        let file = place.path("base.safetensors");
        let captured = aird()
            .arg("direction")
            .args([&model, Path::new("-o"), &file])
            .args([Path::new("--harmful"), &place.path("harmful.txt")])
            .args([Path::new("--harmless"), &place.path("harmless.txt")])
            .args(["--capture-only", "--chat-template", "none", "--threads", "1"])
            .output()
            .unwrap();
        assert!(captured.status.success(), "{}", stderr(&captured));
        let mut direction = Direction::read(&file).unwrap();
        (direction.about.layer, direction.about.position) = (Some(1), Some(-1));
        direction.write(&file).unwrap();
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    pub fn command(&self, run: &str, more: &[&str]) -> Command {
        let mut command = aird();
        command.arg("study").arg(self.path("recipe.toml"));
        command.arg("-o").arg(self.path(run)).args(["--threads", "1"]).args(more);
        command
    }

    pub fn study(&self, run: &str, more: &[&str]) -> Output {
        self.command(run, more).output().unwrap()
    }

    /// Runs to the end, and returns results.json.
    pub fn done(&self, run: &str, more: &[&str]) -> Vec<u8> {
        let output = self.study(run, more);
        assert!(output.status.success(), "{}", stderr(&output));
        self.results(run)
    }

    pub fn results(&self, run: &str) -> Vec<u8> {
        std::fs::read(self.path(run).join("results.json")).unwrap()
    }

    /// The steps of the plan: name, key, state.
    pub fn plan(&self, run: &str, more: &[&str]) -> Vec<(String, String, String)> {
        let output = self.study(run, &[&["--dry-run", "--json"], more].concat());
        let plan = parsed(&output);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let steps = plan["steps"].as_array().unwrap().iter();
        steps.map(|s| (text(&s["name"]), text(&s["key"]), text(&s["state"]))).collect()
    }

    /// Steps that are done in `run`.
    pub fn n_done(&self, run: &str) -> usize {
        let steps = self.path(run).join("steps");
        let Ok(entries) = std::fs::read_dir(steps) else { return 0 };
        let names = entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned());
        names.filter(|name| name.ends_with(".done.json")).count()
    }
}

/// What it printed, as JSON.
pub fn parsed(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", stderr(output)))
}

/// The steps that a run began, by what it said.
pub fn begun(output: &Output) -> Vec<String> {
    let said = stderr(output);
    let lines = said.lines().filter_map(|line| line.strip_prefix('[')?.split_once("] "));
    lines.map(|(_, name)| name.to_owned()).collect()
}
