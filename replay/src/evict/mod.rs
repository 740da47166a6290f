//! Eviction by simulation: which policy keeps the examples that answers need, at which byte budget.
//!
//! The table of runs holds, for each request, the answer with each of some examples shown alone (arms `near-1` and `rank-R`) and
//! the answer without. A stream draws requests by a Zipf law, as traffic repeats itself, at `per_hour`; each is answered with
//! the most similar example that is still kept, or without. While it runs nothing is evicted and the policies see what is used
//! and how it turns out; then each keeps what fits the budget, and what is asked afterwards is scored: more of the same
//! stream, or requests that were never asked before.
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

/// Who asks, before the eviction and after it.
#[derive(Debug, Clone, Copy)]
pub struct Askers<'a> {
    pub tier: &'a str,
    pub pool: &'a str,
    /// Split whose requests are drawn before.
    pub before: &'a str,
    /// Split whose requests are asked after it, each once; without one the stream goes on for as long again.
    pub after: Option<&'a str>,
}

/// What the stream is like.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stream {
    /// Requests before the eviction.
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
    /// Requests after the eviction, and their mean score.
    pub requests: usize,
    pub score: f64,
    /// Share of them that had an example.
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

/// `beside_texts`: what an example takes beside its texts, in bytes.
///
/// # Errors
/// The table has no request with an answer without examples and one with a single one.
pub fn simulate(
    outcomes: &[Outcome],
    askers: &Askers<'_>,
    stream: &Stream,
    beside_texts: usize,
    budgets: &[f64],
) -> anyhow::Result<Vec<Result>> {
    let mut shelf = Shelf { index: HashMap::new(), bytes: Vec::new(), beside_texts };
    let asked = asked(outcomes, askers, askers.before, &mut shelf);
    ensure!(!asked.is_empty(), "no request has the arms plain and near-1 or rank-R");
    let new = askers.after.map(|split| self::asked(outcomes, askers, split, &mut shelf));
    ensure!(new.as_ref().is_none_or(|new| !new.is_empty()), "no request to ask after the eviction");
    let mut rng = crate::learn::seeded(stream.seed);
    let mut order: Vec<usize> = (0..asked.len()).collect();
    order.shuffle(&mut rng);
    let law = Zipf::new(order.len() as f64, stream.skew)?;
    let mut draw = || &asked[order[(law.sample(&mut rng) as usize - 1).min(order.len() - 1)]];
    let before: Vec<&Asked> = (0..stream.length).map(|_| draw()).collect();
    let after: Vec<&Asked> = match &new {
        Some(new) => new.iter().collect(),
        None => (0..stream.length).map(|_| draw()).collect(),
    };
    let (examples, now_h) = used(&before, &shelf.bytes, stream.per_hour);
    let all: usize = shelf.bytes.iter().sum();
    let mut results = Vec::new();
    for budget in budgets {
        for policy in Policy::ALL {
            let kept = kept(policy, &examples, (all as f64 * budget) as usize, now_h, &mut rng);
            let (score, helped) = score(&after, &kept);
            let seed = stream.seed;
            let stay = kept.iter().filter(|kept| **kept).count();
            results.push(Result {
                policy,
                budget: *budget,
                seed,
                kept: stay,
                requests: after.len(),
                score,
                helped,
            });
        }
    }
    Ok(results)
}

/// What the examples are worth after these requests, and when that is.
fn used(before: &[&Asked], bytes: &[usize], per_hour: f64) -> (Vec<Example>, f64) {
    let new =
        |bytes: &usize| Example { bytes: *bytes, value: INITIAL_VALUE, valued_at_h: 0.0, used_at_h: 0.0 };
    let mut examples: Vec<Example> = bytes.iter().map(new).collect();
    for (number, request) in before.iter().enumerate() {
        let now_h = (number + 1) as f64 / per_hour;
        if let Some((index, score)) = request.with.first() {
            let example = &mut examples[*index];
            example.value = example.value * DECAY_PER_HOUR.powf(now_h - example.valued_at_h) + score;
            (example.valued_at_h, example.used_at_h) = (now_h, now_h);
        }
    }
    (examples, before.len() as f64 / per_hour)
}

