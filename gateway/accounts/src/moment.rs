use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A point in time, on two clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Seconds that never go back while the process runs: what windows are counted on.
    pub second: u64,
    /// Milliseconds since 1970 as the machine believes now: what days and months are of.
    pub wall_ms: i64,
}

/// Reads both clocks. The first begins at the time of day and goes on evenly, whatever is done to the machine's.
#[derive(Debug)]
pub struct Clock {
    base: u64,
    started: Instant,
}

impl Clock {
    #[must_use]
    pub fn start() -> Self {
        Self { base: u64::try_from(wall_ms() / 1000).unwrap_or_default(), started: Instant::now() }
    }

    #[must_use]
    pub fn now(&self) -> Moment {
        Moment { second: self.base + self.started.elapsed().as_secs(), wall_ms: wall_ms() }
    }
}

fn wall_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    i64::try_from(since).unwrap_or(i64::MAX)
}
