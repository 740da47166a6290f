use std::sync::Arc;

use reprise_cache::{ExampleChange, IndexConfig, Outcome, SledStore, Store};

use crate::support::*;

#[test]
fn everything_flushed_is_there_again_and_found() {
    let folder = tempfile::tempdir().unwrap();
    let index = IndexConfig { ivf_from: 100, ..IndexConfig::default() };
    let config = || reprise_cache::CacheConfig { index, ..config() };
    let outcome = Outcome { quality: Some(0.25), cost: 0.5, offloaded: true };
    let (ids, before) = {
        let store: Arc<dyn Store> = Arc::new(SledStore::open(folder.path()).unwrap());
        let cache = open(&store, config());
        let ana = cache.tenant(&tenant("ana"));
        let ids: Vec<_> = (0..300)
            .map(|seed| inserted(ana.admit(&new(seed, &format!("request {seed}"), "a", None), 5).unwrap()))
            .collect();
        assert!(ana.delete(ids[7]).unwrap());
        let change =
            ExampleChange { answer: Some("better".into()), quality: Some(1.0), source: None, replayed: true };
        ana.update(ids[8], &change, 6).unwrap();
        ana.credit(&[ids[9]], &outcome, 7);
        assert!(ana.put_exact(&fingerprint(1), answer("stored", 3)).unwrap());
        assert!(cache.tenant(&tenant("bob")).put_exact(&fingerprint(1), answer("of bob", 3)).unwrap());
        cache.flush().unwrap();
        (ids, cache.stats())
    };
    let store: Arc<dyn Store> = Arc::new(SledStore::open(folder.path()).unwrap());
    let cache = open(&store, config());
    let after = cache.stats();
    assert_eq!((after.examples, after.answers, after.undecodable), (299, 2, 0));
    assert_eq!((after.bytes, after.sequence), (before.bytes, before.sequence));
    assert_eq!(cache.tenants(), [tenant("ana"), tenant("bob")]);
    let ana = cache.tenant(&tenant("ana"));
    // At once, and when the lists are built.
    for rebuilt in [0, 1] {
        if rebuilt > 0 {
            assert_eq!(cache.maintain(7).unwrap().rebuilt, rebuilt);
        }
        for (seed, id) in ids.iter().enumerate() {
            let first = ana.nearest(&vector(seed as u64), 1, Instructions::NONE).remove(0);
            assert_eq!(first.example.id == *id, seed != 7);
        }
    }
    assert!(ana.get(ids[7]).is_none());
    let updated = ana.get(ids[8]).unwrap();
    assert_eq!((updated.answer.as_str(), updated.quality, updated.replays), ("better", Some(1.0), 1));
    let credited = ana.get(ids[9]).unwrap();
    assert_eq!((credited.uses, credited.valued_at_ms), (1, 7));
    assert!(credited.replay_gain > 0.0 && credited.value > 0.5);
    assert_eq!(ana.exact(&fingerprint(1), None, 9).unwrap().text, "stored");
}

#[test]
fn another_embedder_finds_nothing_and_destroys_nothing() {
    let store: Arc<dyn Store> = Arc::new(reprise_cache::MemoryStore::default());
    open(&store, config()).tenant(&tenant("ana")).admit(&new(1, "request", "a", None), 0).unwrap();
    let other =
        reprise_cache::Cache::open(config(), reprise_cache::ModelHash::new([1; 32]), 8, Arc::clone(&store))
            .unwrap();
    assert_eq!(other.stats().examples, 0);
    drop(other);
    assert_eq!(open(&store, config()).stats().examples, 1);
}
