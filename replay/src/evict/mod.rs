//! Eviction by simulation: which policy keeps the examples that answers need, at which byte budget.
//!
//! The table of runs holds, for each request, the answer with each of some examples shown alone (arms `near-1` and `rank-R`) and
//! the answer without. A stream draws requests by a Zipf law, as traffic repeats itself, at `per_hour`; each is answered with
//! the most similar example that is still kept, or without. While the first half of the stream runs nothing is evicted and
//! the policies see what is used and how it turns out; then each keeps what fits the budget, and the second half is scored.
//!
//! - `knapsack`: the cache's own: value (quality of answers it helped, fading 0.9 an hour) under bytes, greedy by density.
//! - `lru`: the most recently used. `random`: by the seed.

use std::collections::{BTreeMap, HashMap};

use anyhow::ensure;
use rand::Rng;
use rand::seq::SliceRandom;
use rand_distr::{Distribution, Zipf};
use reprise_cache::eviction::{Item, keep};
use serde::Serialize;

use crate::harness::outcome::Outcome;
use crate::harness::table::Key;

/// What the stream is like.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stream {
    /// Requests of both halves together.
    pub length: usize,
    pub per_hour: f64,
    /// Exponent of the Zipf law; 0 draws all alike.
    pub skew: f64,
    pub seed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    Knapsack,
    Lru,
    Random,
}

/// One policy at one budget.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Result {
    pub policy: Policy,
    /// Share of the bytes of all examples.
    pub budget: f64,
    pub seed: u64,
    pub kept: usize,
    /// Mean score of the second half.
    pub score: f64,
    /// Share of it that had an example.
    pub helped: f64,
}

impl Policy {
    pub const ALL: [Self; 3] = [Self::Knapsack, Self::Lru, Self::Random];
}

/// A request with what was logged of it.
struct Asked {
    plain: f64,
    /// Most similar first: the example, and the score with it alone.
    with: Vec<(usize, f64)>,
}

struct Example {
    bytes: usize,
    value: f64,
    valued_at_h: f64,
    used_at_h: f64,
}

const DECAY_PER_HOUR: f64 = 0.9;
/// The cache's own for a new example.
const INITIAL_VALUE: f64 = 0.5;

/// # Errors
/// The table has no request with an answer without examples and one with a single one.
pub fn simulate(outcomes: &[Outcome], stream: &Stream, budgets: &[f64]) -> anyhow::Result<Vec<Result>> {
    let (asked, bytes) = asked(outcomes);
    ensure!(!asked.is_empty(), "no request has the arms plain and near-1 or rank-R");
    let mut rng = crate::learn::seeded(stream.seed);
    let mut order: Vec<usize> = (0..asked.len()).collect();
    order.shuffle(&mut rng);
    let law = Zipf::new(order.len() as f64, stream.skew)?;
    let drawn: Vec<usize> =
        (0..stream.length).map(|_| order[(law.sample(&mut rng) as usize - 1).min(order.len() - 1)]).collect();
    let (first, second) = drawn.split_at(drawn.len() / 2);
    let mut examples: Vec<Example> = bytes
        .iter()
        .map(|bytes| Example { bytes: *bytes, value: INITIAL_VALUE, valued_at_h: 0.0, used_at_h: 0.0 })
        .collect();
    for (number, request) in first.iter().enumerate() {
        let now_h = (number + 1) as f64 / stream.per_hour;
        if let Some((index, score)) = asked[*request].with.first() {
            let example = &mut examples[*index];
            example.value = example.value * DECAY_PER_HOUR.powf(now_h - example.valued_at_h) + score;
            (example.valued_at_h, example.used_at_h) = (now_h, now_h);
        }
    }
    let now_h = first.len() as f64 / stream.per_hour;
    let all: usize = bytes.iter().sum();
    let mut results = Vec::new();
    for budget in budgets {
        for policy in Policy::ALL {
            let kept = kept(policy, &examples, (all as f64 * budget) as usize, now_h, &mut rng);
            let (mut score, mut helped) = (0.0, 0);
            for request in second {
                let request = &asked[*request];
                match request.with.iter().find(|(index, _)| kept[*index]) {
                    Some((_, with)) => {
                        score += with;
                        helped += 1;
                    }
                    None => score += request.plain,
                }
            }
            let count = second.len().max(1) as f64;
            results.push(Result {
                policy,
                budget: *budget,
                seed: stream.seed,
                kept: kept.iter().filter(|kept| **kept).count(),
                score: score / count,
                helped: f64::from(helped) / count,
            });
        }
    }
    Ok(results)
}

