use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::measure::{ALL, won};
use super::service::Service;
use crate::harness::outcome::Outcome;
use crate::simulate::machine::TierSpeed;
use crate::stats::{Bootstrap, Estimate, bootstrap_mean};

/// An arm of a tier over one set, or over all.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ArmMeasured {
    pub tier: String,
    pub pool: String,
    pub arm: String,
    pub set: String,
    pub requests: usize,
    pub score: f64,
    pub score_low: f64,
    pub score_high: f64,
    /// Against the arm that all are compared with, on the same tier and the same requests.
    pub gain: f64,
    pub gain_low: f64,
    pub gain_high: f64,
    pub win_rate: f64,
    /// Examples shown.
    pub shown: f64,
    pub prompt_tokens: f64,
    pub cached_tokens: f64,
    pub completion_tokens: f64,
    pub alone_mean_s: f64,
    pub full_mean_s: f64,
}

/// What all arms of a tier are compared with.
#[derive(Debug, Clone, Copy)]
pub struct Against<'a> {
    pub pool: &'a str,
    pub arm: &'a str,
}

/// Answers of one request under one arm: one, or one for each seed of an arm that draws.
type Of<'a> = BTreeMap<&'a str, Vec<&'a Outcome>>;

/// All arms of a split; arms that differ in their seed alone are one, by the mean over seeds of each request.
#[must_use]
pub fn arms(
    outcomes: &[Outcome],
    split: &str,
    against: Against<'_>,
    speed: &dyn Fn(&str) -> Option<TierSpeed>,
) -> Vec<ArmMeasured> {
    let mut all: BTreeMap<(&str, &str, &str), Of<'_>> = BTreeMap::new();
    for outcome in outcomes.iter().filter(|outcome| outcome.split == split) {
        let arm = outcome.arm.split("+seed=").next().unwrap_or_default();
        let of = all.entry((&outcome.tier, &outcome.pool, arm)).or_default();
        of.entry(&outcome.id).or_default().push(outcome);
    }
    let mut measured = Vec::new();
    for ((tier, pool, arm), of) in &all {
        let Some(speed) = speed(tier) else { continue };
        let other = all.get(&(*tier, against.pool, against.arm));
        let sets: BTreeSet<&str> = of.values().flatten().map(|outcome| outcome.set.as_str()).collect();
        for set in sets.into_iter().chain([ALL]) {
            let name = (*tier, *pool, *arm, set);
            measured.extend(row(name, of, other, &speed));
        }
    }
    measured
}

fn row(
    (tier, pool, arm, set): (&str, &str, &str, &str),
    of: &Of<'_>,
    other: Option<&Of<'_>>,
    speed: &TierSpeed,
) -> Option<ArmMeasured> {
    let within: Vec<(&str, &Vec<&Outcome>)> = of
        .iter()
        .filter(|(_, outcomes)| set == ALL || outcomes.iter().any(|outcome| outcome.set == set))
        .map(|(id, outcomes)| (*id, outcomes))
        .collect();
    let mean = |outcomes: &[&Outcome], value: &dyn Fn(&Outcome) -> f64| {
        outcomes.iter().map(|outcome| value(outcome)).sum::<f64>() / outcomes.len().max(1) as f64
    };
    let scores: Vec<f64> = within.iter().map(|(_, outcomes)| mean(outcomes, &|one| one.score)).collect();
    let score = Estimate::of(&scores, Bootstrap::default())?;
    let pairs: Vec<(f64, f64)> = within
        .iter()
        .zip(&scores)
        .filter_map(|((id, _), score)| Some((*score, mean(other?.get(id)?, &|one| one.score))))
        .collect();
    let gains: Vec<f64> = pairs.iter().map(|(score, other)| score - other).collect();
    let gain = bootstrap_mean(&gains, Bootstrap::default());
    let wins: f64 = pairs.iter().map(|(score, other)| won(*score, *other)).sum();
    let over_all = |value: &dyn Fn(&Outcome) -> f64| {
        within.iter().map(|(_, outcomes)| mean(outcomes, value)).sum::<f64>() / within.len() as f64
    };
    Some(ArmMeasured {
        tier: tier.to_owned(),
        pool: pool.to_owned(),
        arm: arm.to_owned(),
        set: set.to_owned(),
        requests: within.len(),
        score: score.mean,
        score_low: score.low,
        score_high: score.high,
        gain: gain.map_or(f64::NAN, |gain| gain.mean),
        gain_low: gain.map_or(f64::NAN, |gain| gain.low),
        gain_high: gain.map_or(f64::NAN, |gain| gain.high),
        win_rate: wins / pairs.len() as f64,
        shown: over_all(&|one| one.examples.len() as f64),
        prompt_tokens: over_all(&|one| f64::from(one.prompt_tokens)),
        cached_tokens: over_all(&|one| f64::from(one.cached_tokens)),
        completion_tokens: over_all(&|one| f64::from(one.completion_tokens)),
        alone_mean_s: over_all(&|one| Service::of(one, speed).alone_s),
        full_mean_s: over_all(&|one| Service::of(one, speed).full_s),
    })
}
