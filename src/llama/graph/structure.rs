//! What a model's blocks are made of.

use std::collections::BTreeSet;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::stream::Root;
use crate::llama::error::{Error, Result};

/// Which half of a block a matrix ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// What mixes tokens: attention, or a state-space, convolution or linear-attention mixer.
    Attention,
    /// What sees each token by itself: the MLP, experts and shared experts included.
    Mlp,
}

impl Part {
    /// `attention` or `mlp`.
    pub fn name(self) -> &'static str {
        match self {
            Part::Attention => "attention",
            Part::Mlp => "mlp",
        }
    }
}

/// The structure of one model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Structure {
    /// `general.architecture`.
    pub architecture: String,
    /// Where the residual stream begins.
    pub(in crate::llama) root: Root,
    /// The residual stream, point by point, from the embeddings to the logits; empty if no such
    /// stream leads from one to the other.
    pub points: Vec<Point>,
    /// Matrices of the blocks that share an input, in order of evaluation.
    pub groups: Vec<Group>,
    /// Every tensor that the graph reads.
    pub reads: BTreeSet<String>,
    /// True if the model goes on from past tokens; false for diffusion models and encoders, which
    /// read a whole text at once.
    pub remembers: bool,
    /// True if matrices of blocks are multiplied more than once a token.
    pub loops: bool,
}

/// A value that the residual stream has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Its number among all the points of the graph, dead ends included.
    pub(in crate::llama) number: u32,
    /// How it comes from the point before.
    pub kind: PointKind,
    /// The block that it lies in; None in front of the first.
    pub block: Option<u32>,
    /// The matrices whose products are added here, in order of evaluation.
    pub writers: Vec<Writer>,
    /// What made it impossible to find them all.
    pub obstacle: Option<Obstacle>,
}

/// How a point comes from the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PointKind {
    /// It is the first: looked-up embeddings.
    Embeddings,
    /// Something is added.
    Sum,
    /// An earlier value of the stream is added once more.
    Skip,
    /// It is multiplied by a constant, or by a weight.
    Rescaled,
}

/// A node between a matrix and the residual stream whose result is not linear in the product.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Obstacle {
    /// The node's name.
    pub node: String,
    /// ggml's name of the operation.
    pub op: String,
}

/// A matrix whose product reaches the residual stream through linear operations and norms.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Writer {
    /// The tensor; of a mixture, all experts.
    pub tensor: String,
    /// Index of the block, from 0.
    pub block: u32,
    /// Its half of the block.
    pub part: Part,
    /// True if the tensor holds a matrix for each expert.
    pub experts: bool,
    /// What happens to the product on its way, in order.
    pub links: Vec<Link>,
}

impl Writer {
    /// True if a norm stands between the matrix and the residual stream.
    pub fn is_normed(&self) -> bool {
        self.links.contains(&Link::RmsNorm)
    }
}

/// An operation between a matrix and the residual stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Link {
    /// Plus a vector of the file; of a mixture one for each expert.
    Bias(String),
    /// Times a vector of the file, channel by channel.
    Gains(String),
    /// Times a number of the file; of a mixture one for each expert.
    Scale(String),
    /// Divided by the root of the mean square.
    RmsNorm,
    /// Times a number that the model computes for each token: a router's weight, a gate's.
    Routed,
}

/// Matrices that multiply the same rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// Index of the block, from 0.
    pub block: u32,
    /// The matrices, in order of evaluation.
    pub matrices: Vec<Reader>,
    /// What makes the rows.
    pub input: Input,
}

/// A matrix that multiplies rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reader {
    /// Name of the tensor.
    pub tensor: String,
    /// True if it holds a matrix for each expert, and only some of them see a token.
    pub experts: bool,
}

/// What makes the input of a group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Input {
    /// The residual stream itself.
    Stream,
    /// A norm of the residual stream, or of anything else.
    Norm {
        /// The vector that it is multiplied by.
        gains: Option<String>,
        /// The vector that is added then.
        bias: Option<String>,
        /// True if only the group's matrices read it, and nothing else uses gains or bias.
        alone: bool,
    },
    /// `act(gate x) * up x`: linear in `up`.
    Gated {
        /// The rows that make the linear factor.
        up: Rows,
    },
    /// Attention's result: each head's channels are linear in those of its kv head.
    Heads {
        /// The rows that make the values.
        values: Rows,
        /// Channels of a head.
        head_len: u64,
        /// Query heads to a kv head.
        n_sharing: u64,
    },
    /// Anything else.
    Other,
}

/// Rows of a matrix, with what is added to their products.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rows {
    /// The matrix and its first row.
    pub matrix: Span,
    /// Biases, and where in them the first row's is.
    pub biases: Vec<Span>,
    /// How many rows; of each expert, where there are some.
    pub len: u64,
}

/// A place in a tensor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// Name of the tensor.
    pub tensor: String,
    /// The first row or element.
    pub first: u64,
}

impl Structure {
    /// All matrices that write into the residual stream, in order of evaluation.
    pub fn writers(&self) -> impl Iterator<Item = &Writer> {
        self.points.iter().flat_map(|point| &point.writers)
    }

    /// How the matrix `tensor` writes into the residual stream, if it does.
    pub fn writer(&self, tensor: &str) -> Option<&Writer> {
        self.writers().find(|writer| writer.tensor == tensor)
    }

    /// Where in [`Structure::points`] the residual stream enters block `block`; the number of
    /// blocks: where it leaves the last one.
    pub fn input_of(&self, block: u32) -> usize {
        self.points.iter().rposition(|point| point.block.is_none_or(|b| b < block)).unwrap_or(0)
    }

    /// Where the residual stream enters each of `n_block` blocks, as [`Structure::input_of`].
    pub fn inputs(&self, n_block: u32) -> Vec<usize> {
        (0..n_block).map(|block| self.input_of(block)).collect()
    }

    /// The places in [`Structure::writers`] of those of the point at `place`.
    pub fn outputs_of(&self, place: usize) -> Range<usize> {
        let first = self.points[..place].iter().map(|point| point.writers.len()).sum();
        first..first + self.points[place].writers.len()
    }

    /// The node that hides writers of a block, if there is one.
    pub fn obstacle(&self, block: u32) -> Option<&Obstacle> {
        let of_block = |point: &&Point| point.block.is_none_or(|b| b == block);
        self.points.iter().filter(of_block).find_map(|point| point.obstacle.as_ref())
    }

    /// Fails if there is no residual stream.
    ///
    /// # Errors
    /// [`Error::NoStream`].
    pub fn check_stream(&self) -> Result<()> {
        match self.points.is_empty() {
            false => Ok(()),
            true => Err(Error::NoStream { architecture: self.architecture.clone() }),
        }
    }

    /// Fails if a text cannot be read token by token.
    ///
    /// # Errors
    /// [`Error::NoMemory`].
    pub fn check_memory(&self) -> Result<()> {
        match self.remembers {
            true => Ok(()),
            false => Err(Error::NoMemory { architecture: self.architecture.clone() }),
        }
    }

    /// True if the graph reads the tensor.
    pub fn reads(&self, tensor: &str) -> bool {
        self.reads.contains(tensor)
    }
}
