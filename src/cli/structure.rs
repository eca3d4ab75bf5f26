//! A model's structure in print.

use super::text::{by_kind, table};
use crate::gguf::shape_text;
use crate::verbs::inspect::{StructureReport, Writers, short};

/// The writers as a table, one line each.
pub(super) fn writers_text(writers: &[Writers]) -> String {
    let mut rows = Vec::new();
    for run in writers {
        let mut blocks = blocks_text(run.first_block, run.last_block);
        for t in &run.tensors {
            let shape = format!("[{}]", shape_text(&t.shape));
            let (part, ty) = (t.part.clone(), t.ty.clone());
            let through = through_text(&t.through);
            rows.push(vec![std::mem::take(&mut blocks), part, t.name.clone(), ty, shape, through]);
        }
    }
    match rows.is_empty() {
        true => String::new(),
        false => format!("  residual writers\n{}", table(&rows, &[], "    ")),
    }
}

impl StructureReport {
    /// As a table.
    pub fn text(&self) -> String {
        let mut rows = Vec::new();
        for run in &self.blocks {
            let mut blocks = blocks_text(run.first_block, run.last_block);
            for read in &run.reads {
                let shared =
                    if read.foldable || read.of.is_empty() { "" } else { ", also read elsewhere" };
                let from = match read.input.as_str() {
                    "stream" => "the residual stream".into(),
                    "norm" if read.of.is_empty() => "a norm".into(),
                    "norm" => format!("{}{shared}", read.of.join(" + ")),
                    "gated" => format!("{}, gated", read.of.join(" + ")),
                    "heads" => format!("{}, by heads", read.of.join(" + ")),
                    _ => "something else".into(),
                };
                let blocks = std::mem::take(&mut blocks);
                rows.push(vec![blocks, "reads".into(), read.matrices.join(", "), from]);
            }
            for add in &run.adds {
                for writer in &add.writers {
                    let (blocks, what) =
                        (std::mem::take(&mut blocks), format!("adds {}", writer.part));
                    let through = through_text(&writer.through);
                    rows.push(vec![blocks, what, short(&writer.name), through]);
                }
                if let Some(node) = &add.obstacle {
                    let why = format!("hidden by {node}, which is not linear");
                    rows.push(vec![std::mem::take(&mut blocks), "adds".into(), "?".into(), why]);
                }
            }
        }
        let mut text = format!("  structure\n{}", table(&rows, &[], "    "));
        if !self.unread.is_empty() {
            let unread = self.unread.iter().map(String::as_str);
            text += &format!("  not read       {}\n", by_kind(unread));
        }
        text
    }
}

fn through_text(through: &[String]) -> String {
    match through.is_empty() {
        true => String::new(),
        false => format!("through {}", through.join(", ")),
    }
}

fn blocks_text(first: u32, last: u32) -> String {
    match first == last {
        true => format!("blk.{first}"),
        false => format!("blk.{first} to {last}"),
    }
}
