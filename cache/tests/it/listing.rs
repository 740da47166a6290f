use reprise_cache::{CacheConfig, ExampleChange, ExampleId, Order, Outcome};

use crate::support::*;

#[test]
fn pages_go_through_all_in_order_once() {
    let cache = in_memory(config());
    let ana = cache.tenant(&tenant("ana"));
    let ids: Vec<ExampleId> = (0..25)
        .map(|seed| inserted(ana.admit(&new(seed, &format!("r {seed}"), "a", None), seed as i64).unwrap()))
        .collect();
    for (i, id) in ids.iter().enumerate() {
        let quality = Some(i as f32 / 25.0);
        ana.credit(&[*id], &Outcome { quality, cost: 1.0, offloaded: true }, 100);
    }
    let walk = |order| {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = ana.list(order, 10, after, 200);
            assert!(page.examples.len() <= 10);
            after = page.examples.last().map(|example| example.id);
            seen.extend(page.examples.iter().map(|example| example.id));
            if !page.has_more {
                return seen;
            }
        }
    };
    let newest_first: Vec<_> = ids.iter().rev().copied().collect();
    assert_eq!(walk(Order::Recent), newest_first);
    assert_eq!(walk(Order::Value), newest_first, "quality of the offloads grew");
    assert_eq!(walk(Order::Gain), ids, "and what could be won fell");
}

#[test]
fn replay_is_offered_what_gains_most_and_was_not_tried_too_often() {
    let cache = in_memory(config());
    let ana = cache.tenant(&tenant("ana"));
    let id = |seed| inserted(ana.admit(&new(seed, &format!("r {seed}"), "a", None), 0).unwrap());
    let (good, bad, tired, unused) = (id(1), id(2), id(3), id(4));
    let outcome = |quality| Outcome { quality: Some(quality), cost: 1.0, offloaded: false };
    ana.credit(&[good], &outcome(0.8), 1);
    ana.credit(&[bad, tired], &outcome(0.1), 1);
    for _ in 0..5 {
        ana.update(tired, &ExampleChange { replayed: true, ..ExampleChange::default() }, 2).unwrap();
    }
    let offered: Vec<_> = ana.replay_candidates(5, 10).iter().map(|example| example.id).collect();
    assert_eq!(offered, [bad, good]);
    assert!(ana.get(unused).is_some());
    assert_eq!(ana.replay_candidates(5, 1).len(), 1);
}

/// Selection no longer shows it, so nothing uses it; that it is missed must bring it to replay all the same.
#[test]
fn a_poorly_rated_example_gains_while_it_is_missed() {
    let cache = in_memory(config());
    let ana = cache.tenant(&tenant("ana"));
    let poor = inserted(ana.admit(&new(1, "r 1", "wrong", None), 0).unwrap());
    ana.update(poor, &ExampleChange { quality: Some(0.0), ..ExampleChange::default() }, 1).unwrap();
    assert!(ana.replay_candidates(5, 10).is_empty());
    let mut before = 0.0;
    for round in 1..=20 {
        ana.missed(&[poor], 1.0);
        let example = ana.get(poor).unwrap();
        assert!(example.replay_gain > before && example.missed == round);
        before = example.replay_gain;
    }
    assert!(before > 0.99);
    assert_eq!(ana.replay_candidates(5, 10)[0].id, poor);
    // A better answer ends it.
    let better =
        ExampleChange { answer: Some("right".into()), quality: Some(1.0), ..ExampleChange::default() };
    let mended = ana.update(poor, &better, 2).unwrap();
    assert_eq!((mended.replay_gain, mended.missed), (0.0, 0));
}

#[test]
fn what_is_listed_as_evicted_next_is_what_eviction_takes() {
    let later = 2 * i64::try_from(config().grace.as_millis()).unwrap();
    let fill = |byte_budget| {
        let cache = in_memory(CacheConfig { byte_budget, grace_share: 0.5, ..config() });
        let ana = cache.tenant(&tenant("ana"));
        for seed in 0..10 {
            let id = inserted(ana.admit(&new(seed, &format!("r {seed}"), "a", None), 0).unwrap());
            for _ in 0..(seed * 7) % 10 {
                ana.credit(&[id], &Outcome { quality: Some(1.0), cost: 1.0, offloaded: true }, 1);
            }
        }
        (cache, ana)
    };
    let all = fill(usize::MAX).0.stats().bytes;
    let (cache, ana) = fill(all / 2);
    let young = inserted(ana.admit(&new(99, "young", "a", None), later).unwrap());
    let order = |cache: &reprise_cache::TenantCache| -> Vec<ExampleId> {
        cache.list(Order::Eviction, 20, None, later).examples.iter().map(|example| example.id).collect()
    };
    let before = order(&ana);
    assert_eq!((before.len(), before.last()), (11, Some(&young)), "who is young goes last");
    let evicted = cache.maintain(later).unwrap().evicted_examples;
    assert!((1..10).contains(&evicted), "{evicted}");
    assert_eq!(order(&ana), before[evicted..]);
}

#[test]
fn a_text_is_found_in_whatever_case() {
    let cache = in_memory(config());
    let ana = cache.tenant(&tenant("ana"));
    for (seed, request, answer) in [
        (1, "Capital of France?", "Paris."),
        (2, "Capital of Italy?", "Rome."),
        (3, "Paris Hilton?", "An heiress."),
    ] {
        ana.admit(&new(seed, request, answer, None), 0).unwrap();
    }
    let found = |text: &str| ana.find(text, Order::Recent, 10, None, 9).examples.len();
    assert_eq!((found(""), found("paris"), found("CAPITAL"), found("madrid")), (3, 2, 2, 0));
}
