//! Which tensors a verb is about: by block and by name; and types by name.

use std::str::FromStr;

use regex::Regex;

use crate::gguf::{GgmlType, Step, TensorInfo};

/// Which tensors.
#[derive(Debug, Clone, Default)]
pub struct TensorChoice {
    /// Only these blocks; None: all tensors, of blocks or not.
    pub blocks: Option<BlockRanges>,
    /// Only tensors whose name matches one of these; empty: all.
    pub include: Vec<Regex>,
    /// No tensor whose name matches one of these.
    pub exclude: Vec<Regex>,
}

/// Ranges of blocks, both ends in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockRanges {
    text: String,
    ranges: Vec<(u32, u32)>,
}

impl TensorChoice {
    /// True for tensors that are chosen.
    pub fn wants(&self, info: &TensorInfo) -> bool {
        self.blocks.as_ref().is_none_or(|blocks| info.block().is_some_and(|b| blocks.holds(b)))
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

impl BlockRanges {
    /// True if `block` is in one of them.
    pub fn holds(&self, block: u32) -> bool {
        self.ranges.iter().any(|(first, last)| (*first..=*last).contains(&block))
    }
}

impl FromStr for BlockRanges {
    type Err = String;

    fn from_str(text: &str) -> Result<BlockRanges, String> {
        let range = |part: &str| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
            (first <= last).then_some((first, last))
        };
        let ranges: Option<Vec<(u32, u32)>> = text.split(',').map(range).collect();
        let ranges = ranges.ok_or("expected blocks, e.g. 0-9,12")?;
        Ok(BlockRanges { text: text.into(), ranges })
    }
}

/// A pattern of names, and the type that tensors of such names get.
#[derive(Debug, Clone)]
pub struct TypeFor {
    /// Of tensor names.
    pub pattern: Regex,
    /// The type.
    pub ty: GgmlType,
}

/// A type by its name, in either case.
///
/// # Errors
/// ggml has no type of that name.
pub fn parse_type(name: &str) -> Result<GgmlType, String> {
    GgmlType::from_name(name).ok_or_else(|| "expected a ggml type, e.g. q4_k, q8_0 or f16".into())
}

impl FromStr for TypeFor {
    type Err = String;

    /// Of `REGEX=TYPE`.
    fn from_str(text: &str) -> Result<TypeFor, String> {
        let (pattern, ty) =
            text.rsplit_once('=').ok_or("expected REGEX=TYPE, e.g. ffn_down=q6_k")?;
        let pattern = Regex::new(pattern).map_err(|e| e.to_string())?;
        Ok(TypeFor { pattern, ty: parse_type(ty)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_numbers_and_ranges() {
        let parsed: BlockRanges = "0-9,12".parse().unwrap();
        assert_eq!(parsed.ranges, [(0, 9), (12, 12)]);
        for wrong in ["", "a", "3-1", "1-", "1,,2"] {
            assert!(wrong.parse::<BlockRanges>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn types_follow_the_last_equals_sign() {
        let found: TypeFor = "a=b=Q4_K".parse().unwrap();
        assert_eq!((found.pattern.as_str(), found.ty), ("a=b", GgmlType::Q4_K));
        assert!("ffn_down".parse::<TypeFor>().is_err());
        assert!("(=q4_k".parse::<TypeFor>().is_err());
        assert!("x=q9".parse::<TypeFor>().is_err());
    }
}
