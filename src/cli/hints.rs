//! Hints that name an option of the command line, for errors of verbs and of what they use.

use crate::verbs::repair::NothingFound;
use crate::verbs::{Error, Stopped};
use crate::{
    adapter, compress, direction, eval, gguf, judge, llama, prompts, quant, refit, repair, report,
    stats,
};

const VERIFY: &str = "aird verify MODEL names tensors with NaN or infinity";
const ORIGINAL: &str = "of this one's original: aird direction ORIGINAL -o DIR";

/// What helps against `error`, if an option does.
pub(super) fn hint(error: &anyhow::Error) -> Option<String> {
    error.chain().find_map(|cause| {
        None.or_else(|| of_verb(cause.downcast_ref()?))
            .or_else(|| of_stop(cause.downcast_ref()?))
            .or_else(|| of_direction(cause.downcast_ref()?))
            .or_else(|| of_edit(cause.downcast_ref()?))
            .or_else(|| of_answers(cause.downcast_ref()?))
            .or_else(|| of_file(cause.downcast_ref()?))
            .or_else(|| of_engine(cause.downcast_ref()?))
            .or_else(|| of_compression(cause.downcast_ref()?))
            .or_else(|| of_stats(cause.downcast_ref()?))
            .or_else(|| of_adapter(cause.downcast_ref()?))
            .or_else(|| of_weight(cause.downcast_ref()?))
            .or_else(|| of_refit(cause.downcast_ref()?))
            .or_else(|| of_run(cause.downcast_ref()?))
    })
}

fn of_verb(error: &Error) -> Option<String> {
    match error {
        Error::About { source, .. } => of_verb(source),
        Error::Template { source, has_system } => of_template(source, *has_system),
        Error::BrokenLogits { .. } => Some(VERIFY.into()),
        Error::AdapterKey { .. } => Some("aird merge folds the adapter into the weights".into()),
        Error::ContextTooLong { .. } => Some("a smaller --ctx".into()),
        Error::NoAnswers { .. } => Some("leave --mask response out".into()),
        Error::FewerAnswers { .. } => Some("--format prompts reads the prompts only".into()),
        Error::FewRefusals { .. } => Some("--data FILE with prompts and refusals".into()),
        Error::LeftoverExists { .. } => {
            Some("--resume goes on with it, --force starts over".into())
        }
        Error::LeftoverOfAnother { .. } => Some("run without --resume to start over".into()),
        Error::NothingChosen => Some("--blocks, --include and --exclude choose".into()),
        Error::NeedsNoStatistics { .. } => Some("leave --stats and --data out".into()),
        Error::Unfinished { .. } => Some("aird calibrate --resume".into()),
        error => of_repair(error).or_else(|| of_measurement(error)),
    }
}

/// Of attacks, benchmarks, texts and answers.
fn of_measurement(error: &Error) -> Option<String> {
    match error {
        Error::UnusedSystem => Some("--attack vanilla, or no --system".into()),
        Error::NoSuffixes => Some(
            "--suffixes FILE, a line each; aird brings none along. Or name the other three: \
             --attack vanilla,adv-decoding,adv-decoding-raw"
                .into(),
        ),
        Error::NoRequest { .. } => Some("--prompt-field NAME".into()),
        Error::SetNamedAll { .. } => Some("--set-field NAME, or another name of that set".into()),
        Error::Eval(eval::Error::TooLittleText { .. }) => {
            Some("a longer text, or a smaller --ctx".into())
        }
        Error::Eval(eval::Error::NoNumbers { .. }) => Some(VERIFY.into()),
        Error::Judge(judge::Error::NoGuard { .. }) => Some(
            "--judge-template yes-no, or a Jinja file with the prompt it was trained on".into(),
        ),
        Error::Llama(llama::Error::ContextTooSmall { n_tokens, n_ctx, .. }) => {
            let fits = *n_tokens < *n_ctx as usize;
            let fewer = if fits { ", or a smaller --max-tokens" } else { "" };
            Some(format!("a shorter prompt{fewer}"))
        }
        _ => None,
    }
}

/// Of the search and the repair.
fn of_repair(error: &Error) -> Option<String> {
    match error {
        Error::ThinksInSearch => {
            Some("a --chat-template that ends the thought at once, as \"<think></think>\"".into())
        }
        Error::ThinksInComparison => Some("--aim strongest".into()),
        Error::OtherArchitecture { .. } => Some(ORIGINAL.into()),
        Error::LostInPlace { blocks, alpha, .. } => Some(format!(
            "in a new file it may become a finer type: -o OUT --block {} --alpha {alpha}",
            blocks.join(",")
        )),
        Error::SizeInPlace { .. } => Some("a new file with -o, or --type keep".into()),
        Error::NotAsAdapter(_) => Some("restore the file itself: -o OUT".into()),
        _ => None,
    }
}

fn of_stop(stopped: &Stopped) -> Option<String> {
    let Stopped::NothingHelps(report) = stopped else { return None };
    match report.nothing_found()? {
        NothingFound::AlreadyRefuses => None,
        NothingFound::NotAsOriginal => {
            Some("--aim strongest, a higher --max-kl, or --method restore".into())
        }
        NothingFound::NotMore => Some(
            "a higher --max-false-refusal, --max-kl or --max-blocks, or a milder compression"
                .into(),
        ),
    }
}

/// Of files of answers.
fn of_answers(error: &prompts::Error) -> Option<String> {
    use prompts::Error as E;
    match error {
        E::InFile { source, .. } => of_answers(source),
        E::NoAnswerField { .. } | E::NoAnswer { .. } => Some("--answer-field NAME".into()),
        _ => None,
    }
}

