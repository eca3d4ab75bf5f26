//! Tries a model in its own process: what ends that process is an error here.
//!
//! llama.cpp aborts on some files (`GGML_ASSERT`), meets instructions that the CPU lacks, or takes
//! more memory than there is. aird starts itself as `aird probe MODEL`, which loads the model,
//! decodes one token and prints [`ProbeOutcome`] as JSON. Whatever becomes of that process, its
//! parent goes on and reports it in one sentence.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::engine::Engine;
use super::error::{Error, Result};
use super::first_token::FirstToken;
use super::graph::Structure;
use super::log;
use super::options::Options;
use super::shortage::is_shortage;
use crate::gguf::Model;

/// Time between two checks whether the child has ended.
const PAUSE: Duration = Duration::from_millis(2);

/// How to start a probe.
#[derive(Debug, Clone)]
pub struct Prober {
    /// aird itself. None: models are tried in this process, which ends where llama.cpp aborts.
    pub program: Option<PathBuf>,
    /// Once it is set, the probe under way is ended.
    pub interrupt: Arc<AtomicBool>,
}

/// The model to try, and how.
#[derive(Debug, Clone, Copy)]
pub struct Trial<'a> {
    /// The model's file, the first one of several.
    pub model: &'a Path,
    /// An adapter to set.
    pub lora: Option<&'a Path>,
    /// Threads and GPU layers of llama.cpp.
    pub options: Options,
}

/// What a probe prints, as JSON.
#[derive(Debug, Serialize, Deserialize)]
enum ProbeOutcome<T> {
    /// The model ran.
    Ran(T),
    /// llama.cpp returned an error: its message.
    Refused(String),
}

impl<T: Serialize> ProbeOutcome<T> {
    /// The outcome as one line of JSON.
    fn of(result: Result<T>) -> String {
        let outcome = match result {
            Ok(answer) => ProbeOutcome::Ran(answer),
            // The parent names the file.
            Err(Error::Load { said, .. } | Error::Adapter { said, .. }) => {
                ProbeOutcome::Refused(said)
            }
            Err(error) => ProbeOutcome::Refused(error.to_string()),
        };
        serde_json::to_string(&outcome).unwrap_or_default()
    }
}

impl Trial<'_> {
    /// In the probe: tries, and returns the line to print. llama.cpp's errors also go to stderr, so
    /// that they outlive an abort.
    pub fn run(&self) -> String {
        log::pass_errors_on(|line| drop(std::io::stderr().write_all(line.as_bytes())));
        ProbeOutcome::of(self.first_token())
    }

    /// In the probe: traces the structure, and returns the line to print.
    pub fn trace(&self) -> String {
        let trace = |model: Model| Structure::trace(&model);
        ProbeOutcome::of(Model::open(self.model).map_err(Error::from).and_then(trace))
    }

    /// The file that an error is about: the model was tried without its adapter first.
    fn tried_file(&self) -> PathBuf {
        self.lora.unwrap_or(self.model).to_owned()
    }

    /// The error for a message of llama.cpp or the system.
    fn error(&self, said: String) -> Error {
        let path = self.tried_file();
        match is_shortage(&said) {
            true => Error::NoMeans { path, said },
            false => Error::Run { path, said },
        }
    }

    fn first_token(&self) -> Result<FirstToken> {
        let mut engine = Engine::load(self.model, self.options)?;
        self.lora.map(|lora| engine.set_adapter(lora, 1.0)).transpose()?;
        if engine.has_tokenizer() {
            // A vocabulary that lacks a byte throws an exception, which nobody may catch.
            let letters = (1..=255u8).map(char::from).chain(['\u{2014}', '\u{65e5}', '\u{1f600}']);
            engine.tokenize(&letters.collect::<String>(), false);
        }
        engine.first_token()
    }
}

impl Prober {
    /// Tries models in this process, which ends where llama.cpp aborts.
    pub fn in_this_process() -> Prober {
        Prober { program: None, interrupt: Arc::default() }
    }

