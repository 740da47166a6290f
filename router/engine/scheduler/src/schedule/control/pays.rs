//! What a mode's rows cost, and what windows are worth by that.

use super::window::Speed;

/// Windows of the kept mode that count: what comes after them must be compared with what was just before.
const REMEMBERED: usize = 16;

/// What windows were worth ([`Costs::worth`]), the last ones. A machine pauses now and then and is never faster than it is: so their median counts, which some
/// pauses do not move.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Worth {
    last: [f64; REMEMBERED],
    added: usize,
}

/// So many windows tell whether there are pauses; one that is below this share of their median was disturbed.
const ENOUGH: usize = 6;
const CALM: f64 = 0.9;
/// Of a median: its standard error, of a mean's.
const OF_MEDIAN: f64 = 1.25;
/// Of the median distance from the median: the standard deviation of what is normally distributed.
const OF_DISTANCE: f64 = 1.48;
/// Before there are enough windows to tell, two of them are taken to differ by this share.
const SUPPOSED: f64 = 0.03;
const WEIGHT: f64 = 2.0;

impl Worth {
    pub(super) fn add(&mut self, worth: f64) {
        self.last[self.added % REMEMBERED] = worth;
        self.added += 1;
    }

    fn windows(&self) -> &[f64] {
        &self.last[..self.added.min(REMEMBERED)]
    }

    pub(super) fn count(&self) -> f64 {
        self.windows().len() as f64
    }

    pub(super) fn median(&self) -> f64 {
        median(self.last, self.windows().len())
    }

    /// There were enough windows, and none that a pause has disturbed: whatever follows is what it seems.
    pub(super) fn is_calm(&self) -> bool {
        self.least_calm().is_some_and(|least| self.windows().iter().all(|worth| *worth >= least))
    }

    /// Such a window was, if there were enough others.
    pub(super) fn is_disturbed(&self, worth: f64) -> bool {
        self.least_calm().is_some_and(|least| worth < least)
    }

    /// Of a window that no pause has disturbed; none: too few to tell.
    fn least_calm(&self) -> Option<f64> {
        (self.windows().len() >= ENOUGH).then(|| CALM * self.median())
    }

    /// The same windows, told by costs by which their median is 1.
    pub(super) fn as_unit(&self) -> Self {
        let median = self.median().max(f64::MIN_POSITIVE);
        Self { last: self.last.map(|worth| worth / median), ..*self }
    }

    /// Of another's median to this one's.
    pub(super) fn ratio(&self, other: &Self) -> f64 {
        other.median() / self.median().max(f64::MIN_POSITIVE)
    }

    /// Of such a ratio, of so many windows of each: a standard error, as a share, by how these here differ.
    pub(super) fn error(&self, windows: [f64; 2]) -> f64 {
        let middle = self.median().max(f64::MIN_POSITIVE);
        let distances = self.last.map(|worth| (worth / middle - 1.0).abs());
        let count = self.count();
        let spread = OF_DISTANCE * median(distances, self.windows().len());
        let square = (count * spread * spread + WEIGHT * SUPPOSED * SUPPOSED) / (count + WEIGHT);
        OF_MEDIAN * (square * windows.iter().map(|count| 1.0 / count.max(0.01)).sum::<f64>()).sqrt()
    }
}

/// Of the first so many; 0 of none.
fn median(mut of: [f64; REMEMBERED], count: usize) -> f64 {
    let of = &mut of[..count];
    of.sort_unstable_by(f64::total_cmp);
    match (of.get((count.max(1) - 1) / 2), of.get(count / 2)) {
        (Some(low), Some(high)) => f64::midpoint(*low, *high),
        _ => 0.0,
    }
}

/// Seconds of a sequence that a token and a row of a prompt take, by least squares over the windows of a mode: `1 = token * tokens/s + prompt *
/// prompt rows/s`. Where prompts come and go most of what windows differ by is explained so.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Costs {
    count: f64,
    /// Means over the windows: of both speeds, of their squares and their product.
    tokens: f64,
    prompt: f64,
    tokens_squared: f64,
    prompt_squared: f64,
    product: f64,
}

/// Windows that costs are told from.
const MEMORY: f64 = 16.0;
/// By so much two windows of the same mix may differ, as a share.
const SPREAD: f64 = 0.02;
/// By so many times what a row costs on average the two may differ, where windows do not tell them apart: a standard deviation.
const APART: f64 = 2.0;

impl Costs {
    pub(super) fn add(&mut self, Speed { tokens, prompt }: Speed) {
        self.count = (self.count + 1.0).min(MEMORY);
        let share = 1.0 / self.count;
        let to = |mean: &mut f64, value: f64| *mean += share * (value - *mean);
        to(&mut self.tokens, tokens);
        to(&mut self.prompt, prompt);
        to(&mut self.tokens_squared, tokens * tokens);
        to(&mut self.prompt_squared, prompt * prompt);
        to(&mut self.product, tokens * prompt);
    }

