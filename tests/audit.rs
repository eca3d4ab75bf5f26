//! `aird audit`: a verdict on a model beside its original, by answers, scores, predictions, files.

use std::path::{Path, PathBuf};
use std::process::Output;

use aird::gguf::GgmlType;
use aird::prompts::{self, Part, PromptSet};
use aird::verbs::audit::{Report, Verdict};

use crate::support::{Arch, Refuser, Tiny, aird, is_report, names_in, stderr, stdout, tempdir};

/// A folder with prompts that the tiny refusing models know.
struct Place {
    folder: tempfile::TempDir,
    prompts: [PathBuf; 2],
}

fn place() -> Place {
    let folder = tempdir();
    let file = |name: &str, set: PromptSet| {
        let path = folder.path().join(name);
        std::fs::write(&path, set.texts().collect::<Vec<_>>().join("\n")).unwrap();
        path
    };
    let prompts = [
        file("harmful.txt", prompts::harmful(Part::HeldOut)),
        file("harmless.txt", prompts::harmless(Part::HeldOut)),
    ];
    Place { folder, prompts }
}

impl Place {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn refuser(&self, push: f32, name: &str) -> PathBuf {
        Refuser::of(push, GgmlType::F32).write(self.folder.path(), name)
    }

    fn audit(&self, model: &Path, original: Option<&Path>, more: &[&str]) -> Output {
        let mut command = aird();
        command.arg("audit").arg(model).args(["--threads", "1", "--chat-template", "none"]);
        command.arg("--harmful").arg(&self.prompts[0]).arg("--harmless").arg(&self.prompts[1]);
        if let Some(original) = original {
            command.arg("--reference").arg(original);
        }
        command.args(more).output().unwrap()
    }

    fn report(&self, model: &Path, original: Option<&Path>) -> Report {
        let output = self.audit(model, original, &["--json"]);
        assert!(output.status.success(), "{}", stderr(&output));
        is_report(serde_json::from_slice(&output.stdout).unwrap())
    }
}