/// Mean score, and the share that had an example.
fn score(after: &[&Asked], kept: &[bool]) -> (f64, f64) {
    let (mut score, mut helped) = (0.0, 0);
    for request in after {
        match request.with.iter().find(|(index, _)| kept[*index]) {
            Some((_, with)) => {
                score += with;
                helped += 1;
            }
            None => score += request.plain,
        }
    }
    let count = after.len().max(1) as f64;
    (score / count, f64::from(helped) / count)
}

/// Every example that was shown to anybody.
struct Shelf<'a> {
    index: HashMap<&'a Key, usize>,
    bytes: Vec<usize>,
    beside_texts: usize,
}

fn asked<'a>(outcomes: &'a [Outcome], askers: &Askers<'_>, split: &str, shelf: &mut Shelf<'a>) -> Vec<Asked> {
    let mut plain: BTreeMap<&str, f64> = BTreeMap::new();
    let mut with: BTreeMap<&str, Vec<(f32, usize, f64)>> = BTreeMap::new();
    let of = |outcome: &&Outcome| outcome.tier == askers.tier && outcome.split == split;
    for outcome in outcomes.iter().filter(of) {
        match outcome.examples.as_slice() {
            [] => {
                plain.insert(&outcome.id, outcome.score);
            }
            [alone] if outcome.pool == askers.pool => {
                let Shelf { index, bytes, beside_texts } = shelf;
                let known = *index.entry(&alone.vector).or_insert_with(|| {
                    bytes.push(alone.bytes + *beside_texts);
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
    asked.collect()
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
    use crate::harness::testing::{self, shown};

    fn outcome(id: usize, example: Option<usize>, similarity: f32, score: f64) -> Outcome {
        let arm = if example.is_some() { "near-1" } else { "plain" };
        let one = |example: usize| shown(Key::of(&["e", &example.to_string()]), similarity);
        Outcome {
            examples: example.into_iter().map(one).collect(),
            ..testing::outcome(&format!("r{id}"), "small", arm, score)
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

    const STREAM: Stream = Stream { length: 2000, per_hour: 1000.0, skew: 0.0, seed: 3 };

    fn askers(after: Option<&str>) -> Askers<'_> {
        Askers { tier: "small", pool: "references", before: "test", after }
    }

    #[test]
    fn the_knapsack_keeps_what_helps_and_all_fits_the_whole_budget() {
        let results = simulate(&world(), &askers(None), &STREAM, 0, &[1.0, 0.5]).unwrap();
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
        assert_eq!(simulate(&world(), &askers(None), &STREAM, 0, &[1.0, 0.5]).unwrap(), results);
        assert!(simulate(&[], &askers(None), &STREAM, 0, &[1.0]).is_err());
    }

    #[test]
    fn new_requests_find_what_the_old_ones_have_shown_to_help() {
        // The same examples, asked for by others.
        let old = |outcome: Outcome| Outcome { split: "train".into(), ..outcome };
        let new = |outcome: Outcome| Outcome { id: format!("new-{}", outcome.id), ..outcome };
        let both: Vec<Outcome> = world().into_iter().map(old).chain(world().into_iter().map(new)).collect();
        let askers = Askers { before: "train", ..askers(Some("test")) };
        let results = simulate(&both, &askers, &STREAM, 50, &[0.5]).unwrap();
        let score = |policy| results.iter().find(|result| result.policy == policy).unwrap().score;
        assert!(results.iter().all(|result| result.requests == 60));
        assert!((score(Policy::Knapsack) - 0.5).abs() < 1e-9 && score(Policy::Random) < 0.4);
        let nobody = Askers { after: Some("nobody"), ..askers };
        assert!(simulate(&both, &nobody, &STREAM, 50, &[0.5]).is_err());
    }
}
