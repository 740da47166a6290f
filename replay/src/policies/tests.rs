use reprise_router::{PolicyKind, Router, RouterConfig};

use super::arms::{Against, arms};
use super::measure::{ALL, Name, measure};
use super::service::Service;
use super::testing::{request, speeds, tiers};
use super::*;
use crate::harness::outcome::{Outcome, REFERENCES, TEST};
use crate::harness::testing::outcome;
use crate::simulate::requests::Logged;

fn router(policy: PolicyKind) -> Router {
    Router::new(RouterConfig { policy, ..RouterConfig::default() }).unwrap()
}

fn name() -> Name {
    Name { policy: "p".into(), setting: String::new(), pool: REFERENCES.into(), seed: 0 }
}

fn played(policy: PolicyKind, requests: &[Logged]) -> Vec<Played> {
    let (tiers, speeds) = (tiers(), speeds());
    let play = Play { tiers: &tiers, speeds: &speeds, feedback: false, load: 0.0, from_s: 0, seed: 1 };
    play.requests(&router(policy), requests).unwrap()
}

#[test]
fn a_policy_scores_what_the_arm_it_names_was_logged_with() {
    let requests = [request("a", [0.1, 0.2, 0.3, 0.4]), request("b", [0.5, 0.6, 0.7, 0.8])];
    let scores = |policy| played(policy, &requests).iter().map(|one| one.score).collect::<Vec<_>>();
    assert_eq!(scores(PolicyKind::SmallPlain), [0.1, 0.5]);
    assert_eq!(scores(PolicyKind::SmallExamples), [0.2, 0.6]);
    assert_eq!(scores(PolicyKind::LargePlain), [0.3, 0.7]);
    assert_eq!(scores(PolicyKind::LargeExamples), [0.4, 0.8]);
    assert_eq!(scores(PolicyKind::Reuse), [0.25, 0.25]);
    let reused = &played(PolicyKind::Reuse, &requests)[0];
    assert_eq!((reused.reused, reused.service), (true, Service::default()));
    let with = &played(PolicyKind::SmallExamples, &requests)[0];
    assert_eq!((with.example_tokens, with.baseline, with.best), (50, 0.3, 0.4));
}

#[test]
fn seconds_come_from_tokens_and_speeds() {
    let outcome = Outcome { cached_tokens: 4, completion_tokens: 11, ..outcome("a", "small", "plain", 1.0) };
    let service = Service::of(&outcome, &speeds()[0]);
    // Six tokens computed, ten decoded alone at 100 a second, or among three at S(3) = 2 times that.
    assert!((service.alone_s - 0.106).abs() < 1e-9 && (service.full_s - 0.056).abs() < 1e-9);
}

#[test]
fn a_report_compares_with_always_asking_the_large_tier() {
    let requests: Vec<Logged> = (0..40)
        .map(|id| {
            request(&format!("r{id}"), if id % 4 == 0 { [0.0, 0.0, 1.0, 1.0] } else { [0.0, 1.0, 0.5, 1.0] })
        })
        .collect();
    let always = played(PolicyKind::LargePlain, &requests);
    let rows = measure(&name(), &played(PolicyKind::SmallExamples, &requests), &always, 1);
    assert_eq!(rows.iter().map(|row| row.set.as_str()).collect::<Vec<_>>(), ["s", ALL]);
    let row = &rows[1];
    assert!((row.score - 0.75).abs() < 1e-9 && (row.gain - 0.125).abs() < 1e-9);
    assert!((row.win_rate - 0.75).abs() < 1e-9 && row.win_low < 0.75 && row.win_high > 0.75);
    assert!((row.offloaded - 1.0).abs() < 1e-9 && (row.regret - 0.25).abs() < 1e-9);
    // Small: 60 / 1000 + 2 / 200 = 0.07 s; large: 10 / 100 + 2 / 20 = 0.2 s.
    assert!((row.throughput - 0.2 / 0.07).abs() < 1e-6, "{}", row.throughput);
    let same = measure(&name(), &always, &always, 1);
    assert!((same[0].win_rate - 0.5).abs() < 1e-9 && same[0].offloaded == 0.0);
}

#[test]
fn a_taught_bandit_gives_up_no_quality_and_a_loaded_one_offloads() {
    let requests: Vec<Logged> = (0..300).map(|id| request(&format!("r{id}"), [0.0, 0.6, 0.3, 0.9])).collect();
    let (tiers, speeds) = (tiers(), speeds());
    let play = Play { tiers: &tiers, speeds: &speeds, feedback: true, load: 0.0, from_s: 0, seed: 3 };
    let bandit = router(PolicyKind::Bandit);
    play.requests(&bandit, &requests).unwrap();
    let large = |played: Vec<Played>| played.iter().filter(|one| one.tier == 1).count();
    let calm = large(Play { from_s: 300, ..play }.requests(&bandit, &requests).unwrap());
    let pressed = large(Play { load: 3.0, from_s: 600, ..play }.requests(&bandit, &requests).unwrap());
    assert!(calm > 250 && pressed < 50, "{calm} {pressed}");
}

#[test]
fn arms_are_compared_request_by_request_and_seeds_are_one_arm() {
    let mut outcomes = Vec::new();
    for id in 0..10 {
        let id = format!("r{id}");
        outcomes.push(outcome(&id, "small", "prior-5", 0.5));
        outcomes.push(outcome(&id, "small", "random-5+seed=1", 0.0));
        outcomes.push(outcome(&id, "small", "random-5+seed=2", 0.4));
        outcomes.push(Outcome { split: "train".into(), ..outcome(&id, "small", "plain", 1.0) });
    }
    let against = Against { pool: REFERENCES, arm: "prior-5" };
    let rows = arms(&outcomes, TEST, against, &|_| Some(speeds()[0]));
    let all: Vec<_> = rows.iter().filter(|row| row.set == ALL).collect();
    assert_eq!(all.iter().map(|row| row.arm.as_str()).collect::<Vec<_>>(), ["prior-5", "random-5"]);
    assert!((all[1].score - 0.2).abs() < 1e-9 && (all[1].gain + 0.3).abs() < 1e-9);
    assert!(all[1].win_rate.abs() < 1e-9 && (all[0].win_rate - 0.5).abs() < 1e-9);
    assert_eq!(all[1].requests, 10);
}
