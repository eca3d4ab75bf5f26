//! What `--json` prints of a verb that stopped because a model has no direction.

use anyhow::Result;

use super::ui::Ui;
use crate::verbs::Stopped;

/// What `result` holds. Where a direction could not be found its reason is printed if `json` asks
/// for JSON: a program then does not have to read the message.
pub(super) fn or_stop_report<T>(ui: &Ui, json: bool, result: Result<T, Stopped>) -> Result<T> {
    match result {
        Err(Stopped::NoDirection(why)) => {
            if json {
                ui.print_json(&why.report())?;
            }
            Err(Stopped::NoDirection(why).into())
        }
        result => Ok(result?),
    }
}
