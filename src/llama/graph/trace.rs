//! From a recorded graph to the structure.

use std::collections::BTreeSet;

use super::inputs::{groups, loops};
use super::record::{Graph, Id, Node};
use super::structure::{Point, PointKind, Structure};
use super::writers::{block_behind, block_of, writers};
use crate::gguf::Model;
use crate::llama::error::Result;

impl Structure {
    /// The structure of `model`, by llama.cpp's graph for it. Weights are not read: it takes
    /// milliseconds whatever the size. llama.cpp aborts on some broken files: try those in a
    /// process of their own.
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

    /// The last point that the logits are made of; None if blocks stand between.
    fn last_point(&self) -> Option<u32> {
        let head = |node: &&Node| {
            let weight = node.src[0].and_then(|source| self.leaf(source));
            let named = |w: &Node| matches!(&w.name[..], "output.weight" | "token_embd.weight");
            node.is_product() && weight.is_some_and(named)
        };
        let logits = self.nodes.iter().rfind(head)?;
        let (mut seen, mut last) = (BTreeSet::new(), None);
        let mut open: Vec<Id> = logits.src.iter().flatten().copied().collect();
        while let Some(id) = open.pop() {
            let node = &self.nodes[id];
            // On the way from the last value of the stream to the logits there is no block.
            let of_block = |source: Id| {
                let leaf = self.leaf(source).filter(|leaf| leaf.is_weight);
                leaf.is_some_and(|leaf| block_of(&leaf.name).is_some())
            };
            match node.carries {
                Some(point) => last = last.max(Some(point)),
                None if node.is_product() && node.src[0].is_some_and(of_block) => return None,
                None if seen.insert(id) => open.extend(node.src.iter().flatten()),
                None => {}
            }
        }
        last
    }

    /// The points from the embeddings to point `last`, each with what is added there.
    fn chain(&self, last: u32) -> Vec<Point> {
        let mut points = Vec::new();
        let mut next = Some(last);
        while let Some(number) = next {
            let Some(node) = self.nodes.iter().find(|n| n.is_point && n.carries == Some(number))
            else {
                break;
            };
            let carried = |id: &Id| self.nodes[*id].carries;
            let operands = || node.src.iter().flatten();
            let is_sum = node.is_sum();
            // A sum of two values of the stream goes on from the one that is a sum itself.
            let rank = |point: &u32| (self.is_sum(*point), *point);
            let before = operands().filter_map(carried).max_by_key(rank);
            let kind = match (is_sum, operands().filter_map(carried).count()) {
                _ if number == 0 => PointKind::Embeddings,
                (false, _) => PointKind::Rescaled,
                (true, 1) => PointKind::Sum,
                (true, _) => PointKind::Skip,
            };
            let added = operands().filter(|id| is_sum && carried(id).is_none());
            let added: Vec<Id> = added.copied().collect();
            let (writers, obstacle) = match writers(self, &added) {
                Ok(writers) => (writers, None),
                Err(obstacle) => (Vec::new(), Some(obstacle)),
            };
            let block = obstacle.as_ref().and_then(|_| block_behind(self, &added));
            points.push(Point { number, kind, block, writers, obstacle });
            next = before.filter(|before| *before < number);
        }
        points.reverse();
        points
    }

    fn is_sum(&self, point: u32) -> bool {
        self.nodes.iter().any(|node| node.carries == Some(point) && node.is_sum())
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