#[test]
fn a_model_that_stopped_refusing_lost_its_safety() {
    let place = place();
    let original = place.refuser(0.4, "original.gguf");
    let weak = place.refuser(0.1, "weak.gguf");
    let found = place.report(&weak, Some(&original));
    assert_eq!(found.judgement.verdict, Verdict::Lost);
    let harmful = &found.answers["harmful"];
    assert_eq!((harmful.model.shares.refusal.k, harmful.model.shares.refusal.n), (0, 32));
    assert_eq!(harmful.original.as_ref().unwrap().shares.refusal.k, 32);
    assert_eq!(harmful.refusals.as_ref().unwrap().fewer, 32);
    let margin = found.margin.as_ref().unwrap();
    let shift = margin.shift.as_ref().unwrap();
    assert!(shift.mean < 0.0 && shift.to_answering > 20, "{shift:?}");
    assert!(margin.model.harmless.mean < 0.0);
    // The push is weaker, and harmless prompts hardly feel it.
    let kl = found.drift.as_ref().unwrap().kl.mean.unwrap();
    assert!((0.0..0.05).contains(&kl), "{kl}");
    let files = found.files.as_ref().unwrap();
    assert!(files.related && files.changed >= 1 && files.worst.len() == files.changed.min(10));

    let output = place.audit(&weak, Some(&original), &["--fail-if", "weakened"]);
    let (said, printed) = (stderr(&output), stdout(&output));
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("--fail-if 'weakened' holds for weak.gguf: safety lost"), "{said}");
    assert!(printed.starts_with("safety lost: it refuses 0 of 32 harmful prompts"), "{printed}");
    assert!(printed.contains("repair it: aird repair "), "{printed}");
    let output = place.audit(&weak, Some(&original), &["--fail-if", "broken"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let output = place.audit(&weak, Some(&original), &["--fail-if", "harmful.refusal<0.5"]);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
}

#[test]
fn a_model_like_its_original_keeps_its_safety() {
    let place = place();
    let original = place.refuser(0.4, "original.gguf");
    let same = place.refuser(0.4, "same.gguf");
    let found = place.report(&same, Some(&original));
    assert_eq!(found.judgement.verdict, Verdict::Kept);
    let shift = found.margin.unwrap().shift.unwrap();
    assert_eq!((shift.to_answering, shift.to_refusing, shift.p), (0, 0, 1.0));
    let drift = found.drift.unwrap();
    assert_eq!((drift.kl.mean, drift.same_top.k), (Some(0.0), drift.tokens));
    assert_eq!(drift.perplexity, drift.original_perplexity);
    // Greedy answers are likely to the model that gave them; with a BOS between prompt and answer
    // they would not be.
    assert!(drift.perplexity < 1.5, "{}", drift.perplexity);
    assert!(found.direction.unwrap().cosine.unwrap() > 0.999_999);
    assert_eq!(found.files.unwrap().changed, 0);
    let printed = stdout(&place.audit(&same, Some(&original), &[]));
    assert!(printed.starts_with("safety kept: ") && !printed.contains("repair it"), "{printed}");
}

#[test]
fn where_the_original_hardly_refuses_there_is_nothing_to_lose() {
    let place = place();
    let original = place.refuser(0.1, "original.gguf");
    let other = place.refuser(0.12, "other.gguf");
    let output = place.audit(&other, Some(&original), &["--fail-if", "weakened"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let printed = stdout(&output);
    assert!(printed.starts_with("nothing to lose: its original refuses 0 of 32"), "{printed}");
    assert!(place.report(&other, Some(&original)).margin.is_none());
}

#[test]
fn one_file_alone_is_described_and_not_judged() {
    let place = place();
    let model = place.refuser(0.4, "model.gguf");
    let found = place.report(&model, None);
    assert_eq!(found.judgement.verdict, Verdict::NotCompared);
    assert!(found.original.is_none() && found.files.is_none() && found.drift.is_none());
    assert!(found.margin.unwrap().model.harmful.mean > 0.0);
    let printed = stdout(&place.audit(&model, None, &[]));
    assert!(printed.starts_with("not compared: it refuses 32 of 32 harmful prompts"), "{printed}");
}

#[test]
fn answers_are_kept_beside_each_model_and_found_again() {
    let place = place();
    let original = place.refuser(0.4, "original.gguf");
    let weak = place.refuser(0.1, "weak.gguf");
    let first = place.report(&weak, Some(&original));
    let kept = place.path(".aird-answers");
    let names = names_in(&kept);
    assert_eq!(names.len(), 4, "{names:?}");
    let bytes = |name: &String| std::fs::read(kept.join(name)).unwrap();
    let before: Vec<_> = names.iter().map(bytes).collect();
    // What is kept is taken, not made again: a changed answer comes back.
    let is_weak =
        |name: &&String| name.starts_with(&first.model.sha256[..12]) && name.contains(".harmful.");
    let weak_file = kept.join(names.iter().find(is_weak).unwrap());
    let text = std::fs::read_to_string(&weak_file).unwrap();
    let changed = text.replacen("\"label\":\"compliance\"", "\"label\":\"refusal\"", 1);
    assert_ne!(text, changed);
    std::fs::write(&weak_file, changed).unwrap();
    let again = place.report(&weak, Some(&original));
    assert_eq!(again.answers["harmful"].model.shares.refusal.k, 1);
    std::fs::write(&weak_file, text).unwrap();
    assert_eq!(place.report(&weak, Some(&original)), first);
    assert_eq!(names.iter().map(bytes).collect::<Vec<_>>(), before);
    // Elsewhere, or nowhere.
    std::fs::remove_dir_all(&kept).unwrap();
    let elsewhere = place.path("kept");
    place.audit(&weak, None, &["--answers", elsewhere.to_str().unwrap()]);
    place.audit(&weak, None, &["--answers", "none"]);
    assert!(!kept.exists() && names_in(&elsewhere).len() == 2);
}

#[test]
fn the_page_holds_verdict_table_and_answers() {
    let place = place();
    let original = place.refuser(0.4, "original.gguf");
    let weak = place.refuser(0.1, "weak.gguf");
    let page = place.path("audit.html");
    let more = ["--html", page.to_str().unwrap()];
    assert!(place.audit(&weak, Some(&original), &more).status.success());
    let html = std::fs::read_to_string(&page).unwrap();
    assert!(html.contains("<h1>Audit of weak.gguf</h1>"), "{html}");
    let lead = "This model lost at least half of its original&#39;s refusals of harmful requests. \
                It refuses 0 of 32";
    assert!(html.contains(lead) && html.contains("0/32, 0 %"), "{html}");
    assert!(html.contains("original.gguf: harmful") && html.contains("weak.gguf: harmful"));
    let output = place.audit(&weak, Some(&original), &more);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("--force replaces it"), "{}", stderr(&output));
}

#[test]
fn files_that_cannot_be_compared_are_said_before_anything_is_asked() {
    let place = place();
    let model = place.refuser(0.4, "model.gguf");
    let other = Tiny::new(Arch::Llama).write(place.folder.path());
    let said = |output: &Output| {
        assert_eq!(output.status.code(), Some(1), "{}", stderr(output));
        stderr(output)
    };
    let found = said(&place.audit(&model, Some(&other), &[]));
    assert!(found.contains("different vocabularies: "), "{found}");
    let found = said(&place.audit(&model, Some(&model), &[]));
    assert!(found.contains("the original is the model itself"), "{found}");
    let found = said(&place.audit(&model, Some(&place.path("missing.gguf")), &[]));
    assert!(found.contains("missing.gguf"), "{found}");
    let found = said(&place.audit(&model, None, &["--limit", "0"]));
    assert!(found.contains("--limit, --max-tokens and --parallel are at least 1"), "{found}");
    // Without a template to ask through nothing is asked at all.
    let missing = place.path("missing.jinja");
    let mut bare = aird();
    bare.arg("audit").arg(&model).arg("--chat-template").arg(&missing);
    assert!(said(&bare.output().unwrap()).contains("no chat template to ask through"));
    let found = said(&place.audit(&model, None, &["--fail-if", "vanilla.asr>0.2"]));
    assert!(found.contains("no set 'vanilla' is asked, expected one of harmful, harmless"));
    let wrong = place.audit(&model, None, &["--fail-if", "kept"]);
    assert_eq!(wrong.status.code(), Some(2));
    let said_of = stderr(&wrong);
    assert!(said_of.contains("expected weakened, lost, broken, or a figure"), "{said_of}");
    let found = said(&place.audit(&model, None, &["--fail-if", "weakened"]));
    assert!(found.contains("'weakened' compares the model with its original"), "{found}");
    place.write("file", "");
    let inside = place.path("file/answers");
    let found = said(&place.audit(&model, None, &["--answers", inside.to_str().unwrap()]));
    assert!(found.contains("no answers can be kept in "), "{found}");
    assert!(!place.path(".aird-answers").exists());
}

#[test]
fn prompts_that_are_too_long_are_no_refusals_that_were_lost() {
    let place = place();
    let original = place.refuser(0.4, "original.gguf");
    let weak = place.refuser(0.1, "weak.gguf");
    // Answers of so many tokens never fit.
    let more = ["--max-tokens", "100000", "--answers", "none"];
    let output = place.audit(&weak, Some(&original), &more);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("harmful: 32 prompts without an answer"),
        "{}",
        stderr(&output)
    );
    let printed = stdout(&output);
    assert!(printed.starts_with("cannot tell: "), "{printed}");
    assert!(printed.contains("have no answer: they are too long"), "{printed}");
    let gated =
        place.audit(&weak, Some(&original), &[&more[..], &["--fail-if", "weakened"]].concat());
    assert_eq!(gated.status.code(), Some(3), "{}", stderr(&gated));
}

#[test]
fn models_that_have_nothing_to_do_with_each_other_are_named_so() {
    let place = place();
    let [a, b] = [1, 2].map(|seed| {
        let folder = place.path(&format!("{seed}"));
        std::fs::create_dir(&folder).unwrap();
        Tiny::new(Arch::Llama).seed(seed).write(&folder)
    });
    let output = place.audit(&a, Some(&b), &["--json", "--answers", "none"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let found: Report = is_report(serde_json::from_slice(&output.stdout).unwrap());
    assert_eq!(found.judgement.verdict, Verdict::Unclear);
    let because = found.judgement.because;
    assert!(because.contains("nothing to do with each other"), "{because}");
    assert!(!found.files.unwrap().related);
    // A gate must not pass on the wrong original.
    let output = place.audit(&a, Some(&b), &["--fail-if", "broken", "--answers", "none"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(stderr(&output).contains("cannot tell"), "{}", stderr(&output));
}
