//! Drift: the requests change from one set of the data to another, and the bandit has learned on the first alone. How much worse
//! than the best arm it does then, and after how many requests it does as well as one that knew the new set all along.

use std::collections::BTreeMap;

use reprise_router::{RouteError, Router, RouterConfig};
use serde::Serialize;

use super::play::{Play, Played};
use crate::simulate::requests::{Logged, in_order};

/// One change, under one seed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    pub from: String,
    pub to: String,
    pub seed: u64,
    pub requests: usize,
    /// Mean regret and score of the first [`WINDOW`] requests after the change.
    pub first_regret: f64,
    pub first_score: f64,
    /// Of one that had played the new set before.
    pub settled_regret: f64,
    pub settled_score: f64,
    /// Requests after which a window's regret is within [`WITHIN`] of the settled one; none if it never is.
    pub recovered_after: Option<usize>,
}

/// A window of the new set, all changes to it together.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Step {
    pub to: String,
    /// Requests since the change, at the window's end.
    pub after: usize,
    pub regret: f64,
    pub score: f64,
    pub offloaded: f64,
}

/// Requests that are looked at together.
pub const WINDOW: usize = 50;
/// Regret that counts as none: twice the bandit's indifference between arms.
pub const WITHIN: f64 = 0.04;

/// Every ordered pair of sets and every seed.
///
/// # Errors
/// No arm can take a request.
pub fn drift(
    requests: &[Logged],
    play: &Play<'_>,
    seeds: &[u64],
) -> Result<(Vec<Change>, Vec<Step>), RouteError> {
    let mut sets: BTreeMap<&str, Vec<Logged>> = BTreeMap::new();
    for request in requests {
        sets.entry(&request.set).or_default().push(request.clone());
    }
    let (mut changes, mut windows) = (Vec::new(), BTreeMap::<(&str, usize), Vec<Played>>::new());
    for &seed in seeds {
        let play = Play { feedback: true, seed, ..*play };
        for (from, before) in &sets {
            for (to, after) in sets.iter().filter(|(to, _)| *to != from) {
                let played = changed(&play, before, after)?;
                let settled = changed(&play, after, after)?;
                changes.push(change(from, to, seed, &played, &settled));
                for (number, window) in played.chunks(WINDOW).enumerate() {
                    windows.entry((to, (number + 1) * WINDOW)).or_default().extend_from_slice(window);
                }
            }
        }
    }
    let step = |((to, after), played): (&(&str, usize), &Vec<Played>)| Step {
        to: (*to).to_owned(),
        after: *after,
        regret: regret(played),
        score: score(played),
        offloaded: played.iter().filter(|one| one.tier == 0).count() as f64 / played.len() as f64,
    };
    Ok((changes, windows.iter().map(step).collect()))
}

/// What happens to the second, by a router that learned on the first.
fn changed(play: &Play<'_>, before: &[Logged], after: &[Logged]) -> Result<Vec<Played>, RouteError> {
    // The default configuration is valid.
    let router = Router::new(RouterConfig::default()).map_err(|_| RouteError::NotReady)?;
    play.requests(&router, &in_order(before, before.len(), play.seed))?;
    // Another order: who knew the set did not know it in this one.
    let play = Play { from_s: before.len(), ..*play };
    play.requests(&router, &in_order(after, after.len(), play.seed.wrapping_add(1)))
}

fn change(from: &str, to: &str, seed: u64, played: &[Played], settled: &[Played]) -> Change {
    let first = &played[..WINDOW.min(played.len())];
    let settled_regret = regret(settled);
    let near = |window: &[Played]| regret(window) <= settled_regret + WITHIN;
    Change {
        from: from.to_owned(),
        to: to.to_owned(),
        seed,
        requests: played.len(),
        first_regret: regret(first),
        first_score: score(first),
        settled_regret,
        settled_score: score(settled),
        recovered_after: played.windows(WINDOW).position(near),
    }
}

fn regret(played: &[Played]) -> f64 {
    played.iter().map(|one| one.best - one.score).sum::<f64>() / played.len().max(1) as f64
}

fn score(played: &[Played]) -> f64 {
    played.iter().map(|one| one.score).sum::<f64>() / played.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policies::testing::{request, speeds, tiers};

    #[test]
    fn a_set_that_wants_another_arm_costs_until_it_is_learned() {
        // The flags tell the sets apart, as they do in real requests.
        let of = |set: &str, scores, maths| -> Vec<Logged> {
            let flags = reprise_router::TaskFlags { maths, ..Default::default() };
            let one = |id| Logged { set: set.into(), flags, ..request(&format!("{set}{id}"), scores) };
            (0..200).map(one).collect()
        };
        let requests = [of("a", [0.0, 0.9, 0.2, 0.4], false), of("b", [0.0, 0.1, 0.2, 0.9], true)].concat();
        let (tiers, speeds) = (tiers(), speeds());
        let play = Play { tiers: &tiers, speeds: &speeds, feedback: true, load: 0.0, from_s: 0, seed: 0 };
        let (changes, steps) = drift(&requests, &play, &[1, 2]).unwrap();
        assert_eq!(changes.len(), 4);
        for change in &changes {
            assert!(change.first_regret >= change.settled_regret - WITHIN, "{change:?}");
            assert!(change.recovered_after.is_some_and(|after| after < 150), "{change:?}");
        }
        assert_eq!(steps.iter().filter(|step| step.to == "a").count(), 4);
        let b: Vec<f64> = steps.iter().filter(|step| step.to == "b").map(|step| step.regret).collect();
        assert!(b[3] <= b[0], "{b:?}");
    }
}
