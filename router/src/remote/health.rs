use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Failures to connect, in a row, after which the upstream counts as down.
const FAILURES: u32 = 3;
const PROBE_EVERY: Duration = Duration::from_secs(5);

/// Whether the upstream can be reached and whether it wants to be left alone.
#[derive(Debug, Default)]
pub struct Health {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    failures: u32,
    reason: String,
    last_probe: Option<Instant>,
    /// Set by a 429 or 503 with `Retry-After`.
    hold_off_until: Option<Instant>,
}

impl Health {
    /// The upstream answered, whatever it said.
    pub fn reached(&self) {
        self.state.lock().failures = 0;
    }

    pub fn unreachable(&self, reason: &str) {
        let mut state = self.state.lock();
        state.failures = state.failures.saturating_add(1);
        reason.clone_into(&mut state.reason);
    }

    pub fn hold_off(&self, time: Duration) {
        self.state.lock().hold_off_until = Instant::now().checked_add(time);
    }

    /// How long the upstream still wants to be left alone.
    pub fn held_off(&self) -> Duration {
        let until = self.state.lock().hold_off_until;
        until.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()))
    }

    /// Why the upstream counts as down; `None` while it does not.
    pub fn failure(&self) -> Option<String> {
        let state = self.state.lock();
        (state.failures >= FAILURES).then(|| format!("cannot be reached: {}", state.reason))
    }

    /// True once every few seconds.
    pub fn probe_is_due(&self) -> bool {
        let mut state = self.state.lock();
        let due = state.last_probe.is_none_or(|last| last.elapsed() >= PROBE_EVERY);
        if due {
            state.last_probe = Some(Instant::now());
        }
        due
    }
}