fn asked(outcomes: &[Outcome]) -> (Vec<Asked>, Vec<usize>) {
    let mut plain: BTreeMap<&str, f64> = BTreeMap::new();
    let mut with: BTreeMap<&str, Vec<(f32, usize, f64)>> = BTreeMap::new();
    let (mut index, mut bytes): (HashMap<&Key, usize>, Vec<usize>) = (HashMap::new(), Vec::new());
    for outcome in outcomes {
        match outcome.examples.as_slice() {
            [] => {
                plain.insert(&outcome.id, outcome.score);
            }
            [alone] => {
                let known = *index.entry(&alone.vector).or_insert_with(|| {
                    bytes.push(alone.bytes);
                    bytes.len() - 1
                });
                with.entry(&outcome.id).or_default().push((alone.similarity, known, outcome.score));
            }
            _ => {}
        }
    }
    let asked = with.into_iter().filter_map(|(id, mut with)| {
        with.sort_by(|a, b| b.0.total_cmp(&a.0));
        let with = with.into_iter().map(|(_, index, score)| (index, score)).collect();
        Some(Asked { plain: *plain.get(id)?, with })
    });
    (asked.collect(), bytes)
}

fn kept(policy: Policy, examples: &[Example], budget: usize, now_h: f64, rng: &mut impl Rng) -> Vec<bool> {
    let mut order: Vec<usize> = (0..examples.len()).collect();
    match policy {
        Policy::Knapsack => {
            let item = |example: &Example| Item {
                value: example.value * DECAY_PER_HOUR.powf(now_h - example.valued_at_h),
                bytes: example.bytes,
                newcomer: None,
            };
            return keep(&examples.iter().map(item).collect::<Vec<_>>(), budget, 0);
        }
        Policy::Lru => order.sort_by(|a, b| examples[*b].used_at_h.total_cmp(&examples[*a].used_at_h)),
        Policy::Random => order.shuffle(rng),
    }
    let (mut kept, mut room) = (vec![false; examples.len()], budget);
    for index in order {
        if examples[index].bytes > room {
            break;
        }
        room -= examples[index].bytes;
        kept[index] = true;
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::outcome::ShownExample;
    use crate::score::Metric;

    fn outcome(id: usize, example: Option<usize>, similarity: f32, score: f64) -> Outcome {
        let shown = |example: usize| ShownExample {
            vector: Key::of(&["e", &example.to_string()]),
            similarity,
            utility: similarity,
            quality: None,
            bytes: 100,
        };
        Outcome {
            id: format!("r{id}"),
            set: "s".into(),
            source: "s".into(),
            task: "t".into(),
            metric: Metric::ExactMatch,
            tier: "small".into(),
            model: "m".into(),
            cost: 0.1,
            strength: 0.0,
            split: crate::harness::outcome::TEST.to_owned(),
            pool: crate::harness::outcome::REFERENCES.to_owned(),
            arm: if example.is_some() { "near-1".into() } else { "plain".into() },
            run: Key::of(&["run", &id.to_string()]),
            vector: Key::of(&["v", &id.to_string()]),
            request_bytes: 10,
            flags: Default::default(),
            examples: example.into_iter().map(shown).collect(),
            nearest: 0.9,
            reused: None,
            score,
            prompt_tokens: 1,
            cached_tokens: 0,
            completion_tokens: 1,
            prefill_s: None,
            decode_s: None,
        }
    }

    /// Half of the examples help, the other half do not; all are used alike.
    fn world() -> Vec<Outcome> {
        (0..60)
            .flat_map(|id| {
                let helps = f64::from(u8::from(id % 2 == 0));
                [outcome(id, None, 0.0, 0.0), outcome(id, Some(id), 0.9, helps)]
            })
            .collect()
    }

    #[test]
    fn the_knapsack_keeps_what_helps_and_all_fits_the_whole_budget() {
        let stream = Stream { length: 4000, per_hour: 1000.0, skew: 0.0, seed: 3 };
        let results = simulate(&world(), &stream, &[1.0, 0.5]).unwrap();
        let at = |policy, budget: f64| {
            results.iter().find(|r| r.policy == policy && (r.budget - budget).abs() < 1e-9).unwrap()
        };
        for policy in Policy::ALL {
            assert!((at(policy, 1.0).score - at(Policy::Lru, 1.0).score).abs() < 1e-9);
            assert_eq!(at(policy, 1.0).kept, 60);
        }
        // With half the bytes all that helps is still there.
        assert!((at(Policy::Knapsack, 0.5).score - at(Policy::Knapsack, 1.0).score).abs() < 1e-9);
        assert!(at(Policy::Lru, 0.5).score < 0.8 * at(Policy::Knapsack, 0.5).score);
        assert_eq!(simulate(&world(), &stream, &[1.0, 0.5]).unwrap(), results);
        assert!(simulate(&[], &stream, &[1.0]).is_err());
    }
}
