//! Which devices take blocks of a model, and how the blocks are split among them.

use std::path::Path;

use llama_cpp_sys_2 as sys;

use super::devices::{self, Device};
use super::error::{Error, Result};
use crate::gguf::{Model, Value};

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
    /// quarters and one quarter; with none, shares are as free memory is.
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

    /// The devices for the last `n_blocks` of the model at `path`, of which the output is one.
    ///
    /// # Errors
    /// A name that no device has or that stands twice, other shares than devices, no device at all,
    /// or weights that are larger than the memory of all of them.
    pub(super) fn resolve(self, path: &Path, n_blocks: u32) -> Result<Resolved> {
        let all = devices::taking_blocks();
        let taking = if self.devices.is_empty() { all } else { self.named(&all)? };
        if taking.is_empty() {
            return Err(Error::NoDevices);
        }
        self.check_shares(&taking)?;
        let model = Model::open(path)?;
        let used = |i: &usize| self.parts.get(*i) != Some(&0);
        let used: Vec<&Device> = (0..taking.len()).filter(used).map(|i| &taking[i].1).collect();
        check_fit(&model, n_blocks, &used)?;
        if self == Split::ALL {
            return Ok(Resolved::ByLlama);
        }
        Ok(Resolved::These {
            devices: taking.into_iter().map(|(device, _)| device).collect(),
            shares: self.parts.iter().map(|part| *part as f32).collect(),
        })
    }

    fn named(self, taking: &[Found]) -> Result<Vec<Found>> {
        let find = |(i, name): (usize, &String)| {
            let found = taking.iter().find(|(_, device)| device.name == *name);
            let is_new = !self.devices[..i].contains(name);
            let no_device = || Error::NoDevice { name: name.clone(), known: names(taking) };
            found.filter(|_| is_new).cloned().ok_or_else(no_device)
        };
        self.devices.iter().enumerate().map(find).collect()
    }

    /// A share for each device, and of something; llama.cpp keeps as many as it knows devices.
    fn check_shares(self, taking: &[Found]) -> Result<()> {
        let found = self.parts.len();
        let is_right = found == taking.len() && self.parts.iter().any(|part| *part > 0);
        match found == 0 || (is_right && found <= max_devices()) {
            true => Ok(()),
            false => Err(Error::Shares { found, devices: names(taking) }),
        }
    }
}

/// A device, and what is known about it.
type Found = (sys::ggml_backend_dev_t, Device);

fn names(found: &[Found]) -> Vec<String> {
    found.iter().map(|(_, device)| device.name.clone()).collect()
}

fn max_devices() -> usize {
    // SAFETY: it only returns a number.
    unsafe { sys::llama_max_devices() }
}

/// Devices for llama.cpp.
pub(super) enum Resolved {
    /// Its own choice of all: it leaves out a GPU that another of its backends has as well.
    ByLlama,
    /// These, with a share for each, or none.
    These { devices: Vec<sys::ggml_backend_dev_t>, shares: Vec<f32> },
}

impl Resolved {
    /// No device: everything runs on the CPU.
    pub(super) fn none() -> Resolved {
        Resolved::These { devices: Vec::new(), shares: Vec::new() }
    }

    /// Devices up to a null, and a share for each device that llama.cpp may know; empty for its own
    /// choice.
    pub(super) fn for_llama(self) -> (Vec<sys::ggml_backend_dev_t>, Vec<f32>) {
        let Resolved::These { mut devices, mut shares } = self else {
            return (Vec::new(), Vec::new());
        };
        devices.push(std::ptr::null_mut());
        if !shares.is_empty() {
            shares.resize(max_devices(), 0.0);
        }
        (devices, shares)
    }
}

/// Fails if the weights of the last `n_blocks` are larger than all memory that `devices` report:
/// llama.cpp would find out in the middle. What a context needs besides is not known here, nor what
/// else runs there.
fn check_fit(model: &Model, n_blocks: u32, devices: &[&Device]) -> Result<()> {
    let free: u64 = devices.iter().map(|device| device.free).sum();
    if devices.iter().any(|device| device.free == 0) {
        // One that does not report it.
        return Ok(());
    }
    let architecture = model.text("general.architecture")?.unwrap_or_default();
    let key = format!("{architecture}.nextn_predict_layers");
    // Blocks that predict further tokens are last, and llama.cpp loads none of them.
    let n_further = model.kv().get(&key).and_then(Value::as_u64).unwrap_or(0) as u32;
    let blocks = model.tensors().filter_map(|t| Some((t.info.block()?, t.info.n_bytes())));
    let mut blocks: Vec<(u32, u64)> = blocks.collect();
    let n_model = blocks.iter().map(|(block, _)| block + 1).max().unwrap_or(0);
    blocks.retain(|(block, _)| *block < n_model.saturating_sub(n_further));
    let needed = bytes_of_last(n_blocks, &blocks);
    match needed.checked_sub(free) {
        None | Some(0) => Ok(()),
        Some(missing) => {
            let path = model.shards()[0].path.clone();
            let devices = devices.iter().map(|device| device.name.clone()).collect();
            Err(Error::DoesNotFit { path, needed, missing, devices })
        }
    }
}

/// Bytes of the last `n` of `blocks`: the number of each tensor's block, and the tensor's bytes.
fn bytes_of_last(n: u32, blocks: &[(u32, u64)]) -> u64 {
    let n_model = blocks.iter().map(|(block, _)| block + 1).max().unwrap_or(0);
    // llama.cpp counts the output, which is last, as one more.
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
