//! A study's run folder: its results read, its report and model card written.

use std::path::Path;

use serde::Deserialize;

use super::card::card;
use super::error::{Error, Result};
use super::page::page;
use super::results::{Results, SCHEMA};
use super::run_files::{CARD, PAGE, RECIPE, RESULTS};
use crate::gguf::write_file;

/// The field that every version of results.json has.
#[derive(Deserialize)]
struct Versioned {
    schema: u64,
}

/// The results of the run in folder `run`.
///
/// # Errors
/// The file is missing or malformed, or another version of aird wrote it in another schema.
pub fn read_results(run: &Path) -> Result<Results> {
    let path = run.join(RESULTS);
    let text = read(&path)?;
    let malformed =
        |e: serde_json::Error| Error::Malformed { path: path.clone(), why: e.to_string() };
    let found = serde_json::from_str::<Versioned>(&text).map_err(malformed)?.schema;
    if found != u64::from(SCHEMA) {
        let hint = match found > u64::from(SCHEMA) {
            true => "a newer aird wrote it: report with that one",
            false => "an older aird wrote it: run the study again",
        };
        return Err(Error::Schema { path, found, expected: SCHEMA, hint });
    }
    serde_json::from_str(&text).map_err(malformed)
}

/// Writes the report and the model card into folder `run`, from the results and the recipe in it.
/// Results are always read from the file, since a number's last bit may change in JSON: so every
/// caller shows the same numbers.
///
/// # Errors
/// See [`read_results`]; the recipe is missing, or a file cannot be written.
pub fn write(run: &Path) -> Result<()> {
    let (results, recipe) = (read_results(run)?, read(&run.join(RECIPE))?);
    write_file(&run.join(PAGE), page(&results).as_bytes())?;
    write_file(&run.join(CARD), card(&results, &recipe).as_bytes())?;
    Ok(())
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|why| Error::Unreadable { path: path.into(), why })
}
