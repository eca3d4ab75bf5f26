//! Workers on this machine: models that run on two of them give what they give here, and a worker
//! that is gone is one sentence, after which the same command goes on where it was.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use aird::gguf::GgmlType;
use aird::prompts::{self, Part};
use aird::verbs::devices::Report;
use serde_json::Value;

use crate::support::elsewhere::{Elsewhere, prompt_file};
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

fn done(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    output
}

#[test]
fn two_workers_answer_and_capture_as_one_machine_does() {
    let folder = tempdir();
    let model = Refuser::of(0.4, GgmlType::F32).write(folder.path(), "model.gguf");
    let harmful = prompt_file(folder.path(), "harmful.txt", prompts::harmful(Part::HeldOut));
    let workers = [Worker::start(), Worker::start()];
    let rpc = workers.each_ref().map(|worker| worker.endpoint.clone()).join(",");

    let listed: Report = is_report(
        serde_json::from_slice(&done(aird().args(["devices", "--json", "--rpc", &rpc])).stdout)
            .unwrap(),
    );
    let lent: Vec<_> = listed.devices.iter().filter(|device| device.takes_blocks).collect();
    assert!(lent.len() >= 2 && lent.iter().all(|device| device.total > 0), "{listed:?}");

    Elsewhere { options: &["--rpc", &rpc], rounding: 1e-3 }.captures_alike();

    let asked = |more: &[&str]| -> Value {
        let mut command = aird();
        command.arg("asr").arg(&model).args(["--attack", "vanilla", "--benign", "none", "--json"]);
        command.arg("--prompts").arg(&harmful).args(["--max-tokens", "8", "--limit", "16"]);
        command.args(["--chat-template", "none", "--threads", "1"]).args(more);
        let found: Value = serde_json::from_slice(&done(&mut command).stdout).unwrap();
        found["models"].clone()
    };
    assert_eq!(asked(&[]), asked(&["--rpc", &rpc]));
    // Only the last block, and the output, elsewhere.
    assert_eq!(asked(&[]), asked(&["--rpc", &rpc, "--gpu-layers", "2"]));
    // Three quarters of the blocks on the second.
    let split = ["--device", "RPC1,RPC0", "--tensor-split", "3,1"];
    assert_eq!(asked(&[]), asked(&[&["--rpc", &rpc], &split[..]].concat()));
    let refused = |more: &[&str]| {
        let mut command = aird();
        command.arg("ask").arg(&model).args(["hi", "--chat-template", "none", "--rpc", &rpc]);
        let output = command.args(more).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        stderr(&output)
    };
    let unknown = refused(&["--device", "RPC7"]);
    assert!(
        unknown.contains("no device 'RPC7' that takes blocks, expected RPC0 or RPC1, each once"),
        "{unknown}"
    );
    let one_share = refused(&["--device", "RPC1,RPC0", "--tensor-split", "1"]);
    assert!(
        one_share
            .contains("a share for each of 2 devices (RPC1, RPC0), not all of them 0, found 1"),
        "{one_share}"
    );
    // The same worker by two names would wait for itself.
    let one = &workers[0].endpoint;
    let twice = format!("{one},{}", one.replace("127.0.0.1", "localhost"));
    let output = aird().args(["devices", "--rpc", &twice]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains(&format!("it is the same as {one}")), "{}", stderr(&output));
}

#[test]
fn a_search_and_a_restore_on_workers_are_those_of_one_machine() {
    let workers = [Worker::start(), Worker::start()];
    let rpc = workers.each_ref().map(|worker| worker.endpoint.clone()).join(",");
    let there = Elsewhere { options: &["--rpc", &rpc], rounding: 1e-3 };
    there.searches_alike(true);
    there.restores_alike(Arch::Llama);
}

#[test]
fn a_worker_that_is_killed_is_named_and_the_command_goes_on_where_it_was() {
    let folder = tempdir();
    let model = Refuser::of(0.4, GgmlType::F32).write(folder.path(), "model.gguf");
    let prompts = prompt_file(folder.path(), "harmful.txt", prompts::harmful(Part::Train));
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

#[cfg(unix)]
#[test]
fn a_worker_that_hangs_is_given_up_and_named() {
    let folder = tempdir();
    let model = Refuser::of(0.4, GgmlType::F32).write(folder.path(), "model.gguf");
    let prompts = prompt_file(folder.path(), "harmful.txt", prompts::harmful(Part::Train));
    let (other, hanging) = (Worker::start(), Worker::start());
    let rpc = format!("{},{}", other.endpoint, hanging.endpoint);
    let transcript = folder.path().join("kept/model.vanilla.jsonl");
    let mut command = aird();
    command.arg("asr").arg(&model).args(["--attack", "vanilla", "--benign", "none"]);
    command.arg("--prompts").arg(&prompts).arg("--transcripts").arg(folder.path().join("kept"));
    command.args(["--parallel", "1", "--max-tokens", "48", "--threads", "1"]);
    command.args(["--chat-template", "none", "--rpc", &rpc, "--rpc-silence", "5"]);
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let begun = Instant::now();
    while !transcript.exists() && begun.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(transcript.exists());
    let stopped = Command::new("kill").args(["-STOP", &hanging.child.id().to_string()]).status();
    assert!(stopped.unwrap().success());
    let output = child.wait_with_output().unwrap();
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let expected = format!("error: worker {} no longer answers\n", hanging.endpoint);
    assert!(said.contains(&expected), "{said}");
    assert_eq!(said.matches("error: ").count(), 1, "{said}");
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
