//! `config.json` and its like: keys with the types that they must have.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value as Json};

use super::error::{Error, Result};

/// The most of a wrong value that an error shows.
const SHOWN_CHARS: usize = 60;

/// A JSON object of a file.
#[derive(Debug, Clone)]
pub struct Config {
    path: PathBuf,
    /// The key that the object itself has in the file, and a dot; empty for the whole file.
    prefix: String,
    json: Map<String, Json>,
}

impl Config {
    /// Reads the file.
    ///
    /// # Errors
    /// It cannot be read, or is no JSON object.
    pub fn read(path: &Path) -> Result<Config> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| Error::Io { path: path.into(), source })?;
        let json = serde_json::from_str(&text).map_err(|e| Error::from(e).in_file(path))?;
        Ok(Config { path: path.into(), prefix: String::new(), json })
    }

    /// As [`Config::read`]; None if there is no such file.
    ///
    /// # Errors
    /// As [`Config::read`].
    pub fn read_if_there(path: &Path) -> Result<Option<Config>> {
        path.is_file().then(|| Config::read(path)).transpose()
    }

    /// The file that it is of.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The value of a key; None if it is absent or null.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Json> {
        self.json.get(key).filter(|value| !value.is_null())
    }

    /// The text of a key; None if it is absent or null.
    ///
    /// # Errors
    /// It is something else.
    pub fn text(&self, key: &str) -> Result<Option<&str>> {
        self.typed(key, "a text", Json::as_str)
    }

    /// The whole number, 0 or more, of a key; None if it is absent or null.
    ///
    /// # Errors
    /// It is something else, or more than a u32.
    pub fn count(&self, key: &str) -> Result<Option<u64>> {
        let fits = |n: &u64| u32::try_from(*n).is_ok();
        self.typed(key, "a whole number", |json| json.as_u64().filter(fits))
    }

    /// As [`Config::count`], of a key that must be there, and not 0.
    ///
    /// # Errors
    /// As [`Config::count`]; it is missing or 0.
    pub fn needed(&self, key: &str) -> Result<u64> {
        const EXPECTED: &str = "a whole number, 1 or more";
        match self.count(key)? {
            Some(0) => Err(self.wrong(key, &Json::from(0), EXPECTED)),
            Some(n) => Ok(n),
            None => Err(self.missing(key, EXPECTED)),
        }
    }

    /// The finite number of a key; None if it is absent or null.
    ///
    /// # Errors
    /// It is something else.
    pub fn number(&self, key: &str) -> Result<Option<f64>> {
        self.typed(key, "a number", |json| json.as_f64().filter(|x| x.is_finite()))
    }

    /// As [`Config::number`], of a key that must be there.
    ///
    /// # Errors
    /// As [`Config::number`]; it is missing.
    pub fn needed_number(&self, key: &str) -> Result<f64> {
        self.number(key)?.ok_or_else(|| self.missing(key, "a number"))
    }

    /// The bool of a key; None if it is absent or null.
    ///
    /// # Errors
    /// It is something else.
    pub fn flag(&self, key: &str) -> Result<Option<bool>> {
        self.typed(key, "true or false", Json::as_bool)
    }

    /// The list of numbers of a key; None if it is absent or null.
    ///
    /// # Errors
    /// It is something else.
    pub fn numbers(&self, key: &str) -> Result<Option<Vec<f64>>> {
        self.typed(key, "a list of numbers", |json| {
            json.as_array()?.iter().map(Json::as_f64).collect()
        })
    }

    /// The object of a key; None if it is absent or null.
    ///
    /// # Errors
    /// It is something else.
    pub fn object(&self, key: &str) -> Result<Option<Config>> {
        let json = self.typed(key, "an object", Json::as_object)?;
        let prefix = format!("{}{key}.", self.prefix);
        Ok(json.map(|json| Config { path: self.path.clone(), prefix, json: json.clone() }))
    }

    /// The list of a key; empty if it is absent or null.
    ///
    /// # Errors
    /// It is something else.
    pub fn list(&self, key: &str) -> Result<&[Json]> {
        Ok(self.typed(key, "a list", Json::as_array)?.map_or(&[], Vec::as_slice))
    }

    /// The error of a key that is missing.
    #[must_use]
    pub fn missing(&self, key: &str, expected: &'static str) -> Error {
        Error::MissingKey { key: format!("{}{key}", self.prefix), expected }.in_file(&self.path)
    }

    /// The error of a key with another value.
    #[must_use]
    pub fn wrong(&self, key: &str, found: &Json, expected: &'static str) -> Error {
        let found = shortened(&found.to_string());
        Error::WrongKey { key: format!("{}{key}", self.prefix), found, expected }
            .in_file(&self.path)
    }

    fn typed<'j, T>(
        &'j self,
        key: &str,
        expected: &'static str,
        read: impl FnOnce(&'j Json) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(json) = self.get(key) else { return Ok(None) };
        read(json).map(Some).ok_or_else(|| self.wrong(key, json, expected))
    }
}

/// The first part of a text that may be long.
pub(super) fn shortened(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text.to_owned(),
    }
}
