//! SentencePiece: the pieces of `tokenizer.model`.
//!
//! The file is a protobuf message, `sentencepiece_model.proto` of google/sentencepiece:
//!
//! ```text
//! ModelProto    1: repeated SentencePiece   2: TrainerSpec
//! SentencePiece 1: string piece   2: float score   3: enum type (1 normal, 2 unknown, 3 control,
//!               4 user-defined, 5 unused, 6 byte)
//! TrainerSpec   3: enum model_type (1 unigram, 2 BPE, 3 word, 4 char)
//! ```

use std::path::Path;

use super::files::{Added, Files, TokenType};
use super::special::special_keys;
use crate::checkpoint::error::{Error, Result};
use crate::checkpoint::keys::Keys;
use crate::gguf::{Value, ValueType};

/// `model_type` of a model whose pieces are merged by their scores, as llama.cpp does it.
const BPE: u64 = 2;
/// The score of a number without a piece.
const NO_SCORE: f32 = -10_000.0;
/// The score of an added token.
const ADDED_SCORE: f32 = -1_000.0;

/// Whether added tokens that look special are taken for such, and their spaces for spaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AddedTokens {
    /// They are.
    Judged,
    /// They are what the files say.
    AsGiven,
}

/// The vocabulary, by number.
pub(super) struct Pieces {
    tokens: Vec<String>,
    scores: Vec<f32>,
    types: Vec<i32>,
}

/// Sets the keys of a SentencePiece tokenizer.
///
/// # Errors
/// `tokenizer.model` cannot be read, or is of another kind.
pub(super) fn spm_keys(
    path: &Path,
    files: &Files,
    n_vocab: u64,
    how: AddedTokens,
    keys: &mut Keys,
) -> Result<()> {
    let bytes = std::fs::read(path).map_err(|source| Error::Io { path: path.into(), source })?;
    let mut pieces = Pieces::of(n_vocab);
    pieces.read(&bytes).map_err(|what| Error::Tokenizer { what }.in_file(path))?;
    pieces.add(files, how)?;
    pieces.set(keys);
    special_keys(files, n_vocab, keys)
}

impl Pieces {
    /// Numbers without pieces.
    fn of(n_vocab: u64) -> Pieces {
        let n = n_vocab as usize;
        Pieces {
            tokens: (0..n).map(|i| format!("[PAD{i}]")).collect(),
            scores: vec![NO_SCORE; n],
            types: vec![TokenType::Unused as i32; n],
        }
    }

    fn read(&mut self, bytes: &[u8]) -> Result<(), String> {
        let malformed = || "is not a SentencePiece model, or one that was cut off".to_owned();
        let mut number = 0;
        for field in fields(bytes) {
            match field.ok_or_else(malformed)? {
                (1, Field::Bytes(piece)) => {
                    // More pieces than the model has rows: they are never met.
                    if number < self.tokens.len() {
                        self.read_piece(number, piece).ok_or_else(malformed)?;
                    }
                    number += 1;
                }
                (2, Field::Bytes(trainer)) => {
                    for field in fields(trainer) {
                        if let (3, Field::Number(kind)) = field.ok_or_else(malformed)?
                            && kind != BPE
                        {
                            return Err("is a unigram model, which llama.cpp's llama is not".into());
                        }
                    }
                }
                _ => {}
            }
        }
        if number == 0 { Err(malformed()) } else { Ok(()) }
    }

    fn read_piece(&mut self, number: usize, piece: &[u8]) -> Option<()> {
        let (mut text, mut score, mut kind) = (String::new(), 0.0, 1);
        for field in fields(piece) {
            match field? {
                (1, Field::Bytes(bytes)) => text = std::str::from_utf8(bytes).ok()?.to_owned(),
                (2, Field::Float(x)) => score = x,
                (3, Field::Number(n)) => kind = i32::try_from(n).ok()?,
                _ => {}
            }
        }
        // The numbers of types are llama.cpp's own; a user-defined piece is one like others.
        let kind = if kind == 4 { 1 } else { kind };
        (self.tokens[number], self.scores[number], self.types[number]) = (text, score, kind);
        Some(())
    }

    /// Puts added tokens in their places.
    fn add(&mut self, files: &Files, how: AddedTokens) -> Result<()> {
        for (token, number) in files.added_file()? {
            let added = Added { content: token, special: false };
            self.put(number, added.content, TokenType::UserDefined);
        }
        let added = match how {
            AddedTokens::Judged => files.added_by_config()?,
            AddedTokens::AsGiven => files.added()?,
        };
        for (number, added) in added {
            let ty = match (how, added.special) {
                (AddedTokens::Judged, _) => added.token_type(),
                (_, true) => TokenType::Control,
                (_, false) => TokenType::UserDefined,
            };
            let text = match how {
                AddedTokens::Judged => added.text(),
                AddedTokens::AsGiven => added.content,
            };
            self.put(number, text, ty);
        }
        Ok(())
    }

    fn put(&mut self, number: u64, text: String, ty: TokenType) {
        // Numbers beyond the model's rows are never met.
        let Some(token) = self.tokens.get_mut(number as usize) else { return };
        *token = text;
        self.scores[number as usize] = ADDED_SCORE;
        self.types[number as usize] = ty as i32;
    }

    fn set(self, keys: &mut Keys) {
        keys.set("tokenizer.ggml.model", "llama");
        keys.set("tokenizer.ggml.pre", "default");
        keys.set("tokenizer.ggml.tokens", Value::strings(self.tokens));
        let scores = self.scores.into_iter().map(Value::F32);
        keys.set("tokenizer.ggml.scores", Value::array(ValueType::F32, scores));
        let types = self.types.into_iter().map(Value::I32);
        keys.set("tokenizer.ggml.token_type", Value::array(ValueType::I32, types));
    }
}

/// A field of a protobuf message.
enum Field<'b> {
    Number(u64),
    Float(f32),
    Bytes(&'b [u8]),
}

/// The fields of a protobuf message with their numbers; None where it is malformed.
fn fields(mut bytes: &[u8]) -> impl Iterator<Item = Option<(u64, Field<'_>)>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let field = next_field(&mut bytes);
        if field.is_none() {
            bytes = &[];
        }
        Some(field)
    })
}

fn next_field<'b>(bytes: &mut &'b [u8]) -> Option<(u64, Field<'b>)> {
    let tag = varint(bytes)?;
    let field = match tag & 7 {
        0 => Field::Number(varint(bytes)?),
        1 => Field::Bytes(take(bytes, 8)?),
        2 => {
            let len = varint(bytes)?;
            Field::Bytes(take(bytes, usize::try_from(len).ok()?)?)
        }
        5 => Field::Float(f32::from_le_bytes(take(bytes, 4)?.try_into().ok()?)),
        _ => return None,
    };
    Some((tag >> 3, field))
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = take(bytes, 1)?[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn take<'b>(bytes: &mut &'b [u8], n: usize) -> Option<&'b [u8]> {
    let (taken, left) = bytes.split_at_checked(n)?;
    *bytes = left;
    Some(taken)
}
