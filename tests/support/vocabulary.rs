//! The two tokenizers most models have, with as few tokens as spell any text: every byte, a few
//! merges, a few special tokens, and a template in the ChatML manner.

use aird::gguf::{Builder, Value, ValueType};

/// `llama_token_type` of llama.cpp's `llama.h`.
const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const BYTE: i32 = 6;

/// Beginnings before their continuations, so that each can be merged from what comes before.
const PIECES: [&str; 10] = ["▁t", "▁th", "▁the", "▁a", "▁I", "in", "er", "re", "on", "or"];

const CHAT_TEMPLATE: &str = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n\
    {{ m['content'] }}<|im_end|>\n{% endfor %}\
    {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/// Which of llama.cpp's tokenizers a tiny model has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tokenizer {
    /// SentencePiece with byte tokens.
    Llama,
    /// Byte-level BPE.
    Gpt2,
}

struct Token {
    text: String,
    kind: i32,
}

fn token(text: impl Into<String>, kind: i32) -> Token {
    Token { text: text.into(), kind }
}

impl Tokenizer {
    pub fn n_vocab(self) -> u64 {
        self.tokens().len() as u64
    }

    /// Adds the keys under `tokenizer.`.
    pub fn write(self, file: &mut Builder) {
        self.write_with(file, &[]);
    }

    /// As [`Tokenizer::write`], with whole texts as tokens of their own behind all others.
    pub fn write_with(self, file: &mut Builder, texts: &[String]) {
        let mut tokens = self.tokens();
        tokens.extend(texts.iter().map(|text| token(text.as_str(), USER_DEFINED)));
        let id = |text: &str| tokens.iter().position(|t| t.text == text).unwrap() as u32;
        let kinds = tokens.iter().map(|t| Value::I32(t.kind));
        match self {
            Tokenizer::Llama => file.kv("tokenizer.ggml.model", "llama"),
            Tokenizer::Gpt2 => {
                file.kv("tokenizer.ggml.model", "gpt2").kv("tokenizer.ggml.pre", "gpt-2")
            }
        };
        file.kv("tokenizer.ggml.tokens", Value::strings(tokens.iter().map(|t| &t.text)));
        if self == Tokenizer::Llama {
            // The earlier of two merges wins.
            let scores = (0..tokens.len()).map(|i| Value::F32(-(i as f32)));
            file.kv("tokenizer.ggml.scores", Value::array(ValueType::F32, scores));
        }
        file.kv("tokenizer.ggml.token_type", Value::array(ValueType::I32, kinds));
        if self == Tokenizer::Gpt2 {
            file.kv("tokenizer.ggml.merges", Value::strings(merges()));
        }
        file.kv("tokenizer.ggml.bos_token_id", id("<s>"))
            .kv("tokenizer.ggml.eos_token_id", id("<|im_end|>"))
            .kv("tokenizer.ggml.unknown_token_id", id("<unk>"))
            .kv("tokenizer.ggml.padding_token_id", id("</s>"))
            .kv("tokenizer.ggml.add_space_prefix", false)
            .kv("tokenizer.ggml.add_bos_token", self == Tokenizer::Llama)
            .kv("tokenizer.ggml.add_eos_token", false)
            .kv("tokenizer.chat_template", CHAT_TEMPLATE);
    }

    fn tokens(self) -> Vec<Token> {
        let mut all = vec![token("<unk>", UNKNOWN)];
        all.extend(["<s>", "</s>", "<|im_start|>", "<|im_end|>"].map(|t| token(t, CONTROL)));
        match self {
            Tokenizer::Llama => {
                all.extend((0..=255u8).map(|b| token(format!("<0x{b:02X}>"), BYTE)));
                all.extend(PIECES.map(|t| token(t, NORMAL)));
                all.push(token("▁", NORMAL));
                all.extend((' '..='~').skip(1).map(|c| token(c, NORMAL)));
            }
            Tokenizer::Gpt2 => {
                all.extend((0..=255u8).map(|b| token(gpt2_char(b), NORMAL)));
                all.extend(PIECES.map(|t| token(t.replace('▁', "Ġ"), NORMAL)));
            }
        }
        all
    }
}

/// Each piece as its beginning and its last letter.
fn merges() -> Vec<String> {
    let split = |piece: &str| {
        let piece = piece.replace('▁', "Ġ");
        let (at, _) = piece.char_indices().next_back().unwrap();
        format!("{} {}", &piece[..at], &piece[at..])
    };
    PIECES.into_iter().map(split).collect()
}

/// GPT-2's letters for bytes: printable ones stand for themselves, the others follow from 256.
fn gpt2_char(byte: u8) -> char {
    let printable = |b: u8| matches!(b, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    if printable(byte) {
        return byte.into();
    }
    let before = (0..byte).filter(|&b| !printable(b)).count() as u32;
    char::from_u32(256 + before).unwrap()
}
