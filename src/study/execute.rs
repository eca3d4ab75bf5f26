//! Executes a plan: finished steps are kept; a failed step stops only the steps that need it.

use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;

use super::child::{Children, Ended, Streams};
use super::error::{Result, disk};
use super::folder::{Folder, Keep, MadeFile, Record};
use super::keys::Keys;
use super::options::Verbs;
use super::plan::Plan;
use super::step::{Arg, Step};
use super::sums::Sums;
use crate::verbs::repair::EditReport;
use crate::verbs::{Host, StopReport};

/// The state of a step.
#[derive(Debug, Clone, PartialEq)]
pub enum Settled {
    /// It is done, in this run or an earlier one.
    Done(Record),
    /// It has not run yet.
    Open,
    /// It ran, and failed: its last error.
    Failed(String),
    /// Something that it needs failed or was not found; the text is the reason.
    Skipped(String),
}

/// The execution of a plan.
pub struct Execution<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// The keys of its steps.
    pub keys: &'a Keys,
    /// The run's folder.
    pub folder: &'a Folder,
    /// How steps are started.
    pub children: &'a Children,
    /// The options of the verbs.
    pub verbs: &'a dyn Verbs,
    /// Options of the engine, for the verbs that have one.
    pub engine: Vec<String>,
    /// Models that stay after the run.
    pub keep: Keep,
    /// Receives progress, one line per step.
    pub host: &'a dyn Host,
}

impl Plan {
    /// The state of each step before anything runs: done, open or impossible.
    pub fn settled(&self, keys: &Keys, folder: &Folder) -> Vec<Settled> {
        let mut settled: Vec<Settled> = Vec::new();
        for step in &self.steps {
            let one = match self.obstacle(step, &settled) {
                Some(why) => Settled::Skipped(why),
                None => {
                    let key = keys.of(step, &|i| !is_lost(&settled[i]));
                    let record = key.and_then(|key| folder.record(&key));
                    record.map_or(Settled::Open, Settled::Done)
                }
            };
            settled.push(one);
        }
        settled
    }

    /// Why `step` cannot run, given the state of the steps before.
    fn obstacle(&self, step: &Step, settled: &[Settled]) -> Option<String> {
        let gathers = !step.gathered.is_empty();
        if gathers && step.gathered.iter().all(|(i, _)| is_lost(&settled[*i])) {
            return Some("none of what it gathers is there".into());
        }
        for i in step.needs() {
            let name = &self.steps[i].name;
            match &settled[i] {
                Settled::Failed(_) => return Some(format!("'{name}' failed")),
                Settled::Skipped(why) => return Some(why.clone()),
                Settled::Done(record) => {
                    let why = || record.why.clone().unwrap_or(format!("'{name}' found nothing"));
                    if step.needs_found == Some(i) && !record.found {
                        return Some(why());
                    }
                    if missing_input(step, i, record) {
                        return Some(why());
                    }
                }
                Settled::Open => {}
            }
        }
        None
    }

    /// Steps that must run: open ones, and those whose files are gone that another one needs or
    /// that are to stay.
    ///
    /// # Errors
    /// A file cannot be read; an interrupt.
    pub fn due(
        &self,
        settled: &[Settled],
        folder: &Folder,
        keep: Keep,
        sums: &mut Sums,
    ) -> Result<Vec<bool>> {
        let mut due = vec![false; self.steps.len()];
        for i in (0..self.steps.len()).rev() {
            due[i] = match &settled[i] {
                Settled::Open => true,
                Settled::Failed(_) | Settled::Skipped(_) => false,
                Settled::Done(record) => {
                    let reads = |j: usize| due[j] && self.steps[j].reads().contains(&i);
                    let needed = (i + 1..self.steps.len()).any(reads);
                    let mut gone = false;
                    for made in &record.outputs {
                        let lasting =
                            self.keeps(keep, &made.path) && !made.path.starts_with("stats/");
                        if needed || lasting {
                            gone |= !folder.is_there(made, sums)?;
                        }
                    }
                    gone
                }
            };
        }
        Ok(due)
    }
}

fn is_lost(settled: &Settled) -> bool {
    matches!(settled, Settled::Failed(_) | Settled::Skipped(_))
}

/// True if `step` reads a file that step `i` did not make.
fn missing_input(step: &Step, i: usize, record: &Record) -> bool {
    let missing = |arg: &Arg| match arg {
        Arg::Made { step, path } => *step == i && record.output(path).is_none(),
        _ => false,
    };
    step.args.iter().any(missing)
}

/// Runs every step that is due.
///
/// # Errors
/// The run's folder cannot be written; an interrupt. A step that fails is not an error.
pub fn execute(run: &Execution<'_>, sums: &mut Sums) -> Result<Vec<Settled>> {
    let before = run.plan.settled(run.keys, run.folder);
    let due = run.plan.due(&before, run.folder, run.keep, sums)?;
    let mut settled: Vec<Settled> = Vec::new();
    for (i, step) in run.plan.steps.iter().enumerate() {
        let one = match run.plan.obstacle(step, &settled) {
            Some(why) => Settled::Skipped(why),
            None => {
                let done = |j: usize| !is_lost(&settled[j]);
                let key = run.keys.of(step, &done).unwrap_or_default();
                match run.folder.record(&key).filter(|_| !due[i]) {
                    Some(record) => Settled::Done(record),
                    None => {
                        run.note_begin(i, step);
                        let start = Instant::now();
                        let command = step.command(&done);
                        let one = run.one(step, &command, &key, sums)?;
                        run.note_end(step, &one, start.elapsed());
                        one
                    }
                }
            }
        };
        settled.push(one);
    }
    Ok(settled)
}

