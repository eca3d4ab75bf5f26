//! The search for a repair's blocks and strength: its arguments.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;

use super::args::{EngineArgs, output_path};
use super::chat::ChatArgs;
use super::paths::Paths;
use crate::llama::Options;
use crate::llama::graph::Part;
use crate::repair::{Half, parse_halves};
use crate::verbs::ChatSetup;
use crate::verbs::search::{
    MAX_BLOCKS, MAX_FALSE_REFUSAL, MAX_KL, MAX_TOKENS, PARALLEL, SearchSetup,
};

/// How a search goes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Search")]
pub(super) struct SearchArgs {
    /// Held-out harmful prompts; default: aird's own. aird asr evaluates on other prompts.
    #[arg(long, value_name = "FILE")]
    harmful: Option<PathBuf>,
    /// Held-out harmless ones; default: aird's own, borderline ones among them, and for whole
    /// answers some of its training ones.
    #[arg(long, value_name = "FILE")]
    harmless: Option<PathBuf>,
    /// The field or column of those files that holds the prompt.
    #[arg(long, value_name = "NAME")]
    field: Option<String>,
    /// False refusals that a repair may add, in points; degenerate answers likewise. With --aim
    /// original the original's own rate is the limit.
    #[arg(
        long,
        default_value_t = MAX_FALSE_REFUSAL,
        value_name = "POINTS",
        value_parser = points
    )]
    max_false_refusal: f64,
    /// KL to the unrepaired model at the first token of harmless answers that it may cost.
    #[arg(long, default_value_t = MAX_KL, value_name = "NATS", value_parser = above_zero)]
    max_kl: f64,
    /// Blocks that may be edited together; the paper edits one.
    #[arg(
        long,
        default_value_t = MAX_BLOCKS,
        value_name = "N",
        value_parser = at_least_one::<usize>
    )]
    max_blocks: usize,
    /// Tokens of an answer that are read.
    #[arg(
        long,
        default_value_t = MAX_TOKENS,
        value_name = "N",
        value_parser = at_least_one::<usize>
    )]
    max_tokens: usize,
    /// Prompts and answers under way at once.
    #[arg(long, default_value_t = PARALLEL, value_name = "N", value_parser = at_least_one::<u32>)]
    parallel: u32,
    /// Write what was tried to a JSON file, its picture beside as .svg; not with --dry-run.
    #[arg(long, value_name = "FILE", value_parser = output_path())]
    front: Option<PathBuf>,
    #[command(flatten)]
    chat: ChatArgs,
    #[command(flatten)]
    engine: EngineArgs,
}

impl SearchArgs {
    /// The files that these arguments name.
    pub(super) fn paths(&self) -> Paths {
        // Where the picture's name is given, `SearchSetup` says what is wrong.
        let mut front: Vec<PathBuf> = self.front.iter().cloned().collect();
        front.extend(self.front.iter().map(|front| front.with_extension("svg")));
        front.dedup();
        let paths = self.chat.read_from(Paths::default());
        paths.reads(self.harmful.iter().chain(&self.harmless)).writes(&front)
    }

    /// As the verbs take it.
    pub(super) fn setup(&self) -> SearchSetup {
        SearchSetup {
            harmful: self.harmful.clone(),
            harmless: self.harmless.clone(),
            field: self.field.clone(),
            max_false_refusal: self.max_false_refusal,
            max_kl: self.max_kl,
            max_blocks: self.max_blocks,
            max_tokens: self.max_tokens,
            parallel: self.parallel,
            front: self.front.clone(),
        }
    }

    /// How prompts are put to the model.
    pub(super) fn chat(&self) -> ChatSetup {
        self.chat.setup()
    }

    /// How llama.cpp runs.
    pub(super) fn engine(&self) -> Options {
        self.engine.options()
    }

    /// True if --max-false-refusal is given, which the original decides with --aim original.
    pub(super) fn limits_false_refusals(&self) -> bool {
        self.max_false_refusal != MAX_FALSE_REFUSAL
    }

    /// An option that only a search uses and that is not the default.
    pub(super) fn of_search(&self) -> Option<&'static str> {
        let given = [
            (self.front.is_some(), "--front"),
            (self.harmful.is_some(), "--harmful"),
            (self.harmless.is_some(), "--harmless"),
            (self.limits_false_refusals(), "--max-false-refusal"),
            (self.max_kl != MAX_KL, "--max-kl"),
            (self.max_blocks != MAX_BLOCKS, "--max-blocks"),
        ];
        given.into_iter().find(|(given, _)| *given).map(|(_, option)| option)
    }
}

/// Blocks as `--block` takes them: `auto`, or the halves of a list as 14,16:mlp.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct BlockArg(pub Option<Vec<Half>>);

impl FromStr for BlockArg {
    type Err = String;

    fn from_str(text: &str) -> Result<BlockArg, String> {
        if text == "auto" {
            return Ok(BlockArg(None));
        }
        let both = [Part::Attention, Part::Mlp];
        let halves = text.split(',').map(|one| parse_halves(one, &both));
        let mut halves: Vec<Half> = halves.collect::<Result<Vec<_>, _>>()?.concat();
        halves.sort_unstable();
        halves.dedup();
        Ok(BlockArg(Some(halves)))
    }
}

/// A strength as `--alpha` takes it: `auto`, or a number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct AlphaArg(pub Option<f64>);

impl FromStr for AlphaArg {
    type Err = String;

    fn from_str(text: &str) -> Result<AlphaArg, String> {
        match text {
            "auto" => Ok(AlphaArg(None)),
            text => match text.parse::<f64>() {
                Ok(alpha) if alpha <= 0.0 => Err("expected auto or a number above 0: aird makes \
                     models refuse more; it does not remove a refusal direction"
                    .into()),
                Ok(alpha) if !alpha.is_finite() => Err(format!(
                    "expected a number above 0, or auto; {alpha} is not a finite number"
                )),
                _ => {
                    above_zero(text).map(|x| AlphaArg(Some(x))).map_err(|e| format!("{e}, or auto"))
                }
            },
        }
    }
}

/// Parses an argument that is a number above 0.
pub(super) fn above_zero(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|x: &f64| *x > 0.0 && x.is_finite());
    number.ok_or_else(|| "expected a number above 0".into())
}

fn points(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|x| (0.0..=100.0).contains(x));
    number.ok_or_else(|| "expected 0 to 100 points".into())
}

pub(super) fn at_least_one<N: FromStr + PartialOrd + From<u8>>(text: &str) -> Result<N, String> {
    let number = text.parse().ok().filter(|n: &N| *n >= N::from(1));
    number.ok_or_else(|| "expected a whole number, at least 1".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strength_is_a_finite_number_above_zero() {
        assert_eq!("0.5".parse(), Ok(AlphaArg(Some(0.5))));
        assert_eq!("auto".parse(), Ok(AlphaArg(None)));
        for (text, expected) in [
            ("inf", "inf is not a finite number"),
            ("1e999", "inf is not a finite number"),
            ("NaN", "NaN is not a finite number"),
            ("-inf", "does not remove a refusal direction"),
            ("-1", "does not remove a refusal direction"),
            ("0", "does not remove a refusal direction"),
            ("much", "expected a number above 0, or auto"),
        ] {
            let said = text.parse::<AlphaArg>().unwrap_err();
            assert!(said.contains(expected), "{text}: {said}");
        }
    }
}
