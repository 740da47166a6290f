use std::sync::Arc;

use reprise_cache::{Cache, ExampleChange, MemoryStore, Order, Outcome, Store};

use crate::support::*;

fn listing(cache: &Cache) -> Vec<(String, String)> {
    let page = cache.tenant(&tenant("ana")).list(Order::Recent, 1000, None, 0);
    let mut all: Vec<_> =
        page.examples.iter().map(|example| (example.request.clone(), example.answer.clone())).collect();
    all.sort();
    all
}

#[test]
fn a_second_cache_follows_what_the_first_one_writes() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let (here, there) = (open(&store, config()), open(&store, config()));
    let ana = here.tenant(&tenant("ana"));
    let ids: Vec<_> = (0..20)
        .map(|seed| inserted(ana.admit(&new(seed, &format!("r {seed}"), "a", None), 0).unwrap()))
        .collect();
    ana.put_exact(&fingerprint(1), answer("a", 0)).unwrap();
    assert_eq!(there.stats().examples, 0);
    assert_eq!(there.follow().unwrap(), 22, "the tenant, its examples, its answer");
    assert_eq!(there.follow().unwrap(), 0);
    assert_eq!(listing(&there), listing(&here));
    let ana_there = there.tenant(&tenant("ana"));
    assert_eq!(ana_there.nearest(&vector(4), 1, Instructions::NONE)[0].example.id, ids[4]);

    // Both write, and each takes in what the other did.
    ana.delete(ids[4]).unwrap();
    ana.forget(&fingerprint(1)).unwrap();
    ana_there.admit(&new(50, "of there", "b", None), 0).unwrap();
    let change = ExampleChange { answer: Some("better".into()), ..ExampleChange::default() };
    ana.update(ids[5], &change, 0).unwrap();
    assert_eq!((here.follow().unwrap(), there.follow().unwrap()), (1, 3));
    assert_eq!(listing(&there), listing(&here));
    assert_ne!(ana_there.nearest(&vector(4), 1, Instructions::NONE)[0].example.id, ids[4]);
    assert!(ana_there.exact(&fingerprint(1), None, 0).is_none());
    assert_eq!(ana.nearest(&vector(50), 1, Instructions::NONE)[0].example.request, "of there");
}

#[test]
fn own_writes_are_not_taken_for_news() {
    let cache = in_memory(config());
    let ana = cache.tenant(&tenant("ana"));
    let id = inserted(ana.admit(&new(1, "r", "a", None), 0).unwrap());
    ana.credit(&[id], &Outcome { quality: None, cost: 1.0, offloaded: true }, 1);
    assert_eq!(cache.maintain(2).unwrap().followed, 0);
    assert_eq!(ana.get(id).unwrap().uses, 1, "the count that is not stored yet stands");
}

#[test]
fn who_is_too_far_behind_reads_everything() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let (here, there) = (open(&store, config()), open(&store, config()));
    let ana = here.tenant(&tenant("ana"));
    let gone = inserted(ana.admit(&new(1, "r 1", "a", None), 0).unwrap());
    ana.admit(&new(2, "r 2", "a", None), 0).unwrap();
    there.follow().unwrap();
    ana.delete(gone).unwrap();
    // More changes than the log keeps.
    for i in 0..66_000_i64 {
        ana.put_exact(&fingerprint(3), answer("a", i)).unwrap();
    }
    there.follow().unwrap();
    assert_eq!(listing(&there), listing(&here));
    assert_eq!(there.stats().answers, 1);
    assert_eq!(there.follow().unwrap(), 0);
}
