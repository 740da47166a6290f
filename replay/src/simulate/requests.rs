//! Logged outcomes as requests: for each tier an answer without examples, and one with.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use reprise_router::TaskFlags;

use crate::harness::outcome::Outcome;
use crate::harness::table::{Key, Table, Vector};

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
    /// In the order of the tiers.
    pub answers: Vec<Answers>,
}

/// A tier as the table knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct KnownTier {
    pub name: String,
    pub model: String,
    pub cost: f64,
}

/// Requests that have an answer without examples and one of the arm `with` on every tier of the table, and the tiers,
/// cheapest first.
///
/// # Errors
/// No request is complete, or a vector is missing.
pub fn logged(
    outcomes: &[Outcome],
    vectors: &Table<Vector>,
    with: &str,
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
    for outcome in outcomes {
        by_id.entry(&outcome.id).or_default().push(outcome);
    }
    let mut requests = Vec::new();
    for (id, outcomes) in by_id {
        let find = |tier: &str, arm: &str| {
            outcomes.iter().find(|outcome| outcome.tier == tier && outcome.arm == arm).copied().cloned()
        };
        let answers: Option<Vec<Answers>> = tiers
            .iter()
            .map(|tier| {
                Some(Answers { plain: find(&tier.name, "plain")?, examples: find(&tier.name, with)? })
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
            answers,
        });
    }
    ensure!(!requests.is_empty(), "no request has both arms, plain and {with}, on every tier");
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
