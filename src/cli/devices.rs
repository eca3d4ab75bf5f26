//! `aird devices`: its arguments, and its report in print.

use anyhow::Result;
use clap::Args;

use super::args::WorkerArgs;
use super::paths::Verb;
use super::text::{bytes_text, table};
use super::ui::Ui;
use crate::llama::is_built_for_less;
use crate::verbs::devices::{Report, Request, run};

/// List what models can run on: name, memory, backend
#[derive(Debug, Args)]
pub(super) struct Devices {
    #[command(flatten)]
    workers: WorkerArgs,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

impl Verb for Devices {
    fn run(self, ui: &Ui) -> Result<()> {
        let report = run(&Request { workers: self.workers.workers() }, ui)?;
        ui.report(self.json, &report, || text(&report))
    }
}

fn text(report: &Report) -> String {
    let head = ["device", "backend", "free", "memory", "what"].map(str::to_owned).to_vec();
    let rows = report.devices.iter().map(|device| {
        let memory = |bytes: u64| if bytes == 0 { "-".into() } else { bytes_text(bytes) };
        vec![
            device.name.clone(),
            device.backend.clone(),
            memory(device.free),
            memory(device.total),
            device.description.clone(),
        ]
    });
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(rows).collect();
    let mut text = table(&rows, &[2, 3], "");
    if !report.devices.iter().any(|device| device.takes_blocks) {
        text += "\nModels run on the CPU. To use another machine's devices: run aird worker there, \
                 and name it here with --rpc HOST:PORT.\n";
    }
    if is_built_for_less() {
        text += "\nThis aird was built for any CPU and uses no AVX2, which this one has: a build \
                 for this CPU is faster (docs/install.md).\n";
    }
    text
}
