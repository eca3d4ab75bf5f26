//! Places in a model's graph where activations can be read and changed.
//!
//! ```text
//! Point(0) -> attention -> Output(0) -> + -> Point(1)
//!          -> MLP       -> Output(1) -> + -> Point(2) -> ...
//! ```
//! Which points and outputs a model has, and in which blocks, is in its [`Structure`]. In a decode
//! they are found by following the residual stream through the graph, never by nodes' names.

use std::collections::HashMap;

use llama_cpp_sys_2 as sys;

use super::error::{Error, Result};
use super::graph::{Stream, Structure};

/// A place in the graph; rows are tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Site {
    /// The residual stream at a point: its place in [`Structure::points`].
    Point(usize),
    /// The output of a matrix that writes into the residual stream: its place in
    /// [`Structure::writers`]. Biases are not yet added. Of a mixture each expert's, before they
    /// are weighted and summed: those can be changed, but not read, as a row is not a token's.
    Output(usize),
}

/// Follows one model's sites through its graphs.
#[derive(Debug, Clone)]
pub(super) struct Sites {
    stream: Stream,
    /// Places of points by their number in the graph.
    points: HashMap<u32, usize>,
    /// Places of writers by the tensor's name.
    outputs: HashMap<String, usize>,
}

impl Sites {
    /// The sites of a model.
    pub(super) fn new(structure: &Structure) -> Sites {
        let points = structure.points.iter().enumerate().map(|(i, point)| (point.number, i));
        let outputs = structure.writers().enumerate().map(|(i, w)| (w.tensor.clone(), i));
        let stream = Stream::new(structure.root.clone());
        Sites { stream, points: points.collect(), outputs: outputs.collect() }
    }

    /// Starts a new decode.
    pub(super) fn begin(&mut self) {
        self.stream.begin();
    }

    /// The site of a node, with the name of the weight that it multiplies with. Nodes come in the
    /// graph's order, each once.
    ///
    /// # Errors
    /// [`Error::AdaptedEmbeddings`].
    pub(super) fn site(
        &mut self,
        node: &sys::ggml_tensor,
        weight: Option<&str>,
    ) -> Result<Option<Site>> {
        let point = self.stream.visit(node);
        if self.stream.is_adapted() {
            return Err(Error::AdaptedEmbeddings);
        }
        if let Some(output) = weight.and_then(|weight| self.outputs.get(weight)) {
            return Ok(Some(Site::Output(*output)));
        }
        let place = point.and_then(|point| self.points.get(&point));
        Ok(place.map(|place| Site::Point(*place)))
    }
}