    /// Of the windows on average.
    pub(super) fn speed(&self) -> Speed {
        Speed { tokens: self.tokens, prompt: self.prompt }
    }

    fn rows_squared(&self) -> f64 {
        self.tokens_squared + 2.0 * self.product + self.prompt_squared
    }

    /// Squares of both, their product, and the determinant, of the windows and what was known before: that both cost about the same.
    fn normal(&self) -> (f64, f64, f64, f64) {
        let alike = self.rows_squared() * SPREAD.powi(2) / (APART.powi(2) * self.count.max(1.0));
        let (tt, pp, tp) = (self.tokens_squared + alike, self.prompt_squared + alike, self.product - alike);
        (tt, pp, tp, tt * pp - tp * tp)
    }

    /// Of a token and of a row of a prompt, which takes no longer.
    fn seconds(&self) -> (f64, f64) {
        let (tt, pp, tp, determinant) = self.normal();
        if determinant <= 0.0 {
            return (0.0, 0.0);
        }
        let token = (self.tokens * pp - self.prompt * tp) / determinant;
        let prompt = (self.prompt * tt - self.tokens * tp) / determinant;
        if prompt < 0.0 {
            (self.tokens / self.tokens_squared.max(f64::MIN_POSITIVE), 0.0)
        } else if prompt > token {
            let same = (self.tokens + self.prompt) / self.rows_squared();
            (same, same)
        } else {
            (token, prompt)
        }
    }

    /// What was done in a second, in seconds that these costs make of it: 1 for the windows themselves, more for a mode that is faster.
    pub(super) fn worth(&self, Speed { tokens, prompt }: Speed) -> f64 {
        let (token_seconds, prompt_seconds) = self.seconds();
        token_seconds * tokens + prompt_seconds * prompt
    }

    /// How far off the worth of such a speed may be for its mix of tokens and prompts: a standard error. None for the mix of the windows; large for another
    /// where they were all alike, as such windows do not tell what either costs.
    pub(super) fn doubt(&self, speed: Speed) -> f64 {
        let (tt, pp, tp, determinant) = self.normal();
        if determinant <= 0.0 {
            return f64::INFINITY;
        }
        let Speed { tokens, prompt } = speed;
        let form = (tokens * tokens * pp - 2.0 * tokens * prompt * tp + prompt * prompt * tt) / determinant;
        // Of the same mix it would be the square of the worth.
        SPREAD * ((form - self.worth(speed).powi(2)).max(0.0) / self.count.max(1.0)).sqrt()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// A mode of known costs, and one that is faster by a tenth, whatever both are given to do.
        #[test]
        fn what_prompts_cost_is_told_apart(
            token in 1e-3f64..1e-1, share in 0.05f64..1.0,
            mixes in prop::collection::vec(0.05f64..3.0, 12), other in 0.05f64..3.0,
        ) {
            let prompt = share * token;
            // Rows of prompts to a token.
            let speed = |mix: f64, faster: f64| {
                let tokens = faster / (token + mix * prompt);
                Speed { tokens, prompt: mix * tokens }
            };
            let mut costs = Costs::default();
            mixes.iter().for_each(|mix| costs.add(speed(*mix, 1.0)));
            let narrow = mixes.iter().all(|mix| (mix - mixes[0]).abs() < 0.5);
            let tolerance = if narrow { 0.3 } else { 0.04 };
            prop_assert!((costs.worth(speed(other, 1.1)) - 1.1).abs() < tolerance);
            prop_assert!((costs.worth(speed(mixes[3], 1.1)) - 1.1).abs() < 0.04);
        }
    }

    /// Windows that are all alike say nothing of another mix: what does more of the cheap and less of the dear is not faster for that.
    #[test]
    fn another_mix_is_doubted() {
        let mut costs = Costs::default();
        (0..16).for_each(|_| costs.add(Speed { tokens: 20.0, prompt: 60.0 }));
        let (same, other) = (Speed { tokens: 22.0, prompt: 66.0 }, Speed { tokens: 15.0, prompt: 80.0 });
        assert!((costs.worth(same) - 1.1).abs() < 0.01 && costs.doubt(same) < 0.002);
        assert!((costs.worth(other) - 1.0).abs() < costs.doubt(other) && costs.doubt(other) > 0.1);
    }

    #[test]
    fn without_prompts_a_token_is_all() {
        let mut costs = Costs::default();
        (0..3).for_each(|_| costs.add(Speed { tokens: 50.0, prompt: 0.0 }));
        assert!((costs.worth(Speed { tokens: 60.0, prompt: 0.0 }) - 1.2).abs() < 0.01);
        assert_eq!(Costs::default().worth(Speed { tokens: 1.0, prompt: 0.0 }), 0.0);
    }
}