impl Execution<'_> {
    fn note_begin(&self, number: usize, step: &Step) {
        let n = self.plan.steps.len();
        let width = n.to_string().len();
        self.host.say(format_args!("[{:>width$}/{n}] {}", number + 1, step.name));
        self.host.detail(format_args!("    aird {}", step.shown(&|_| true)));
    }

    /// Passes on a line of a step.
    fn note_line(&self, line: &str) {
        match line.strip_prefix("warning: ") {
            Some(warning) => self.host.warn(warning),
            None => self.host.detail(format_args!("    {line}")),
        }
    }

    fn note_end(&self, step: &Step, settled: &Settled, took: Duration) {
        match settled {
            Settled::Failed(why) => self.host.warn(format_args!("'{}' failed: {why}", step.name)),
            Settled::Done(record) if !record.found => {
                self.host.say(format_args!("    {}", record.why.as_deref().unwrap_or("not found")));
            }
            _ => {}
        }
        self.host.detail(format_args!("    {:.1} s", took.as_secs_f64()));
    }

    fn one(&self, step: &Step, command: &[Arg], key: &str, sums: &mut Sums) -> Result<Settled> {
        self.prepare(step)?;
        let log = self.folder.step_file(key, "log");
        let mut ended = self.start(command, key)?;
        let mut why = None;
        if let (Ended::Failed(_), Some(fallback)) = (&ended, &step.fallback)
            && let Some(StopReport { stopped }) = self.printed(key)
        {
            why = Some(stopped.message);
            ended = self.start(fallback, key)?;
        }
        match ended {
            Ended::Done => {}
            Ended::Gate if step.may_find_nothing => {
                let report: Option<EditReport> = self.printed(key);
                why = Some(report.unwrap_or_default().nothing_helps_text());
            }
            Ended::Gate => return Ok(self.failed(step, &log, "it ended with exit code 3")),
            Ended::Failed(how) => return Ok(self.failed(step, &log, &how)),
        }
        let why = why.map(|why| self.without_places(step, &why));
        let mut outputs = Vec::new();
        for path in &step.outputs {
            match sums.file(&self.folder.path.join(path))? {
                Some(sum) => {
                    let (path, bytes, sha256) = (path.clone(), sum.bytes, sum.sha256);
                    outputs.push(MadeFile { path, bytes, sha256 });
                }
                None if why.is_some() => {}
                None => return Ok(Settled::Failed(format!("it made no {path}"))),
            }
        }
        let record = Record { name: step.name.clone(), found: why.is_none(), why, outputs };
        let printed = self.folder.step_file(key, "json");
        std::fs::rename(printed.with_extension("part"), &printed)
            .map_err(disk(&printed, "write"))?;
        self.folder.keep(key, &record)?;
        sums.remember()?;
        Ok(Settled::Done(record))
    }

    /// Removes what an earlier run of this or another recipe left at the paths of its outputs.
    fn prepare(&self, step: &Step) -> Result<()> {
        for path in &step.outputs {
            self.folder.remove(path)?;
            // Unfinished statistics, which the verb leaves.
            self.folder.remove(&format!("{path}.partial"))?;
            self.folder.make_room(path)?;
        }
        let claims = step.kept.iter().map(|kept| {
            let content = self.keys.content(kept).unwrap_or_default();
            (kept.path.clone(), content)
        });
        self.folder.claim(&claims.collect::<Vec<_>>())
    }

    fn start(&self, command: &[Arg], key: &str) -> Result<Ended> {
        let mut words: Vec<String> =
            command.iter().map(|arg| arg.word(&self.folder.path)).collect();
        let verb = words.first().cloned().unwrap_or_default();
        if self.verbs.options(&verb).iter().any(|option| option.name == "threads") {
            words.extend(self.engine.iter().cloned());
        }
        words.push("--json".into());
        let (printed, log) =
            (self.folder.step_file(key, "part"), self.folder.step_file(key, "log"));
        let streams = Streams { stdin: self.folder.lock()?, stdout: &printed, stderr: &log };
        self.children.run(&words, streams, &mut |line| self.note_line(line))
    }

    /// The report of a step that has just ended, if it is of this type.
    fn printed<T: DeserializeOwned>(&self, key: &str) -> Option<T> {
        let printed = std::fs::read(self.folder.step_file(key, "part")).ok()?;
        serde_json::from_slice(&printed).ok()
    }

    fn failed(&self, step: &Step, log: &std::path::Path, how: &str) -> Settled {
        let said = last_words(&read(log)).unwrap_or_else(|| how.to_owned());
        Settled::Failed(self.without_places(step, &said))
    }

    /// A message with files named as on any machine with the same recipe.
    fn without_places(&self, step: &Step, said: &str) -> String {
        let run = format!("{}{}", self.folder.path.display(), std::path::MAIN_SEPARATOR);
        let mut said = said.replace(&run, "");
        for path in step.files() {
            let name = Arg::File(path.into()).shown();
            said = said.replace(&path.display().to_string(), &name);
        }
        said
    }
}

fn read(path: &std::path::Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

/// The last error that a verb reported, without its hint.
fn last_words(log: &str) -> Option<String> {
    let (_, last) = log.rsplit_once("error: ")?;
    let last = last.split("\nhint:").next().unwrap_or(last);
    Some(last.split_whitespace().collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_error_is_what_a_step_is_remembered_for() {
        let log = "warning: error: not this\nreading\nerror: m.gguf: no model:\n  too short\n\
                   hint: another";
        assert_eq!(last_words(log).as_deref(), Some("m.gguf: no model: too short"));
        assert_eq!(last_words("all is well"), None);
    }
}
