//! Which tensors a verb is about: by block and by name; and types by name.

use anyhow::Result;
use clap::Args;
use regex::Regex;

use crate::gguf::{GgmlType, Step, TensorInfo};

/// Which tensors.
#[derive(Debug, Args)]
pub struct TensorArgs {
    /// These blocks alone, as 0-9,12; default: all.
    #[arg(long, value_parser = parse_blocks, value_name = "LIST")]
    blocks: Option<Blocks>,
    /// Tensors whose name matches; may be given several times. Default: all.
    #[arg(long, value_name = "REGEX")]
    include: Vec<Regex>,
    /// Tensors whose name matches stay as they are; may be given several times.
    #[arg(long, value_name = "REGEX")]
    exclude: Vec<Regex>,
}

/// Ranges of blocks, both ends in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocks {
    text: String,
    ranges: Vec<(u32, u32)>,
}

impl TensorArgs {
    /// True for tensors that are asked for.
    pub fn wants(&self, info: &TensorInfo) -> bool {
        let in_blocks = |blocks: &Blocks| {
            let block = info.block();
            block.is_some_and(|b| blocks.ranges.iter().any(|(a, z)| (*a..=*z).contains(&b)))
        };
        self.blocks.as_ref().is_none_or(in_blocks)
            && (self.include.is_empty() || self.include.iter().any(|r| r.is_match(&info.name)))
            && !self.exclude.iter().any(|r| r.is_match(&info.name))
    }

    /// The step, with what narrows it down.
    pub fn recorded(&self, mut step: Step) -> Step {
        let texts = |patterns: &[Regex]| -> Vec<String> {
            patterns.iter().map(|r| r.as_str().to_owned()).collect()
        };
        if let Some(blocks) = &self.blocks {
            step = step.parameter("blocks", blocks.text.as_str());
        }
        for (name, patterns) in [("include", &self.include), ("exclude", &self.exclude)] {
            if !patterns.is_empty() {
                step = step.parameter(name, texts(patterns));
            }
        }
        step
    }
}

fn parse_blocks(text: &str) -> Result<Blocks, String> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        (first <= last).then_some((first, last))
    };
    let ranges: Option<Vec<(u32, u32)>> = text.split(',').map(range).collect();
    let ranges = ranges.ok_or("expected blocks as 0-9,12")?;
    Ok(Blocks { text: text.into(), ranges })
}

/// A type by its name, in either case.
pub fn parse_type(name: &str) -> Result<GgmlType, String> {
    GgmlType::from_name(name).ok_or_else(|| "expected a ggml type, as q4_k, q8_0 or f16".into())
}

/// A pattern of names and the type that they get.
#[derive(Debug, Clone)]
pub struct TypeFor {
    pub pattern: Regex,
    pub ty: GgmlType,
}

/// `REGEX=TYPE`.
pub fn parse_type_for(text: &str) -> Result<TypeFor, String> {
    let (pattern, ty) = text.rsplit_once('=').ok_or("expected REGEX=TYPE, as ffn_down=q6_k")?;
    let pattern = Regex::new(pattern).map_err(|e| e.to_string())?;
    Ok(TypeFor { pattern, ty: parse_type(ty)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_numbers_and_ranges() {
        assert_eq!(parse_blocks("0-9,12").unwrap().ranges, [(0, 9), (12, 12)]);
        for wrong in ["", "a", "3-1", "1-", "1,,2"] {
            assert!(parse_blocks(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn types_follow_the_last_equals_sign() {
        let found = parse_type_for("a=b=Q4_K").unwrap();
        assert_eq!((found.pattern.as_str(), found.ty), ("a=b", GgmlType::Q4_K));
        assert!(parse_type_for("ffn_down").is_err());
        assert!(parse_type_for("(=q4_k").is_err());
        assert!(parse_type_for("x=q9").is_err());
    }
}
