use reprise_cache::{CacheConfig, Outcome};

use crate::support::*;

fn offload() -> Outcome {
    Outcome { quality: Some(1.0), cost: 0.1, offloaded: true }
}

#[test]
fn what_was_useful_stays_and_the_budget_holds() {
    let cache = in_memory(CacheConfig { byte_budget: 60_000, ..config() });
    let ana = cache.tenant(&tenant("ana"));
    let bob = cache.tenant(&tenant("bob"));
    let ids: Vec<_> = (0..200)
        .map(|seed| inserted(ana.admit(&new(seed, &format!("r {seed}"), "a", None), 0).unwrap()))
        .collect();
    let useful: Vec<_> = ids.iter().step_by(4).copied().collect();
    ana.credit(&useful, &offload(), HOUR_MS);
    assert!(bob.put_exact(&fingerprint(1), answer("served often", 0)).unwrap());
    assert!(bob.put_exact(&fingerprint(2), answer(&"served never".repeat(100), 0)).unwrap());
    (0..5).for_each(|_| drop(bob.exact(&fingerprint(1), None, HOUR_MS)));
    let before = cache.stats();
    assert!(before.bytes > 60_000);

    let done = cache.maintain(HOUR_MS).unwrap();
    let after = cache.stats();
    assert!(after.bytes <= 60_000, "{after:?}");
    assert_eq!(before.bytes - after.bytes, done.evicted_bytes);
    assert_eq!(before.examples - after.examples, done.evicted_examples);
    assert!(useful.iter().all(|id| ana.get(*id).is_some()));
    assert!(bob.exact(&fingerprint(1), None, HOUR_MS).is_some());
    assert!(bob.exact(&fingerprint(2), None, HOUR_MS).is_none());
    assert!(done.evicted_examples > 0 && done.evicted_answers == 1);
    assert_eq!(cache.maintain(HOUR_MS).unwrap().evicted_examples, 0);
    // What is gone is not found, and not stored.
    assert_eq!(ana.nearest(&vector(3), 1000, Instructions::NONE).len(), after.examples);
}

#[test]
fn old_fame_fades_and_newcomers_get_their_chance() {
    let cache = in_memory(CacheConfig { byte_budget: 60_000, ..config() });
    let ana = cache.tenant(&tenant("ana"));
    let admit = |seed, now| inserted(ana.admit(&new(seed, &format!("r {seed}"), "a", None), now).unwrap());
    let old: Vec<_> = (0..150).map(|seed| admit(seed, 0)).collect();
    (0..20).for_each(|_| ana.credit(&old, &offload(), 0));
    let now = 2 * HOUR_MS;
    let newest = admit(1000, now);
    cache.maintain(now).unwrap();
    assert!(ana.get(newest).is_some(), "worth less than all others, but in its grace");
    // Two days later the old fame is worth less than a fresh start.
    let later = now + 48 * HOUR_MS;
    let fresh: Vec<_> = (2000..2100).map(|seed| admit(seed, later - HOUR_MS)).collect();
    cache.maintain(later).unwrap();
    assert!(fresh.iter().all(|id| ana.get(*id).is_some()));
    assert!(cache.stats().bytes <= 60_000);
}
