//! Text files that users pass in: UTF-8, read whole and once.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::error::{Error, Result};
use crate::gguf::hex;

/// A text file in memory. It is read once, because a pipe cannot be read a second time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextFile {
    /// The path that it was read from.
    pub path: PathBuf,
    /// Its text, without the byte order mark that Windows puts in front.
    pub text: String,
    /// sha256 of its bytes.
    pub sha256: String,
}

impl TextFile {
    /// Reads the file or pipe at `path`.
    ///
    /// # Errors
    /// It cannot be read, or is not UTF-8.
    pub fn read(path: &Path) -> Result<TextFile> {
        let io = |source| Error::Io { path: path.to_owned(), source };
        let bytes = std::fs::read(path).map_err(io)?;
        let sha256 = hex(&Sha256::digest(&bytes));
        let text = decoded(bytes).map_err(|e| e.in_file(path))?;
        Ok(TextFile { path: path.to_owned(), text, sha256 })
    }
}

/// The text of `bytes`.
fn decoded(bytes: Vec<u8>) -> Result<String> {
    let found = match bytes.as_slice() {
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => Some("UTF-32"),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Some("UTF-16"),
        _ => None,
    };
    if let Some(found) = found {
        return Err(Error::OtherEncoding { found });
    }
    let mut text = String::from_utf8(bytes).map_err(|error| {
        let offset = error.utf8_error().valid_up_to();
        let before = &error.as_bytes()[..offset];
        let line = 1 + before.iter().filter(|&&b| b == b'\n').count();
        Error::NotUtf8 { offset, line }
    })?;
    if text.contains('\0') {
        return Err(Error::OtherEncoding { found: "UTF-16, or not text at all" });
    }
    if text.starts_with('\u{feff}') {
        text.remove(0);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_order_mark_is_no_text_and_other_encodings_are_named() {
        let text = |bytes: &[u8]| decoded(bytes.to_vec()).map_err(|e| e.to_string());
        assert_eq!(text(b"\xef\xbb\xbfa\xef\xbb\xbf").unwrap(), "a\u{feff}");
        assert_eq!(text(b"").unwrap(), "");
        let hint = "hint: save the file as UTF-8, or convert it with iconv";
        for utf16 in [&b"\xff\xfea\0"[..], b"\xfe\xff\0a", b"\xff\xfe"] {
            let said = format!("the text is UTF-16, expected UTF-8\n{hint}");
            assert_eq!(text(utf16).unwrap_err(), said);
        }
        assert!(text(b"\xff\xfe\0\0a\0\0\0").unwrap_err().starts_with("the text is UTF-32"));
        let said = format!("not UTF-8 from byte 3 on, in line 2\n{hint}");
        assert_eq!(text(b"a\nb\xe9\n").unwrap_err(), said);
    }
}
