use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Failures to connect, in a row, after which an upstream that did answer counts as down.
const FAILURES: u32 = 3;
const PROBE_EVERY: Duration = Duration::from_secs(5);

/// Whether the upstream can be reached and whether it wants to be left alone.
#[derive(Debug, Default)]
pub struct Health {
    state: Mutex<State>,
}

/// What is known of an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Nobody has reached for it yet, or the first attempt is under way.
    Unknown,
    Up,
    /// And why.
    Down(String),
}

#[derive(Debug, Default)]
struct State {
    /// It answered at least once.
    known: bool,
    failures: u32,
    reason: String,
    last_probe: Option<Instant>,
    /// Set by a 429 or 503 with `Retry-After`.
    hold_off_until: Option<Instant>,
}

impl Health {
    /// The upstream answered, whatever it said.
    pub fn reached(&self) {
        let mut state = self.state.lock();
        state.known = true;
        state.failures = 0;
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

    /// One failure is no outage of an upstream that is known to work, but all there is to know of one that never did.
    pub fn standing(&self) -> Standing {
        let state = self.state.lock();
        let borne = if state.known { FAILURES } else { 1 };
        if state.failures >= borne {
            Standing::Down(format!("cannot be reached: {}", state.reason))
        } else if state.known {
            Standing::Up
        } else {
            Standing::Unknown
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failure_is_an_outage_only_of_what_never_answered() {
        let health = Health::default();
        assert_eq!(health.standing(), Standing::Unknown);
        health.unreachable("refused");
        assert_eq!(health.standing(), Standing::Down("cannot be reached: refused".to_owned()));
        health.reached();
        for _ in 1..FAILURES {
            health.unreachable("reset");
            assert_eq!(health.standing(), Standing::Up);
        }
        health.unreachable("reset");
        assert_eq!(health.standing(), Standing::Down("cannot be reached: reset".to_owned()));
        health.reached();
        assert_eq!(health.standing(), Standing::Up);
    }
}
