//! A model is asked: its answers to every set.

use std::path::{Path, PathBuf};

use super::super::error::Result;
use super::super::host::Host;
use super::super::model::{
    adapter_sha256, file_name, file_stem, load_with_adapter, read_direction,
};
use super::request::Request;
use super::sets::EvaluationSet;
use crate::direction::Direction;
use crate::eval::asr::{
    Answer, Asking, Interventions, Judged, Subject, answers as ask, file_sha256,
};
use crate::gguf::{Model, model_sha256};
use crate::llama::Engine;

/// A model with its answers to every set, in the sets' order.
pub(super) struct AnsweredModel {
    pub name: String,
    pub file: String,
    pub sha256: String,
    pub template_sha256: String,
    pub sets: Vec<Judged>,
}

/// Loads the model at `path` and asks it every set; no judge labels the answers yet.
pub(super) fn answers(
    request: &Request,
    host: &dyn Host,
    path: &Path,
    sets: &[EvaluationSet],
) -> Result<AnsweredModel> {
    let model = Model::open(path)?;
    let chat = request.chat.chat(&model)?;
    let sha256 = model_sha256(&model, host)?;
    let engine = load_with_adapter(host, &model, request.engine, request.lora.as_deref())?;
    let interventions = interventions(request, &engine)?;
    let name = file_stem(path);
    let asking =
        Asking { max_tokens: request.max_tokens, parallel: request.parallel, seed: request.seed };
    let subject = Subject {
        engine: &engine,
        template: &chat.template,
        sha256: &sha256,
        interventions: &interventions,
    };
    let mut judged = Vec::new();
    for set in sets {
        let way = set.way(&chat.template);
        let file = format!("{name}.{}.jsonl", set.name);
        let file = request.transcripts.as_ref().map(|folder| folder.join(file));
        let answers = ask(&subject, (&way, &set.prompts), asking, file.as_deref(), host)?;
        warn_of_errors(host, &name, &answers);
        judged.push(Judged {
            answers,
            n_variants: way.n_variants(),
            headline: set.headline(),
            verdicts: Vec::new(),
        });
    }
    let template_sha256 = chat.template.sha256();
    Ok(AnsweredModel { name, file: file_name(path), sha256, template_sha256, sets: judged })
}

/// The hash of an adapter's file, or of a PEFT folder.
pub(super) fn lora_sha256(path: &Path) -> Result<String> {
    match path.is_dir() {
        true => adapter_sha256(path),
        false => Ok(file_sha256(path)?),
    }
}

pub(super) fn interventions(request: &Request, engine: &Engine) -> Result<Interventions> {
    let read = |path: &Option<PathBuf>| -> Result<Option<(Direction, String)>> {
        let Some(path) = path else { return Ok(None) };
        Ok(Some((read_direction(path, engine)?, file_sha256(path)?)))
    };
    let lora = request.lora.as_ref().map(|path| lora_sha256(path)).transpose()?;
    Ok(Interventions { ablate: read(&request.ablate)?, add: read(&request.add)?, lora })
}

/// Names every prompt that lacks an answer once, with the first reason.
fn warn_of_errors(host: &dyn Host, model: &str, answers: &[Answer]) {
    let mut named = None;
    for answer in answers {
        let Some(error) = &answer.error else { continue };
        if named.replace(&answer.id) != Some(&answer.id) {
            let (set, id) = (&answer.set, &answer.id);
            host.warn(format_args!("{model}: {set}: prompt {id} is not answered: {error}"));
        }
    }
}
