//! Rows of activations of all calibration tokens: in memory if they are few, else in an unnamed
//! file.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::error::{Error, Result};
use crate::gguf;

/// Bytes of rows that stay in memory.
const IN_MEMORY: u64 = 48 << 20;

/// Rows, `[n_rows, width]`.
#[derive(Debug)]
pub(super) struct Rows {
    width: usize,
    store: Store,
}

#[derive(Debug)]
enum Store {
    Memory(Vec<f32>),
    /// The file, and the folder that it is in.
    File(File, PathBuf),
}

impl Rows {
    /// Rows of zeros, in memory or in a file in `folder`.
    pub(super) fn new(n_rows: usize, width: usize, folder: &Path) -> Result<Rows> {
        let n = n_rows * width;
        let store = match n as u64 * 4 <= IN_MEMORY {
            true => Store::Memory(vec![0.0; n]),
            false => {
                let file = tempfile::tempfile_in(folder).map_err(|e| io(folder, e))?;
                Store::File(file, folder.into())
            }
        };
        Ok(Rows { width, store })
    }

    /// Puts `rows` where row `first` is.
    pub(super) fn write(&mut self, first: usize, rows: &[f32]) -> Result<()> {
        let at = first * self.width;
        match &mut self.store {
            Store::Memory(all) => all[at..at + rows.len()].copy_from_slice(rows),
            Store::File(file, folder) => {
                let bytes: Vec<u8> = rows.iter().flat_map(|x| x.to_le_bytes()).collect();
                let write = file.seek(SeekFrom::Start(at as u64 * 4));
                write.and_then(|_| file.write_all(&bytes)).map_err(|e| io(folder, e))?;
            }
        }
        Ok(())
    }

    /// The rows of a range, `[n, width]`.
    pub(super) fn read(&mut self, rows: Range<usize>) -> Result<Vec<f32>> {
        let (at, n) = (rows.start * self.width, rows.len() * self.width);
        match &mut self.store {
            Store::Memory(all) => Ok(all[at..at + n].to_vec()),
            Store::File(file, folder) => {
                let mut bytes = vec![0; n * 4];
                let read = file.seek(SeekFrom::Start(at as u64 * 4));
                read.and_then(|_| file.read_exact(&mut bytes)).map_err(|e| io(folder, e))?;
                Ok(bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
            }
        }
    }
}

fn io(path: &Path, source: std::io::Error) -> Error {
    gguf::Error::Io { action: "keep activations in", path: path.into(), source }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_from_memory_and_from_a_file() {
        let folder = std::env::temp_dir();
        let mut rows = Rows::new(10, 3, &folder).unwrap();
        let mut large =
            Rows { width: 3, store: Store::File(tempfile::tempfile().unwrap(), folder.clone()) };
        for rows in [&mut rows, &mut large] {
            rows.write(4, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
            rows.write(2, &[7.0; 6]).unwrap();
            assert_eq!(rows.read(3..6).unwrap(), [7.0, 7.0, 7.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        }
    }
}
