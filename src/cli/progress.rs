//! How far long work is: a bar on a terminal, elsewhere a line now and then, so that a log shows
//! that the work goes on.

use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::text::{bytes_text, shown};

const IN_BYTES: &str = "{msg:<18} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta}";
const IN_PARTS: &str = "{msg:<18} [{bar:30}] {pos}/{len} {eta}";
/// Age of a stage that is worth a line in a log.
const WORTH_A_LINE: Duration = Duration::from_secs(2);
/// Between two lines of different stages: some have many that are short.
const BETWEEN_STAGES: Duration = Duration::from_secs(10);
/// Between two lines of one stage.
const BETWEEN_LINES: Duration = Duration::from_secs(30);
/// Between two looks at the clock.
const TICK: Duration = Duration::from_secs(1);

/// The progress of a command.
pub(super) struct Progress {
    kind: Kind,
}

enum Kind {
    Hidden,
    Bar(Mutex<ProgressBar>),
    Lines(Arc<Mutex<Lines>>),
}

/// What a log shows.
#[derive(Default)]
struct Lines {
    stage: Option<Stage>,
    /// The last line, or before it the beginning of the first stage.
    silent_since: Option<Instant>,
    has_line: bool,
    is_ticking: bool,
}

/// The stage that is under way.
struct Stage {
    what: String,
    done: u64,
    of: u64,
    in_bytes: bool,
    began: Instant,
    /// A line was printed about it.
    is_known: bool,
}

impl Progress {
    /// Shown on stderr, unless `quiet`.
    pub(super) fn new(quiet: bool) -> Progress {
        let kind = match std::io::stderr().is_terminal() {
            _ if quiet => Kind::Hidden,
            true => Kind::Bar(Mutex::new(ProgressBar::no_length())),
            false => Kind::Lines(Arc::default()),
        };
        Progress { kind }
    }

    /// A stage begins that is counted in bytes.
    pub(super) fn stage(&self, what: &str, bytes: u64) {
        match &self.kind {
            Kind::Hidden => {}
            Kind::Bar(bar) => restart(&locked(bar), IN_BYTES, what, bytes),
            Kind::Lines(lines) => begin(lines, what, (0, bytes), true),
        }
    }

    /// `bytes` more of it are done.
    pub(super) fn advance(&self, bytes: u64) {
        match &self.kind {
            Kind::Hidden => {}
            Kind::Bar(bar) => {
                let bar = locked(bar);
                bar.inc(bytes);
                clear_if_done(&bar);
            }
            Kind::Lines(lines) => {
                if let Some(stage) = &mut locked(lines).stage {
                    stage.done += bytes;
                }
            }
        }
    }

    /// `done` of `of` parts are done.
    pub(super) fn part(&self, what: &str, done: usize, of: usize) {
        let (done, of) = (done as u64, of as u64);
        match &self.kind {
            Kind::Hidden => {}
            Kind::Bar(bar) => {
                let bar = locked(bar);
                // Names change from part to part; the time left is that of all parts.
                if bar.is_finished() || bar.length() != Some(of) {
                    restart(&bar, IN_PARTS, what, of);
                }
                bar.set_message(shown(what));
                bar.set_position(done);
                clear_if_done(&bar);
            }
            Kind::Lines(lines) => {
                let mut state = locked(lines);
                match &mut state.stage {
                    Some(stage) if stage.what == what && !stage.in_bytes => {
                        (stage.done, stage.of) = (done, of);
                    }
                    _ => {
                        drop(state);
                        begin(lines, what, (done, of), false);
                    }
                }
            }
        }
    }

    /// Prints something else by `print`, out of the bar's way.
    pub(super) fn aside(&self, print: impl FnOnce()) {
        match &self.kind {
            Kind::Bar(bar) => locked(bar).suspend(print),
            _ => print(),
        }
    }

