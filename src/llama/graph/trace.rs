//! From a recorded graph to the structure.

use super::inputs::{groups, loops};
use super::record::{Graph, Id, Node, is_sum};
use super::structure::{Point, PointKind, Structure};
use super::writers::{block_of_weights, writers};
use crate::gguf::{Model, block_of};
use crate::llama::error::Result;

impl Structure {
    /// The structure of `model`, from llama.cpp's graph for it. Weights are not read: it takes
    /// milliseconds for any size. llama.cpp aborts on some broken files: try those in their own
    /// process.
    ///
    /// # Errors
    /// llama.cpp does not know the model.
    pub fn trace(model: &Model) -> Result<Structure> {
        let graph = Graph::record(model)?;
        let mut points = graph.last_point().map_or_else(Vec::new, |last| graph.chain(last));
        if !points.iter().any(|point| !point.writers.is_empty()) {
            points.clear();
        }
        Ok(Structure {
            architecture: model.architecture().to_owned(),
            root: graph.root.clone(),
            points: in_blocks(points),
            groups: groups(&graph),
            reads: graph.weights().collect(),
            remembers: graph.remembers,
            loops: loops(&graph),
        })
    }
}

impl Graph {
    fn weights(&self) -> impl Iterator<Item = String> {
        let weights = self.nodes.iter().filter(|node| node.is_weight);
        weights.map(|node| node.name.clone())
    }

    /// The last point that the logits are computed from; None if blocks stand between.
    fn last_point(&self) -> Option<u32> {
        let head = |node: &&Node| {
            let named = |w: &Node| matches!(&w.name[..], "output.weight" | "token_embd.weight");
            self.matrix_of(node).is_some_and(named)
        };
        let logits = self.nodes.iter().rfind(head)?;
        let from: Vec<Id> = logits.src.iter().flatten().copied().collect();
        let of_block = |node: &Node| {
            self.matrix_of(node).is_some_and(|weight| block_of(&weight.name).is_some())
        };
        match self.back(&from).any(|node| node.carries.is_none() && of_block(node)) {
            true => None,
            false => self.back(&from).filter_map(|node| node.carries).max(),
        }
    }

    /// The points from the embeddings to point `last`, each with what is added there.
    fn chain(&self, last: u32) -> Vec<Point> {
        let mut points = Vec::new();
        let mut next = Some(last);
        while let Some(number) = next {
            let node = self.point(number);
            let carried = |id: &Id| self.nodes[*id].carries;
            let operands = || node.src.iter().flatten();
            let adds = is_sum(node);
            // A sum of two values of the stream goes on from the one that is a sum itself.
            let rank = |point: &u32| (is_sum(self.point(*point)), *point);
            let before = operands().filter_map(carried).max_by_key(rank);
            let kind = match (adds, operands().filter_map(carried).count()) {
                _ if number == 0 => PointKind::Embeddings,
                (false, _) => PointKind::Rescaled,
                (true, 1) => PointKind::Sum,
                (true, _) => PointKind::Skip,
            };
            let added = operands().filter(|id| adds && carried(id).is_none());
            let added: Vec<Id> = added.copied().collect();
            let (writers, obstacle) = match writers(self, &added) {
                Ok(writers) => (writers, None),
                Err(obstacle) => (Vec::new(), Some(obstacle)),
            };
            let block = obstacle.as_ref().and_then(|_| block_of_weights(self, &added));
            points.push(Point { number, kind, block, writers, obstacle });
            next = before.filter(|before| *before < number);
        }
        points.reverse();
        points
    }
}

/// Gives each point its block: that of its writers, else that of the point before it.
fn in_blocks(mut points: Vec<Point>) -> Vec<Point> {
    let mut block = None;
    for point in &mut points {
        let own = point.writers.first().map(|writer| writer.block).or(point.block);
        block = own.or(block);
        point.block = block;
    }
    points
}
