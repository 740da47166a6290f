//! Requests: when they come, and how long they are. The same for a cluster and for the simulator.

use std::{str::FromStr, time::Duration};

use serde::Serialize;
use thiserror::Error;

use crate::unit::{key, unit};

/// Lengths of prompts and answers in tokens: each between half and three halves of its mean, evenly. (The paper's own lengths of its short,
/// medium and long workloads are not known here; these are ours.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Lengths {
    pub name: &'static str,
    pub prompt_tokens: usize,
    pub generated_tokens: usize,
}

/// By name.
pub const LENGTHS: [Lengths; 5] = [
    Lengths { name: "tiny", prompt_tokens: 16, generated_tokens: 32 },
    Lengths { name: "short", prompt_tokens: 64, generated_tokens: 64 },
    Lengths { name: "medium", prompt_tokens: 256, generated_tokens: 128 },
    Lengths { name: "long", prompt_tokens: 1024, generated_tokens: 256 },
    Lengths { name: "decode", prompt_tokens: 8, generated_tokens: 256 },
];

/// There are no such lengths.
#[derive(Debug, Error)]
#[error("no workload `{0}`: tiny, short, medium, long or decode")]
pub struct UnknownLengths(String);

impl FromStr for Lengths {
    type Err = UnknownLengths;

    fn from_str(name: &str) -> Result<Self, UnknownLengths> {
        let found = LENGTHS.iter().find(|lengths| lengths.name == name);
        found.copied().ok_or_else(|| UnknownLengths(name.to_owned()))
    }
}

/// How requests come.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Arrivals {
    /// So many are there at any time: one comes when one ends.
    Closed(usize),
    /// A Poisson process of so many a second.
    Poisson(f64),
}

/// One request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Job {
    pub prompt: usize,
    pub generate: usize,
}

/// Requests without an end.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Workload {
    pub lengths: Lengths,
    pub arrivals: Arrivals,
    pub seed: u64,
}

impl Workload {
    #[must_use]
    pub fn job(&self, index: u64) -> Job {
        let between = |mean: usize, what: u64| {
            let length = mean as f64 * (0.5 + unit(key(&[self.seed, index, what])));
            (length as usize).max(1)
        };
        let Lengths { prompt_tokens, generated_tokens, .. } = self.lengths;
        Job { prompt: between(prompt_tokens, 0), generate: between(generated_tokens, 1) }
    }

    /// One of those that are there from the start, of a closed workload: somewhere in its life, so that not all of them end together. Its prompt is
    /// short, since most that are somewhere in their lives have theirs behind them.
    #[must_use]
    pub fn job_at_start(&self, index: u64) -> Job {
        let Job { prompt, generate } = self.job(index);
        let left = (generate as f64 * unit(key(&[self.seed, index, 4]))) as usize;
        Job { prompt: (prompt / 8).max(1), generate: left.max(1) }
    }

    /// From one arrival to the next, of a Poisson process.
    #[must_use]
    pub fn gap(&self, index: u64) -> Option<Duration> {
        let Arrivals::Poisson(rate) = self.arrivals else { return None };
        let seconds = -(1.0 - unit(key(&[self.seed, index, 2]))).ln() / rate.max(f64::MIN_POSITIVE);
        Some(Duration::from_secs_f64(seconds.min(1e6)))
    }

    /// A prompt of so many tokens of a vocabulary.
    #[must_use]
    pub fn prompt(&self, index: u64, tokens: usize, vocabulary: usize) -> Vec<u32> {
        let token = |at: u64| key(&[self.seed, index, 3, at]) % vocabulary.max(1) as u64;
        (0..tokens as u64).map(|at| u32::try_from(token(at)).unwrap_or(0)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_are_what_they_should_be() {
        let workload = Workload { lengths: LENGTHS[2], arrivals: Arrivals::Poisson(50.0), seed: 1 };
        let jobs: Vec<_> = (0..4000).map(|index| workload.job(index)).collect();
        let mean = |of: fn(&Job) -> usize| jobs.iter().map(of).sum::<usize>() as f64 / 4000.0;
        assert!(
            (mean(|job| job.prompt) - 256.0).abs() < 6.0 && (mean(|job| job.generate) - 128.0).abs() < 3.0
        );
        assert!(jobs.iter().all(|job| (64..193).contains(&job.generate)));
        let seconds: f64 =
            (0..4000).filter_map(|index| workload.gap(index)).map(|gap| gap.as_secs_f64()).sum();
        assert!((seconds / 4000.0 - 0.02).abs() < 0.001, "{seconds}");
        assert_eq!(workload.prompt(7, 31, 100).len(), 31);
        let start: Vec<_> = (0..4000).map(|index| workload.job_at_start(index)).collect();
        let left = start.iter().map(|job| job.generate).sum::<usize>() as f64 / 4000.0;
        assert!((left - 64.0).abs() < 3.0, "half of their lives on average: {left}");
    }
}