    /// Tries a model in its own process.
    ///
    /// # Errors
    /// [`Error::Run`] where llama.cpp refuses or aborts, [`Error::NoMeans`] where the machine lacks
    /// memory or threads, [`Error::NoProbe`] where no process can be started, or an interrupt.
    pub fn first_token(&self, trial: &Trial<'_>) -> Result<FirstToken> {
        match &self.program {
            Some(program) => self.ask(program, trial, false),
            None => trial.first_token(),
        }
    }

    /// Traces the structure of `model` in its own process.
    ///
    /// # Errors
    /// As [`Prober::first_token`].
    pub fn structure(&self, model: &Model) -> Result<Structure> {
        check_kind(model)?;
        let (model, options) = (&model.shards()[0].path, Options::cpu(1));
        let trial = Trial { model, lora: None, options };
        match &self.program {
            Some(program) => self.ask(program, &trial, true),
            None => Structure::trace(&Model::open(model)?),
        }
    }

    fn ask<T: DeserializeOwned>(
        &self,
        program: &Path,
        trial: &Trial<'_>,
        structure: bool,
    ) -> Result<T> {
        let no_probe = |source| Error::NoProbe { path: trial.model.into(), source };
        let (status, stdout, stderr) = self.run(program, trial, structure).map_err(no_probe)?;
        if self.interrupt.load(Ordering::Relaxed) {
            return Err(Error::Interrupted);
        }
        match serde_json::from_str(stdout.trim()) {
            Ok(ProbeOutcome::Ran(first)) if status.success() => Ok(first),
            Ok(ProbeOutcome::Refused(said)) => Err(trial.error(said)),
            _ => Err(early_end(trial, status, &stderr)),
        }
    }

    /// Runs the child to its end; how it ended, and what it wrote to stdout and stderr.
    fn run(
        &self,
        program: &Path,
        trial: &Trial<'_>,
        structure: bool,
    ) -> io::Result<(ExitStatus, String, String)> {
        let mut command = Command::new(program);
        command.arg("probe").args(["--threads", &trial.options.threads.to_string()]);
        // A worker serves one process, and that is not this child: it runs on this machine.
        if trial.options.workers.is_empty() {
            command.args(trial.options.device_words());
        }
        if structure {
            command.arg("--structure");
        }
        if let Some(lora) = trial.lora {
            command.arg("--lora").arg(lora);
        }
        command.arg("--").arg(trial.model).stdin(Stdio::null());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        // Both pipes are emptied while it runs: a child that prints much never waits for us.
        let (stdout, stderr) = (reader(stdout), reader(stderr));
        let status = self.wait(&mut child)?;
        let read = |reader: JoinHandle<String>| reader.join().unwrap_or_default();
        Ok((status, read(stdout?), read(stderr?)))
    }

    fn wait(&self, child: &mut Child) -> io::Result<ExitStatus> {
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            if self.interrupt.load(Ordering::Relaxed) {
                // The child holds nothing that must be cleaned up.
                child.kill()?;
                return child.wait();
            }
            std::thread::sleep(PAUSE);
        }
    }
}

/// Fails for adapters, statistics and whatever else a GGUF file may hold.
///
/// # Errors
/// [`Error::NoModel`], or a key of the wrong type.
pub fn check_kind(model: &Model) -> Result<()> {
    match model.text("general.type")?.filter(|kind| *kind != "model") {
        None => Ok(()),
        Some(kind) => {
            let path = model.shards()[0].path.clone();
            Err(Error::NoModel { path, kind: kind.into() })
        }
    }
}