/// Of model files and their undo journals.
fn of_file(error: &gguf::Error) -> Option<String> {
    use gguf::Error as E;
    match error {
        E::InFile { source, .. } => of_file(source),
        E::OutputExists { .. } => Some("--force replaces it".into()),
        E::TypeInPlace { .. } => Some("write a new file with -o".into()),
        E::JournalExists { .. } => {
            Some("aird undo takes that change back; aird undo --forget keeps it for good".into())
        }
        E::HalfPatched { .. } => Some("aird undo takes back what was changed".into()),
        E::NoJournal { .. } => {
            Some("there is a journal from aird repair --in-place until aird undo".into())
        }
        E::NoJournalOfLink { .. } => Some("run aird undo by that name".into()),
        E::NotWhole { .. } => Some("aird undo takes back what there is".into()),
        _ => None,
    }
}

fn of_direction(error: &direction::Error) -> Option<String> {
    use direction::Error as E;
    match error {
        E::HardlyRefuses { .. } => {
            Some("a direction needs a model that was taught to refuse; look with aird ask".into())
        }
        E::NonePasses { .. } => {
            Some("without --strict the limit on KL is widened, and the file says so".into())
        }
        _ => None,
    }
}

fn of_edit(error: &repair::Error) -> Option<String> {
    use repair::Error as E;
    match error {
        E::Width { .. } => Some(ORIGINAL.into()),
        E::NotFinite { .. } => Some("aird verify MODEL; a smaller --alpha".into()),
        E::NotLinear { .. } => {
            Some("aird inspect --structure MODEL shows the halves that can be edited".into())
        }
        E::Lost { tried_finer: true, .. } => Some(
            "this matrix writes next to nothing along the direction: choose another block".into(),
        ),
        E::Lost { .. } => {
            Some("--type auto stores the tensor in a finer type, in a new file".into())
        }
        E::NoAdapter { .. } => Some("--parts attention, or a repaired model with -o".into()),
        _ => None,
    }
}

/// Of llama.cpp while it runs a model.
fn of_engine(error: &llama::Error) -> Option<String> {
    use llama::Error as E;
    match error {
        E::Context { .. } => Some(
            "a smaller --parallel, --ctx or --max-tokens, whichever there is, takes less memory"
                .into(),
        ),
        E::CutBatch { .. } => Some("--parallel 1".into()),
        E::NoDevices => Some(
            "--rpc HOST:PORT names a worker; a GPU needs aird built with --features cuda, vulkan, \
             metal or rocm"
                .into(),
        ),
        E::NoDevice { .. } | E::Shares { .. } => {
            Some("aird devices, with the same --rpc, lists them".into())
        }
        E::DoesNotFit { .. } => {
            Some("fewer --gpu-layers leave more blocks to this machine; or one more worker".into())
        }
        E::AdaptedEmbeddings => Some("aird merge folds an adapter into the weights".into()),
        E::NotFiniteLogits => Some(VERIFY.into()),
        _ => None,
    }
}

fn of_compression(error: &compress::Error) -> Option<String> {
    use compress::Error as E;
    match error {
        E::NonFiniteWeight { .. } => Some(VERIFY.into()),
        E::AlreadyQuantized { .. } => Some("start from the float model, or --requantize".into()),
        E::NeedsStats { .. } => Some("--stats FILE or --data FILE".into()),
        E::NotFinite { .. } => {
            Some("check the weights with aird verify MODEL; check the statistics".into())
        }
        _ => None,
    }
}

fn of_stats(error: &stats::Error) -> Option<String> {
    use stats::Error as E;
    match error {
        E::Architecture { .. } => {
            Some("make them from this model: aird calibrate MODEL --data ... -o STATS".into())
        }
        E::TooLittleText { .. } => Some("more text, or fewer --samples, or a shorter --ctx".into()),
        _ => None,
    }
}

fn of_adapter(error: &adapter::Error) -> Option<String> {
    use adapter::Error as E;
    match error {
        E::InFile { source, .. } => of_adapter(source),
        E::Overflow { .. } => Some("--type bf16 or --type f32 hold larger numbers".into()),
        _ => None,
    }
}

fn of_weight(error: &quant::Error) -> Option<String> {
    matches!(error, quant::Error::NonFinite { .. }).then(|| VERIFY.into())
}

fn of_refit(error: &refit::Error) -> Option<String> {
    matches!(error, refit::Error::NotFiniteInput { .. }).then(|| VERIFY.into())
}

/// Of a study's run folder.
fn of_run(error: &report::Error) -> Option<String> {
    matches!(error, report::Error::Unreadable { .. })
        .then(|| "expected the folder that aird study wrote its run to".into())
}

fn of_template(error: &prompts::Error, has_system: bool) -> Option<String> {
    use prompts::Error as E;
    let about = if let E::InFile { source, .. } = error { source } else { error };
    let hint = "--chat-template FILE|none";
    match about {
        E::SystemLeftOut | E::TemplateRaised { .. } if has_system => {
            Some(format!("{hint}, or no --system"))
        }
        E::NoTemplate | E::EmptyTemplate | E::PromptLeftOut | E::TemplateRaised { .. } => {
            Some(hint.into())
        }
        E::TemplateSyntax { .. } | E::TemplateFails { .. } | E::TemplatePanics => Some(hint.into()),
        _ => None,
    }
}
