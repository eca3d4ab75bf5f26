//! Names of the files in a study's run folder.

/// The results, as JSON.
pub const RESULTS: &str = "results.json";
/// The recipe with every default.
pub const RECIPE: &str = "recipe.toml";
/// The report, as HTML.
pub const PAGE: &str = "report.html";
/// The model card.
pub const CARD: &str = "README.md";
/// The answers to read, which the report links to.
pub const TRANSCRIPTS: &str = "transcripts.html";
/// The names of the bases, where the run has the studies of several, each in a folder of its own.
pub const BASES: &str = "bases.json";