/// Reads all of a pipe on its own thread.
fn reader(pipe: Option<impl Read + Send + 'static>) -> io::Result<JoinHandle<String>> {
    std::thread::Builder::new().spawn(move || {
        let mut bytes = Vec::new();
        // What was read before an error is kept: it may show what went wrong.
        let _ = pipe.map(|mut pipe| pipe.read_to_end(&mut bytes));
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// The error for a probe that ended before it could print its outcome.
fn early_end(trial: &Trial<'_>, status: ExitStatus, stderr: &str) -> Error {
    let says = |line: &&str| !line.is_empty() && !line.starts_with("hint: ");
    let last_line = stderr.lines().map(str::trim).rfind(says);
    let last_line = last_line.map(|line| line.strip_prefix("error: ").unwrap_or(line));
    let signal = signal(status);
    if signal == Some(9) {
        let said = "its process was killed, most likely for lack of memory".to_owned();
        return Error::NoMeans { path: trial.tried_file(), said };
    }
    if last_line.is_some_and(|line| line.contains("foreign exceptions")) {
        return trial.error(
            "an exception in llama.cpp ended it: the vocabulary may lack tokens for single bytes"
                .into(),
        );
    }
    let how = match signal {
        Some(4) => "an instruction that this CPU lacks ended it (SIGILL)".to_owned(),
        Some(signal) => format!("signal {signal} ended it"),
        None => match status.code() {
            Some(code) => format!("it ended with exit code {code}"),
            None => "it ended early".to_owned(),
        },
    };
    let said = match (last_line, signal) {
        // The child's own message is enough.
        (Some(line), None) => line.to_owned(),
        (Some(line), Some(_)) => format!("{how}; its last line was: {line}"),
        (None, _) => how,
    };
    trial.error(said)
}

#[cfg(unix)]
fn signal(status: ExitStatus) -> Option<i32> {
    std::os::unix::process::ExitStatusExt::signal(&status)
}

#[cfg(not(unix))]
fn signal(_: ExitStatus) -> Option<i32> {
    None
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;

    /// A program that ends as `script` does, in aird's place.
    fn after(script: &str) -> Result<FirstToken> {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("aird");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        let prober = Prober { program: Some(program), interrupt: Arc::default() };
        let options = Options::cpu(1);
        prober.first_token(&Trial { model: Path::new("m.gguf"), lora: None, options })
    }

    #[test]
    fn however_a_probe_ends_it_is_one_sentence() {
        for (script, expected) in [
            (
                "kill -ILL $$",
                "llama.cpp cannot run m.gguf: an instruction that this CPU lacks ended \
                it (SIGILL)",
            ),
            (
                "echo x.cpp:1 >&2; kill -ABRT $$",
                "llama.cpp cannot run m.gguf: signal 6 ended it; its \
                last line was: x.cpp:1",
            ),
            (
                "kill -KILL $$",
                "m.gguf could not be run here: its process was killed, most likely \
                for lack of memory",
            ),
            (
                "echo error: llama.cpp aborted: y >&2; exit 1",
                "llama.cpp cannot run m.gguf: \
                llama.cpp aborted: y",
            ),
            (
                "echo libgomp: Thread creation failed: z >&2; exit 1",
                "m.gguf could not be run here: \
                libgomp: Thread creation failed: z",
            ),
            ("exit 7", "llama.cpp cannot run m.gguf: it ended with exit code 7"),
            ("echo no JSON", "llama.cpp cannot run m.gguf: it ended with exit code 0"),
            ("echo '{\"Refused\":\"no such key\"}'", "llama.cpp cannot run m.gguf: no such key"),
        ] {
            assert_eq!(after(script).unwrap_err().to_string(), expected, "{script}");
        }
        let ran =
            after("echo '{\"Ran\":{\"token\":3,\"text\":\"a\",\"non_finite\":0,\"spread\":1.5}}'");
        assert_eq!(ran.unwrap().token, 3);
    }

    #[test]
    fn an_interrupt_ends_the_probe_under_way() {
        let prober = Prober { program: Some("sleep".into()), interrupt: Arc::new(true.into()) };
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        assert!(!prober.wait(&mut child).unwrap().success());
    }
}
