//! What a model's blocks are, derived from the graph that llama.cpp builds for it: which matrices
//! write into the residual stream and through what, which share an input, and what nothing reads.
//! There is no table of architectures: aird knows every model that llama.cpp runs.
//!
//! `record` takes the graph, `stream` follows the residual stream forward, `writers` and `inputs`
//! walk back from its sums and from the matrices, `structure` is what they find.

mod inputs;
mod names;
mod record;
mod stream;
mod structure;
mod trace;
mod writers;

pub(super) use names::{name_of, plain_name};
pub(super) use stream::Stream;
pub use structure::{
    Group, Input, Link, Obstacle, Part, Point, PointKind, Reader, Rows, Span, Structure, Writer,
};
