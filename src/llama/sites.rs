//! Places in a model's graph where activations can be read and changed.
//!
//! ```text
//! Input(0) -> attention -> Output(0, Attention) -> + -> Middle(0)
//!          -> MLP       -> Output(0, Mlp)       -> + -> Input(1) -> ... -> Input(n_block)
//! ```
//! llama.cpp names the nodes (`cb(cur, "l_out", il)` in `src/models/*.cpp`), each architecture in
//! its own way; projections are known by their weight's name instead, which is the file's.

use std::collections::HashMap;

use super::architecture::{Part, residual_writer};

/// A place in the graph; rows are tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Site {
    /// The residual stream at the input of a block; the number of blocks: behind the last one.
    Input(u32),
    /// The residual stream of a block between attention and MLP.
    Middle(u32),
    /// What a block's half writes: the product with its output matrix, bias not yet added. Of a
    /// mixture each expert's, before they are weighted and summed: those can be changed, but not
    /// read, as no row is a token's.
    Output(u32, Part),
}

/// Names of the residual stream behind the embeddings, the later one wins: gemma scales it.
const EMBEDDINGS: [&str; 4] = ["inp_embd", "embd", "inp_scaled", "inp_norm"];
/// Names of the residual stream between attention and MLP, by architecture.
const MIDDLES: [&str; 4] = ["ffn_inp", "sa_out", "attn_residual", "attn_out_residual"];

/// Which node is which site, for one model.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct SiteMap {
    by_node: HashMap<String, Site>,
    n_block: u32,
}

impl SiteMap {
    /// Finds the sites among the nodes of one decode, in the order they were computed.
    pub fn new(nodes: &[String], n_block: u32) -> SiteMap {
        let mut map = SiteMap { by_node: HashMap::new(), n_block };
        let embedding = EMBEDDINGS.iter().rev().find(|name| nodes.iter().any(|n| n == *name));
        if let Some(name) = embedding {
            map.by_node.insert((*name).to_owned(), Site::Input(0));
        }
        for node in nodes {
            let Some((stem, block)) = node.rsplit_once('-') else { continue };
            let Ok(block) = block.parse::<u32>() else { continue };
            if stem == "l_out" {
                map.by_node.insert(node.clone(), Site::Input(block + 1));
            } else if MIDDLES.contains(&stem) {
                map.by_node.insert(node.clone(), Site::Middle(block));
            }
        }
        map
    }

    /// The first residual input that no node carries; None if all are known.
    pub fn missing_input(&self) -> Option<u32> {
        let known = |site: Site| self.by_node.values().any(|s| *s == site);
        (0..self.n_block).find(|&block| !known(Site::Input(block)))
    }

    /// The site of a node, by its own name or by that of its weight.
    pub fn site(&self, node: &str, weight: Option<&str>) -> Option<Site> {
        if let Some(site) = weight.and_then(output_site) {
            return Some(site);
        }
        self.by_node.get(node).copied()
    }
}

fn output_site(weight: &str) -> Option<Site> {
    let part = residual_writer(weight)?;
    let block = weight.strip_prefix("blk.")?.split('.').next()?.parse().ok()?;
    Some(Site::Output(block, part))
}

/// A node's own name: the scheduler wraps copies between devices as `CUDA0#name#0`.
pub(super) fn plain_name(name: &str) -> &str {
    match name.split('#').collect::<Vec<_>>()[..] {
        [_, name, _] => name,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_become_sites_by_name_and_by_weight() {
        let nodes = ["embd", "inp_scaled", "sa_out-0", "l_out-0", "sa_out-1", "l_out-1"];
        let map = SiteMap::new(&nodes.map(String::from), 2);
        assert_eq!(map.site("embd", None), None);
        assert_eq!(map.site("inp_scaled", None), Some(Site::Input(0)));
        assert_eq!(map.site("l_out-0", None), Some(Site::Input(1)));
        assert_eq!(map.site("sa_out-1", None), Some(Site::Middle(1)));
        let weight = Some("blk.1.ffn_down.weight");
        assert_eq!(map.site("ffn_out-1", weight), Some(Site::Output(1, Part::Mlp)));
        assert_eq!(map.missing_input(), None);
        assert_eq!(SiteMap::new(&["embd".into()], 2).missing_input(), Some(1));
    }

    #[test]
    fn device_prefixes_come_off() {
        assert_eq!(plain_name("CUDA0#l_out-3#0"), "l_out-3");
        assert_eq!(plain_name("l_out-3"), "l_out-3");
    }
}
