//! The importance matrix as llama-imatrix wrote it before it wrote GGUF (`.dat`), little-endian:
//!
//! ```text
//! i32 n_entries
//! n_entries x { i32 len, name, i32 n_call, i32 n_values, f32 `[n_values]` }
//! i32 n_chunk, i32 len, data set's name            (may be missing)
//! ```
//! A value is `E[x^2] * n_call`, where rows were counted in calls (chunks). Experts lie one after
//! another, and the file does not hold how many there are (`load_imatrix` of llama.cpp's
//! `tools/imatrix/imatrix.cpp`): they stay one long row until a model is known.

use indexmap::IndexMap;

use super::activation::{InputStats, Stats};

/// Bytes of a name at most: far more than a tensor's name may have.
const MAX_NAME: usize = 1024;

/// Reads a whole file.
pub(super) fn parse(bytes: &[u8]) -> Result<Stats, String> {
    let mut reader = LegacyReader { bytes, offset: 0 };
    let n_entries = reader.count("the number of entries")?;
    if n_entries == 0 {
        return Err("not an importance matrix: it has no entries".into());
    }
    let mut inputs = IndexMap::new();
    for index in 0..n_entries {
        let len = reader.count(&format!("the length of entry {index}'s name"))?;
        if len > MAX_NAME {
            return Err(format!(
                "not an importance matrix: entry {index} has a name of {len} bytes"
            ));
        }
        let name = String::from_utf8_lossy(reader.take(len, "a name")?).into_owned();
        let n_call = reader.count(&format!("{name}'s calls"))?;
        let n_cols = reader.count(&format!("{name}'s number of values"))?;
        if n_cols == 0 {
            return Err(format!("{name} has no values, expected one for each channel"));
        }
        let words = reader.take(n_cols.saturating_mul(4), &name)?.as_chunks::<4>().0.iter();
        let sum2: Vec<f64> = words.map(|b| f64::from(f32::from_le_bytes(*b))).collect();
        if sum2.iter().any(|x| !(x.is_finite() && *x >= 0.0)) {
            return Err(format!("{name} holds a value that is not a sum of squares"));
        }
        let counts = vec![n_call as u64];
        let input = InputStats { n_cols, counts, sum2, sum_abs: None, max_abs: None };
        if inputs.insert(name.clone(), input).is_some() {
            return Err(format!("{name} is there twice"));
        }
    }
    inputs.sort_keys();
    Ok(Stats { inputs, datasets: reader.dataset().into_iter().collect(), about: None })
}

struct LegacyReader<'b> {
    bytes: &'b [u8],
    offset: usize,
}

impl<'b> LegacyReader<'b> {
    fn take(&mut self, len: usize, what: &str) -> Result<&'b [u8], String> {
        let found = self.offset.checked_add(len).and_then(|end| self.bytes.get(self.offset..end));
        let found = found.ok_or_else(|| {
            format!(
                "not an importance matrix, or cut off: {what} at byte {} is missing",
                self.offset
            )
        })?;
        self.offset += len;
        Ok(found)
    }

    fn count(&mut self, what: &str) -> Result<usize, String> {
        let at = self.offset;
        let bytes = self.take(4, what)?;
        let value = i32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        let negative = |_| format!("not an importance matrix: {what} at byte {at} is {value}");
        usize::try_from(value).map_err(negative)
    }

    /// The name of the data, if the file has one.
    fn dataset(&mut self) -> Option<String> {
        self.count("chunks").ok()?;
        let len = self.count("name").ok()?;
        let name = self.take(len, "name").ok()?;
        Some(String::from_utf8_lossy(name).into_owned()).filter(|n| !n.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(1i32.to_le_bytes());
        bytes.extend(3i32.to_le_bytes());
        bytes.extend(b"b.w");
        bytes.extend(4i32.to_le_bytes());
        bytes.extend(2i32.to_le_bytes());
        [8.0f32, 2.0].iter().for_each(|x| bytes.extend(x.to_le_bytes()));
        bytes.extend(4i32.to_le_bytes());
        bytes.extend(5i32.to_le_bytes());
        bytes.extend(b"a.txt");
        bytes
    }

    #[test]
    fn means_come_out_as_they_went_in() {
        let stats = parse(&file()).unwrap();
        assert_eq!(stats.inputs["b.w"].mean_square(0).unwrap(), [2.0, 0.5]);
        assert_eq!(stats.datasets, ["a.txt"]);
    }

    #[test]
    fn an_entry_that_is_there_twice_is_an_error() {
        let once = file();
        let entry = &once[4..4 + 4 + 3 + 4 + 4 + 8];
        let bytes = [&2i32.to_le_bytes()[..], entry, entry].concat();
        assert_eq!(parse(&bytes).unwrap_err(), "b.w is there twice");
    }

    #[test]
    fn an_entry_without_values_is_refused() {
        let mut bytes = file();
        let n_values = 4 + 4 + 3 + 4;
        bytes[n_values..n_values + 4].fill(0);
        assert_eq!(parse(&bytes).unwrap_err(), "b.w has no values, expected one for each channel");
    }

    #[test]
    fn every_cut_before_the_trailer_is_an_error() {
        let bytes = file();
        let entries_end = 4 + 4 + 3 + 4 + 4 + 8;
        for cut in 0..entries_end {
            assert!(parse(&bytes[..cut]).is_err(), "{cut}");
        }
        assert!(parse(&bytes[..entries_end]).is_ok());
    }
}
