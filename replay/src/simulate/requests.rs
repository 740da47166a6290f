//! Logged outcomes as requests: for each tier an answer without examples, and one with.

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};
use reprise_router::{Arm, ArmKey, ArmState, Context, TaskFlags};
use reprise_tier::Pressure;

use crate::harness::outcome::Outcome;
use crate::harness::table::{Key, Table, Vector};

/// The arm without examples.
const PLAIN: &str = "plain";

/// What each tier answered to a request.
#[derive(Debug, Clone)]
pub struct Answers {
    pub plain: Outcome,
    pub examples: Outcome,
}

/// A request with all that was logged of it.
#[derive(Debug, Clone)]
pub struct Logged {
    pub id: String,
    pub set: String,
    pub embedding: Vec<f32>,
    pub flags: TaskFlags,
    /// Of the examples that the cheapest tier would be shown.
    pub utilities: Vec<f32>,
    pub similarities: Vec<f32>,
    /// In the order of the tiers.
    pub answers: Vec<Answers>,
}

impl KnownTier {
    /// Its arms, without examples and with, in the order of the tiers.
    #[must_use]
    pub fn arms(&self, index: usize, context_length: u32, pressure: Pressure) -> [ArmState; 2] {
        [false, true].map(|examples| ArmState {
            arm: Arm { tier: index, examples },
            key: ArmKey { tier: self.name.as_str().into(), model: self.model.as_str().into(), examples },
            cost: self.cost,
            context_length,
            ready: true,
            pressure,
        })
    }
}

impl Logged {
    /// What a router would know of it before any answer.
    #[must_use]
    pub fn context(&self) -> Context<'_> {
        let known = self.answers.first();
        let tokens = |outcome: &Outcome| outcome.prompt_tokens;
        let prompt_tokens = known.map_or(0, |known| tokens(&known.plain));
        Context {
            embedding: Some(&self.embedding),
            utilities: &self.utilities,
            similarities: &self.similarities,
            example_tokens: known.map_or(0, |known| tokens(&known.examples)).saturating_sub(prompt_tokens),
            prompt_tokens,
            flags: self.flags,
            ..Context::default()
        }
    }
}

/// Which of the logged outcomes are taken: of this split, and with the examples that this arm shows from this pool.
#[derive(Debug, Clone, Copy)]
pub struct Taken<'a> {
    pub split: &'a str,
    pub pool: &'a str,
    pub arm: &'a str,
}

/// A tier as the table knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct KnownTier {
    pub name: String,
    pub model: String,
    pub cost: f64,
}

/// Requests that have an answer without examples and one with those that are taken on every tier of the table, and the
/// tiers, cheapest first.
///
/// # Errors
/// No request is complete, or a vector is missing.
pub fn logged(
    outcomes: &[Outcome],
    vectors: &Table<Vector>,
    taken: Taken<'_>,
) -> anyhow::Result<(Vec<Logged>, Vec<KnownTier>)> {
    let mut tiers: Vec<KnownTier> = Vec::new();
    for outcome in outcomes {
        if !tiers.iter().any(|tier| tier.name == outcome.tier) {
            let Outcome { tier, model, cost, .. } = outcome.clone();
            tiers.push(KnownTier { name: tier, model, cost });
        }
    }
    tiers.sort_by(|a, b| a.cost.total_cmp(&b.cost));
    let mut by_id: BTreeMap<&str, Vec<&Outcome>> = BTreeMap::new();
    for outcome in outcomes.iter().filter(|outcome| outcome.split == taken.split) {
        by_id.entry(&outcome.id).or_default().push(outcome);
    }
    let mut requests = Vec::new();
    for (id, outcomes) in by_id {
        let find = |tier: &str, arm: &str, pool: Option<&str>| {
            let fits = |outcome: &&&Outcome| {
                outcome.tier == tier && outcome.arm == arm && pool.is_none_or(|pool| outcome.pool == pool)
            };
            outcomes.iter().find(fits).copied().cloned()
        };
        let answers: Option<Vec<Answers>> = tiers
            .iter()
            .map(|tier| {
                Some(Answers {
                    // Without examples it does not matter which pool there was.
                    plain: find(&tier.name, PLAIN, None)?,
                    examples: find(&tier.name, taken.arm, Some(taken.pool))?,
                })
            })
            .collect();
        let Some(answers) = answers else { continue };
        let Some(first) = answers.first() else { continue };
        let vector = vectors.get(&first.plain.vector).with_context(|| format!("no vector of {id}"))?;
        requests.push(Logged {
            id: id.to_owned(),
            set: first.plain.set.clone(),
            embedding: vector.values.clone(),
            flags: first.plain.flags,
            utilities: first.examples.examples.iter().map(|example| example.utility).collect(),
            similarities: first.examples.examples.iter().map(|example| example.similarity).collect(),
            answers,
        });
    }
    ensure!(!requests.is_empty(), "no request has both arms, plain and {}, on every tier", taken.arm);
    Ok((requests, tiers))
}

/// `count` requests in an order by hash; all of them once before any comes again, then in another order.
#[must_use]
pub fn in_order(requests: &[Logged], count: usize, seed: u64) -> Vec<Logged> {
    let mut ordered = Vec::with_capacity(count);
    for round in 0_u64.. {
        if ordered.len() >= count || requests.is_empty() {
            break;
        }
        let key = |request: &Logged| Key::of(&["order", &seed.to_string(), &round.to_string(), &request.id]);
        let mut next: Vec<(Key, &Logged)> = requests.iter().map(|request| (key(request), request)).collect();
        next.sort_by(|a, b| a.0.cmp(&b.0));
        let again = next.into_iter().map(|(_, request)| {
            let id = if round == 0 { request.id.clone() } else { format!("{}#{round}", request.id) };
            Logged { id, ..request.clone() }
        });
        ordered.extend(again.take(count - ordered.len()));
    }
    ordered
}
