//! Which devices take blocks of a model, and how the blocks are split among them.

use std::path::Path;

use llama_cpp_sys_2 as sys;

use super::devices::{self, Device};
use super::error::{Error, Result};
use crate::gguf::Model;

/// Devices by name, and each one's share. Remembered as long as the process lives, as devices are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Split {
    devices: &'static [String],
    parts: &'static [u32],
}

impl Split {
    /// All devices that take blocks, each as its free memory is.
    pub const ALL: Split = Split { devices: &[], parts: &[] };

    /// These devices, in this order, as [`Device::name`] has them; with none, all that take blocks,
    /// workers' first. The first of `parts` is the first device's share, 3 and 1 being three
    /// quarters and one; with none, shares are as free memory is.
    pub fn new(devices: Vec<String>, parts: Vec<u32>) -> Split {
        Split { devices: devices.leak(), parts: parts.leak() }
    }

    /// The names; empty for all devices.
    pub fn devices(self) -> &'static [String] {
        self.devices
    }

    /// The shares; empty for those of free memory.
    pub fn parts(self) -> &'static [u32] {
        self.parts
    }

    /// What it adds to the words of [`super::Options::placement`].
    pub(super) fn key(self) -> String {
        let parts: Vec<String> = self.parts.iter().map(ToString::to_string).collect();
        let named = [(self.devices.join(","), " on "), (parts.join(","), " split ")];
        let words = named.iter().filter(|(what, _)| !what.is_empty());
        words.map(|(what, word)| format!("{word}{what}")).collect()
    }

    /// The devices for the last `n_blocks` of the model at `path`.
    ///
    /// # Errors
    /// A name that no device has, as many shares as there are no devices, no device at all, or
    /// weights that do not fit in the free memory of all of them.
    pub(super) fn resolve(self, path: &Path, n_blocks: u32) -> Result<Resolved> {
        let all = devices::taking_blocks();
        let taking = if self.devices.is_empty() { all } else { self.named(&all)? };
        if taking.is_empty() {
            return Err(Error::NoDevices);
        }
        if !self.parts.is_empty() && self.parts.len() != taking.len() {
            let devices = names(&taking);
            return Err(Error::Shares { found: self.parts.len(), devices });
        }
        let (model, free) = (Model::open(path)?, taking.iter().map(|(_, device)| device.free));
        check_fit(&model, n_blocks, &names(&taking), &free.collect::<Vec<_>>())?;
        if self == Split::ALL {
            // llama.cpp's own choice: it leaves out a GPU that another of its backends has as well.
            return Ok(Resolved::default());
        }
        Ok(Resolved {
            devices: taking.into_iter().map(|(device, _)| device).collect(),
            parts: self.parts.iter().map(|part| *part as f32).collect(),
        })
    }

    fn named(self, taking: &[Found]) -> Result<Vec<Found>> {
        let find = |name: &String| {
            let found = taking.iter().find(|(_, device)| device.name == *name);
            let no_device = || Error::NoDevice { name: name.clone(), known: names(taking) };
            found.cloned().ok_or_else(no_device)
        };
        self.devices.iter().map(find).collect()
    }
}

/// A device, and what is known about it.
type Found = (sys::ggml_backend_dev_t, Device);

fn names(found: &[Found]) -> Vec<String> {
    found.iter().map(|(_, device)| device.name.clone()).collect()
}

/// Devices, and shares of as many; both empty for llama.cpp's own choice.
#[derive(Default)]
pub(super) struct Resolved {
    pub devices: Vec<sys::ggml_backend_dev_t>,
    pub parts: Vec<f32>,
}

/// Fails if the weights of the last `n_blocks` are larger than all that is `free`: llama.cpp would
/// find out in the middle. What a context needs besides is not known here.
fn check_fit(model: &Model, n_blocks: u32, devices: &[String], free: &[u64]) -> Result<()> {
    if free.contains(&0) {
        // A device that does not say what it has.
        return Ok(());
    }
    let blocks = model.tensors().filter_map(|t| Some((t.info.block()?, t.info.n_bytes())));
    let needed = bytes_of_last(n_blocks, &blocks.collect::<Vec<_>>());
    let free: u64 = free.iter().sum();
    match needed.checked_sub(free) {
        None | Some(0) => Ok(()),
        Some(missing) => {
            let path = model.shards()[0].path.clone();
            Err(Error::DoesNotFit { path, needed, missing, devices: devices.to_vec() })
        }
    }
}

/// Bytes of the last `n` of `blocks`: the number of each tensor's block, and the tensor's bytes.
fn bytes_of_last(n: u32, blocks: &[(u32, u64)]) -> u64 {
    let n_model = blocks.iter().map(|(block, _)| block + 1).max().unwrap_or(0);
    // llama.cpp counts the output behind the blocks as one more.
    let first = (n_model + 1).saturating_sub(n);
    blocks.iter().filter(|(block, _)| *block >= first).map(|(_, bytes)| bytes).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_output_counts_as_the_last_block() {
        let blocks = [(0, 1), (0, 2), (1, 10), (2, 100)];
        let found = [0, 1, 2, 3, 4, 9_999].map(|n| bytes_of_last(n, &blocks));
        assert_eq!(found, [0, 0, 100, 110, 113, 113]);
    }

    #[test]
    fn a_key_names_what_was_chosen() {
        assert_eq!(Split::ALL.key(), "");
        let split = Split::new(vec!["RPC1".into(), "RPC0".into()], vec![3, 1]);
        assert_eq!(split.key(), " on RPC1,RPC0 split 3,1");
    }
}
