//! The crate by itself, through its public API.

mod builder;
mod header;
mod malformed;
mod messages;
mod patch;
mod rewrite;
mod shards;
mod support;
