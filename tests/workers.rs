//! Workers on this machine: models that run on two of them give what they give here, and a worker
//! that is gone is one sentence, after which the same command goes on where it was.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use aird::direction::Direction;
use aird::gguf::GgmlType;
use aird::prompts::{self, Part, PromptSet};
use aird::verbs::devices::Report;
use serde_json::Value;

use crate::support::{Arch, Refuser, Tiny, aird, is_report, stderr, stdout, tempdir};

/// A worker, killed when it is dropped.
struct Worker {
    child: Child,
    endpoint: String,
}

impl Worker {
    fn start() -> Worker {
        // Somebody else may take the port before the worker does.
        let tried = (0..5).find_map(|_| {
            let free = TcpListener::bind("127.0.0.1:0").unwrap();
            let endpoint = free.local_addr().unwrap().to_string();
            drop(free);
            Worker::at(endpoint)
        });
        tried.unwrap()
    }

    /// None if it ended, since the port is taken.
    fn at(endpoint: String) -> Option<Worker> {
        let mut command = aird();
        command.args(["worker", "--threads", "1", "--listen", &endpoint]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let begun = Instant::now();
        while TcpStream::connect(&endpoint).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(20), "no worker at {endpoint}");
            if child.try_wait().unwrap().is_some() {
                return None;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(Worker { child, endpoint })
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.kill();
    }
}

fn file(folder: &Path, name: &str, set: PromptSet) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, set.texts().collect::<Vec<_>>().join("\n")).unwrap();
    path
}

fn done(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    output
}

#[test]
fn two_workers_answer_and_capture_as_one_machine_does() {
    let folder = tempdir();
    let model = Refuser::of(0.4, GgmlType::F32).write(folder.path(), "model.gguf");
    let harmful = file(folder.path(), "harmful.txt", prompts::harmful(Part::HeldOut));
    let harmless = file(folder.path(), "harmless.txt", prompts::harmless(Part::HeldOut));
    let workers = [Worker::start(), Worker::start()];
    let rpc = workers.each_ref().map(|worker| worker.endpoint.clone()).join(",");

    let listed: Report = is_report(
        serde_json::from_slice(&done(aird().args(["devices", "--json", "--rpc", &rpc])).stdout)
            .unwrap(),
    );
    let lent: Vec<_> = listed.devices.iter().filter(|device| device.takes_blocks).collect();
    assert!(lent.len() >= 2 && lent.iter().all(|device| device.total > 0), "{listed:?}");

    let captured = |name: &str, more: &[&str]| {
        let out = folder.path().join(name);
        let mut command = aird();
        command.arg("direction").arg(&model).arg("-o").arg(&out);
        command.arg("--harmful").arg(&harmful).arg("--harmless").arg(&harmless);
        command.args(["--capture-only", "--chat-template", "none", "--threads", "1"]).args(more);
        done(&mut command);
        Direction::read(&out).unwrap()
    };
    let (here, there) = (captured("here", &[]), captured("there", &["--rpc", &rpc]));
    let [a, b] = [&here.candidates, &there.candidates];
    let size = |values: &[f32]| values.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    let apart: Vec<f32> = a.values.iter().zip(&b.values).map(|(x, y)| x - y).collect();
    let (apart, all) = (size(&apart), size(&a.values));
    assert!(all > 0.0 && apart < 1e-3 * all, "{apart} of {all}");

    let asked = |more: &[&str]| -> Value {
        let mut command = aird();
        command.arg("asr").arg(&model).args(["--attack", "vanilla", "--benign", "none", "--json"]);
        command.arg("--prompts").arg(&harmful).args(["--max-tokens", "8", "--limit", "16"]);
        command.args(["--chat-template", "none", "--threads", "1"]).args(more);
        let found: Value = serde_json::from_slice(&done(&mut command).stdout).unwrap();
        found["models"].clone()
    };
    assert_eq!(asked(&[]), asked(&["--rpc", &rpc]));
    // Only the first block elsewhere.
    assert_eq!(asked(&[]), asked(&["--rpc", &rpc, "--gpu-layers", "1"]));
    // The same worker by two names would wait for itself.
    let one = &workers[0].endpoint;
    let twice = format!("{one},{}", one.replace("127.0.0.1", "localhost"));
    let output = aird().args(["devices", "--rpc", &twice]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains(&format!("it is the same as {one}")), "{}", stderr(&output));
}

