//! Halves of blocks as text: `14` is a block, `14:mlp` only its MLP.

use crate::llama::graph::{Part, Writer};

/// Half a block: its attention or its MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Half {
    /// The block, from 0.
    pub block: u32,
    /// Which half.
    pub part: Part,
}

impl Half {
    /// The half that a matrix writes for.
    pub fn of(writer: &Writer) -> Half {
        Half { block: writer.block, part: writer.part }
    }
}

const PARTS: [Part; 2] = [Part::Attention, Part::Mlp];

/// The halves that `text` names: a block stands for both of `parts`.
///
/// # Errors
/// It names none; the message shows what was expected.
pub fn parse_halves(text: &str, parts: &[Part]) -> Result<Vec<Half>, String> {
    let wrong = || format!("'{text}' is not a block, expected e.g. 14 or 14:mlp");
    let (block, part) = match text.split_once(':') {
        None => (text, None),
        Some((block, part)) => (block, Some(part)),
    };
    let block = block.trim().parse().map_err(|_| wrong())?;
    let parts = match part {
        None => parts.to_vec(),
        Some(name) => PARTS.into_iter().filter(|part| part.name() == name.trim()).collect(),
    };
    if parts.is_empty() {
        return Err(wrong());
    }
    Ok(parts.into_iter().map(|part| Half { block, part }).collect())
}

/// `halves` as [`parse_halves`] reads them, ascending.
pub fn halves_text(halves: &[Half]) -> Vec<String> {
    let mut sorted = halves.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let of_block = sorted.chunk_by(|a, b| a.block == b.block);
    let text = |halves: &[Half]| match halves {
        [half] => format!("{}:{}", half.block, half.part.name()),
        halves => halves[0].block.to_string(),
    };
    of_block.map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_read_as_they_are_written() {
        let halves = |text: &str| parse_halves(text, &PARTS);
        let all: Vec<Half> =
            ["16:mlp", "3", "14:attention"].iter().flat_map(|t| halves(t).unwrap()).collect();
        assert_eq!(halves_text(&all), ["3", "14:attention", "16:mlp"]);
        assert_eq!(parse_halves("3", &[Part::Mlp]).unwrap().len(), 1);
        for wrong in ["", "x", "3:", "3:head", "-1", ":mlp"] {
            assert!(halves(wrong).unwrap_err().contains("expected e.g. 14 or 14:mlp"), "{wrong}");
        }
    }
}
