//! How long workers are waited for. ggml waits without an end, so a thread of ours looks on.
//!
//! It counts its own ticks and no clock: time in which this process was stopped, or the machine
//! slept, does not count.

use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::time::Duration;

use super::abort;

const TICK: Duration = Duration::from_millis(100);

static WATCHER: Once = Once::new();
static STATE: Mutex<State> = Mutex::new(State { waits: 0, ticks: 0, limit: 0 });

struct State {
    /// Calls into llama.cpp under way that wait for workers.
    waits: u32,
    /// Ticks since one of them began, ended, or got on.
    ticks: u128,
    /// Ticks after which the workers are given up.
    limit: u128,
}

/// While it lives, workers are waited for.
#[derive(Debug)]
pub(super) struct Wait(());

impl Wait {
    /// Begins to wait: unless something gets on within `limit`, the process ends with a sentence
    /// that names the worker.
    pub(super) fn begin(limit: Duration) -> Wait {
        // Without a thread the wait is as long as ggml's.
        WATCHER.call_once(|| drop(std::thread::Builder::new().spawn(look_on)));
        let mut state = state();
        state.waits += 1;
        (state.ticks, state.limit) = (0, limit.as_millis() / TICK.as_millis());
        Wait(())
    }

    /// Something got on: the time begins anew.
    pub(super) fn got_on(&self) {
        state().ticks = 0;
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        let mut state = state();
        state.waits -= 1;
        state.ticks = 0;
    }
}

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn look_on() {
    loop {
        std::thread::sleep(TICK);
        let mut state = state();
        state.ticks += u128::from(state.waits > 0);
        if state.waits > 0 && state.ticks > state.limit {
            drop(state);
            abort::end_without_worker();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_count_while_somebody_waits_and_begin_anew_where_something_gets_on() {
        let wait = Wait::begin(Duration::from_secs(600));
        std::thread::sleep(6 * TICK);
        // Locked in a function of its own: twice in one expression would wait for itself.
        let now = || {
            let state = state();
            (state.waits, state.ticks)
        };
        assert!(now().1 > 0);
        wait.got_on();
        assert!(now().1 < 3);
        drop(wait);
        std::thread::sleep(3 * TICK);
        assert_eq!(now(), (0, 0));
    }
}
