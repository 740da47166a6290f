use std::time::Duration;

/// How a [`Control`](super::Control) measures. The defaults spend at most about 1 % of the rows on looking at the other modes once they have settled.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ControlConfig {
    /// A measurement lasts at least so long,
    pub window: Duration,
    /// and until so many rows came.
    pub rows: u64,
    /// After a change so long is left out.
    pub settle: Duration,
    /// Once a comparison is known to this share, a standard deviation, and the other mode is not ahead, more windows are no use.
    pub resolution: f64,
    /// Standard errors by which a comparison must be clear before it is ended early.
    pub clear: f64,
    /// Windows of a trial that is not clear before, at most: then it must be better by a standard error.
    pub longest_trial: u32,
    /// A trial that is at less than this share of the kept mode may end after a quarter of a window.
    pub hopeless: f64,
    /// Windows between two looks at another mode: at first, and at most. Twice as many each time that nothing came of it, four times where it is
    /// clear that nothing will.
    pub first_hold: u32,
    pub longest_hold: u32,
    /// Share of the rows that looks may cost: a look that cost more than its part is followed by a longer hold.
    pub budget: f64,
}

impl ControlConfig {
    /// Changes of mode all the time: for checks that none changes what is computed.
    #[must_use]
    pub const fn restless(window: Duration) -> Self {
        Self {
            window,
            rows: 1,
            settle: Duration::from_millis(1),
            resolution: 0.0,
            clear: 0.0,
            longest_trial: 1,
            hopeless: 0.0,
            first_hold: 1,
            longest_hold: 1,
            budget: 1.0,
        }
    }
}

impl Default for ControlConfig {
    fn default() -> Self {
        Self {
            window: Duration::from_millis(250),
            rows: 512,
            settle: Duration::from_millis(150),
            resolution: 0.01,
            clear: 2.0,
            longest_trial: 6,
            hopeless: 0.8,
            first_hold: 4,
            longest_hold: 128,
            budget: 0.01,
        }
    }
}
