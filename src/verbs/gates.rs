//! Conditions on the answers to sets: checked before anything is asked.

use super::error::{Error, Result};
use crate::eval::asr::Gate;

/// Checks that every condition is on one of the sets called `names`: on another one it would never
/// hold.
///
/// # Errors
/// The first condition that is not.
pub(super) fn check_asked<'g>(
    gates: impl IntoIterator<Item = &'g Gate>,
    names: &[&str],
) -> Result<()> {
    match gates.into_iter().find(|gate| !names.contains(&gate.set.as_str())) {
        None => Ok(()),
        Some(gate) => Err(Error::Sentence(format!(
            "condition '{gate}': no set '{}' is asked, expected one of {}",
            gate.set,
            names.join(", ")
        ))),
    }
}