    /// The stage under way, if any, is over.
    pub(super) fn clear(&self) {
        match &self.kind {
            Kind::Hidden => {}
            Kind::Bar(bar) => locked(bar).finish_and_clear(),
            Kind::Lines(lines) => locked(lines).stage = None,
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn restart(bar: &ProgressBar, template: &str, what: &str, of: u64) {
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.reset();
    bar.set_length(of);
    bar.set_message(shown(what));
}

/// A stage that is over does not stay on the screen while something else begins.
fn clear_if_done(bar: &ProgressBar) {
    if bar.length().is_some_and(|length| length > 0 && bar.position() >= length) {
        bar.finish_and_clear();
    }
}

/// Begins a stage of a log, and the clock if it does not run yet.
fn begin(lines: &Arc<Mutex<Lines>>, what: &str, (done, of): (u64, u64), in_bytes: bool) {
    let mut state = locked(lines);
    let (what, began) = (what.to_owned(), Instant::now());
    state.stage = Some(Stage { what, done, of, in_bytes, began, is_known: false });
    state.silent_since.get_or_insert(began);
    if !state.is_ticking {
        let weak = Arc::downgrade(lines);
        let clock = std::thread::Builder::new().name("progress".into());
        // Without a thread there are no such lines, and the work goes on.
        state.is_ticking = clock.spawn(move || tick(&weak)).is_ok();
    }
}

/// Prints a line where one is due, until the command ends.
fn tick(lines: &Weak<Mutex<Lines>>) {
    loop {
        std::thread::sleep(TICK);
        let Some(lines) = lines.upgrade() else { return };
        // Not under the lock: the work must not wait for whoever reads the log.
        let line = locked(&lines).due(Instant::now());
        if let Some(line) = line {
            let _ = writeln!(anstream::stderr(), "{}", shown(&line));
        }
    }
}

impl Lines {
    /// The line that is due, if one is.
    fn due(&mut self, now: Instant) -> Option<String> {
        let stage = self.stage.as_mut()?;
        let silent = now.duration_since(self.silent_since.unwrap_or(stage.began));
        let lasts = !stage.is_known && now.duration_since(stage.began) >= WORTH_A_LINE;
        let is_news = lasts && (!self.has_line || silent >= BETWEEN_STAGES);
        // Also where no stage lasts: many short ones are long work.
        if !is_news && silent < BETWEEN_LINES {
            return None;
        }
        stage.is_known = true;
        self.has_line = true;
        self.silent_since = Some(now);
        Some(stage.line())
    }
}

impl Stage {
    /// `writing: 12.0 MB of 270.9 MB`
    fn line(&self) -> String {
        match self {
            Stage { what, of: 0, .. } => what.clone(),
            Stage { what, done, of, in_bytes: true, .. } => {
                format!("{what}: {} of {}", bytes_text(*done.min(of)), bytes_text(*of))
            }
            Stage { what, done, of, .. } => format!("{what}: {done} of {of}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(what: &str, in_bytes: bool, began: Instant) -> Lines {
        let (what, done, of) = (what.to_owned(), 3_000_000, 12_000_000);
        let stage = Stage { what, done, of, in_bytes, began, is_known: false };
        let silent_since = Some(began);
        Lines { stage: Some(stage), silent_since, has_line: false, is_ticking: true }
    }

    #[test]
    fn a_log_gets_a_line_for_a_stage_that_lasts_and_every_half_minute() {
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let mut lines = lines("writing", true, began);
        assert_eq!(lines.due(at(1)), None);
        assert_eq!(lines.due(at(2)).as_deref(), Some("writing: 3.0 MB of 12.0 MB"));
        assert_eq!(lines.due(at(31)), None);
        assert!(lines.due(at(32)).is_some());
    }

    #[test]
    fn many_short_stages_share_few_lines() {
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let mut state = lines("one", false, began);
        assert!(state.due(at(2)).is_some());
        state.stage = lines("two", false, at(3)).stage;
        assert_eq!(state.due(at(9)), None);
        assert_eq!(state.due(at(12)).as_deref(), Some("two: 3000000 of 12000000"));
    }

    #[test]
    fn work_whose_stages_are_all_short_is_seen_every_half_minute() {
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let mut state = lines("0", false, began);
        let mut seen = Vec::new();
        for second in 1..=65 {
            state.stage = lines(&second.to_string(), false, at(second)).stage;
            seen.extend(state.due(at(second)).map(|_| second));
        }
        assert_eq!(seen, [30, 60]);
    }
}
