//! Arguments of a restore, of the choice between both methods, and of their aim.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::cli::search::{above_zero, at_least_one};
use crate::verbs::repair::{N_TOKENS, PRIOR, RANK, SAFETY_SHARE};

/// How a restore goes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Restore")]
pub(super) struct RestoreArgs {
    /// restore refits the model's matrices to its original's activations; aird strengthens the
    /// original's direction. Default: restore with --reference, aird with --direction.
    #[arg(long, value_enum, value_name = "METHOD")]
    pub method: Option<MethodArg>,
    /// General text to read in place of aird's own: a text, or records with a field text.
    #[arg(long, value_name = "FILE")]
    pub data: Option<PathBuf>,
    /// Tokens to read.
    #[arg(long, default_value_t = N_TOKENS, value_name = "N", value_parser = enough)]
    pub tokens: usize,
    /// Part of them that is aird's own training requests with the original's answers; the rest is
    /// general text.
    #[arg(long, default_value_t = SAFETY_SHARE, value_name = "PART", value_parser = part)]
    pub safety_share: f64,
    /// How strongly matrices hold on to the original's weights, in means of their inputs' squares.
    #[arg(long, default_value_t = PRIOR, value_name = "X", value_parser = above_zero)]
    pub prior: f64,
    /// Rank of the adapter that --lora writes. Default: 32.
    #[arg(long, value_name = "N", requires = "lora", value_parser = at_least_one::<u16>)]
    pub rank: Option<u16>,
    /// What an edit along the original's direction aims at. Default: original once the model is
    /// restored, where held-out prompts are refused less than by the original; strongest with
    /// --method aird.
    #[arg(long, value_enum, value_name = "AIM")]
    pub aim: Option<AimArg>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum MethodArg {
    /// Refit every matrix of the blocks.
    Restore,
    /// W + alpha r r^T W on chosen blocks.
    Aird,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum AimArg {
    /// 95 % of the original's refusals or more, by the least edit, and no more false ones.
    Original,
    /// As many refusals as --max-false-refusal and --max-kl allow.
    Strongest,
    /// No edit along the direction.
    None,
}

impl RestoreArgs {
    /// The method, given whether there is a reference.
    pub(super) fn method(&self, has_reference: bool) -> MethodArg {
        let usual = if has_reference { MethodArg::Restore } else { MethodArg::Aird };
        self.method.unwrap_or(usual)
    }

    /// Rank of an adapter.
    pub(super) fn rank(&self) -> usize {
        self.rank.map_or(RANK, usize::from)
    }

    /// An option that only a restore uses and that is not the default.
    pub(super) fn of_restore(&self) -> Option<&'static str> {
        let given = [
            (self.data.is_some(), "--data"),
            (self.tokens != N_TOKENS, "--tokens"),
            (self.safety_share != SAFETY_SHARE, "--safety-share"),
            (self.prior != PRIOR, "--prior"),
            (self.rank.is_some(), "--rank"),
        ];
        given.into_iter().find(|(given, _)| *given).map(|(_, option)| option)
    }
}

fn enough(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if n >= 1000 => Ok(n),
        _ => Err("expected a number of 1000 or more".into()),
    }
}

fn part(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(x) if (0.0..=1.0).contains(&x) => Ok(x),
        _ => Err("expected a number from 0 to 1".into()),
    }
}