#[test]
fn a_restore_on_workers_is_that_of_one_machine() {
    let folder = tempdir();
    let original = Tiny::new(Arch::Llama).seed(5).write(folder.path());
    let pruned = folder.path().join("pruned.gguf");
    let prune = ["--method", "magnitude", "--sparsity", "0.5", "-o"];
    done(aird().arg("prune").arg(&original).args(prune).arg(&pruned));
    let workers = [Worker::start(), Worker::start()];
    let rpc = workers.each_ref().map(|worker| worker.endpoint.clone()).join(",");
    let restored = |name: &str, more: &[&str]| {
        let out = folder.path().join(name);
        let mut command = aird();
        command.arg("repair").arg(&pruned).arg("--reference").arg(&original).arg("-o").arg(&out);
        command.args(["--aim", "none", "--tokens", "1000", "--max-tokens", "4"]);
        command.args(["--chat-template", "none", "--threads", "1"]).args(more);
        done(&mut command);
        out
    };
    let (here, there) = (restored("here.gguf", &[]), restored("there.gguf", &["--rpc", &rpc]));
    let output = done(aird().arg("diff").args([&here, &there]).arg("--json"));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    for tensor in found["changed"].as_array().unwrap() {
        let change = tensor["relative_change"].as_f64().unwrap();
        assert!(change < 1e-3, "{tensor}");
    }
}

#[test]
fn a_worker_that_is_killed_is_named_and_the_command_goes_on_where_it_was() {
    let folder = tempdir();
    let model = Refuser::of(0.4, GgmlType::F32).write(folder.path(), "model.gguf");
    let prompts = file(folder.path(), "harmful.txt", prompts::harmful(Part::Train));
    let asr = |name: &str, rpc: &str| {
        let mut command = aird();
        command.arg("asr").arg(&model).args(["--attack", "vanilla", "--benign", "none"]);
        command.arg("--prompts").arg(&prompts).arg("--transcripts").arg(folder.path().join(name));
        command.args(["--parallel", "1", "--max-tokens", "48", "--threads", "1"]);
        command.args(["--chat-template", "none", "--rpc", rpc]);
        command
    };
    let transcript = |name: &str| folder.path().join(name).join("model.vanilla.jsonl");
    let (other, mut worker) = (Worker::start(), Worker::start());
    let endpoint = worker.endpoint.clone();
    let both = format!("{},{endpoint}", other.endpoint);
    done(&mut asr("whole", &both));
    let whole = std::fs::read(transcript("whole")).unwrap();

    let mut command = asr("cut", &both);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let begun = Instant::now();
    let n_bytes = || std::fs::metadata(transcript("cut")).map_or(0, |file| file.len());
    // A segment or more is there, and not all.
    while n_bytes() < whole.len() as u64 / 4 && begun.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(1));
    }
    worker.kill();
    let output = child.wait_with_output().unwrap();
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{said}{}", stdout(&output));
    // At its very end its port may still be open for a moment: then no one of them is named gone.
    assert!(said.contains("error: ") && said.contains(&endpoint), "{said}");
    assert!(!said.contains(&format!("worker {} is gone", other.endpoint)), "{said}");
    assert!(n_bytes() < whole.len() as u64);
    let _again = Worker::at(endpoint.clone()).unwrap();
    done(&mut asr("cut", &both));
    assert!(std::fs::read(transcript("cut")).unwrap() == whole, "other bytes than undisturbed");
}

#[test]
fn who_is_no_worker_is_one_sentence() {
    let folder = tempdir();
    let model = Tiny::new(Arch::Llama).write(folder.path());
    let ask = |rpc: &str| {
        let mut command = aird();
        command.arg("ask").arg(&model).args(["hi", "--chat-template", "none", "--max-tokens", "2"]);
        command.args(["--rpc", rpc, "--rpc-timeout", "1"]).output().unwrap()
    };
    let malformed = ask("127.0.0.1");
    assert_eq!(malformed.status.code(), Some(2));
    assert!(stderr(&malformed).contains("expected HOST:PORT"), "{}", stderr(&malformed));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = listener.local_addr().unwrap().to_string();
    // It listens, and says nothing.
    let silent = ask(&endpoint);
    assert_eq!(silent.status.code(), Some(1));
    let expected = format!("worker {endpoint}: connected, but no greeting within 1 s");
    assert!(stderr(&silent).contains(&expected), "{}", stderr(&silent));
    // Where somebody listens, no worker can.
    let busy = aird().args(["worker", "--listen", &endpoint]).output().unwrap();
    assert_eq!(busy.status.code(), Some(1));
    assert!(stderr(&busy).contains(&format!("cannot listen at {endpoint}")), "{}", stderr(&busy));
    drop(listener);
    let nobody = ask(&endpoint);
    assert_eq!(nobody.status.code(), Some(1));
    assert!(stderr(&nobody).contains("nothing listens there"), "{}", stderr(&nobody));
    // What only tries a model does so here.
    let verify = aird().arg("verify").arg(&model).args(["--rpc", &endpoint]).output().unwrap();
    assert_eq!(verify.status.code(), Some(2));
}
