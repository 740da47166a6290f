use reprise_cache::{ExampleChange, ExampleId, Order, Outcome};

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
