use std::sync::{Arc, atomic::Ordering};

use reprise_cache::{CacheError, ExampleChange, Store};

use crate::support::*;

#[test]
fn with_a_full_disk_the_cache_reads_on_says_so_and_recovers() {
    let disk = Arc::new(FullDisk::default());
    let cache = open(&(Arc::clone(&disk) as Arc<dyn Store>), config());
    let ana = cache.tenant(&tenant("ana"));
    let id = inserted(ana.admit(&new(1, "before", "a", None), 0).unwrap());
    ana.put_exact(&fingerprint(1), answer("a", 0)).unwrap();

    disk.full.store(true, Ordering::Relaxed);
    let refused =
        |result: Result<(), CacheError>| assert!(matches!(result, Err(CacheError::Store(_))), "{result:?}");
    refused(ana.admit(&new(2, "during", "a", None), 1).map(|_| ()));
    refused(ana.put_exact(&fingerprint(2), answer("b", 0)).map(|_| ()));
    let change = ExampleChange { answer: Some("changed".into()), ..ExampleChange::default() };
    refused(ana.update(id, &change, 1).map(|_| ()));
    refused(ana.delete(id).map(|_| ()));
    ana.credit(&[id], &reprise_cache::Outcome { quality: None, cost: 1.0, offloaded: true }, 2);
    refused(cache.flush());
    assert!(cache.stats().degraded);
    // What was there is there, unchanged, and what was refused is nowhere.
    assert_eq!(ana.get(id).unwrap().answer, "a");
    assert_eq!(ana.nearest(&vector(1), 10, Instructions::NONE).len(), 1);
    assert!(ana.exact(&fingerprint(1), None, 0).is_some() && ana.exact(&fingerprint(2), None, 0).is_none());

    disk.full.store(false, Ordering::Relaxed);
    cache.flush().unwrap();
    assert!(!cache.stats().degraded);
    // The credit that could not be stored was kept for the next flush.
    let again = open(&(disk as Arc<dyn Store>), config());
    assert_eq!(again.tenant(&tenant("ana")).get(id).unwrap().uses, 1);
}
