use std::sync::atomic::{AtomicBool, Ordering};

use reprise_cache::{CacheConfig, IndexConfig, Outcome};

use crate::support::*;

#[test]
fn readers_see_whole_entries_while_a_writer_inserts_and_maintenance_runs() {
    let index = IndexConfig { ivf_from: 200, ..IndexConfig::default() };
    let cache = in_memory(CacheConfig { index, byte_budget: 400_000, ..config() });
    let ana = cache.tenant(&tenant("ana"));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for reader in 0..2 {
            let (ana, done) = (ana.clone(), &done);
            scope.spawn(move || {
                let mut seed = reader;
                while !done.load(Ordering::Acquire) {
                    seed = (seed + 7) % 1500;
                    let found = ana.nearest(&vector(seed), 8, Instructions::NONE);
                    assert!(found.windows(2).all(|pair| pair[0].similarity >= pair[1].similarity));
                    for candidate in found {
                        let exact = candidate.example.embedding.dot(&vector(seed));
                        assert!((candidate.similarity - exact).abs() < 1e-6);
                        assert_eq!(candidate.example.request.replace("r ", "a "), candidate.example.answer);
                        ana.credit(
                            &[candidate.example.id],
                            &Outcome { quality: None, cost: 0.5, offloaded: true },
                            0,
                        );
                    }
                }
            });
        }
        let (cache, maintained) = (&cache, &done);
        scope.spawn(move || {
            while !maintained.load(Ordering::Acquire) {
                cache.maintain(HOUR_MS).unwrap();
                cache.flush().unwrap();
            }
        });
        for seed in 0..1500 {
            let new = new(seed, &format!("r {seed}"), &format!("a {seed}"), None);
            let id = inserted(ana.admit(&new, HOUR_MS - 1).unwrap());
            if seed % 5 == 0 {
                ana.delete(id).unwrap();
            }
        }
        done.store(true, Ordering::Release);
    });
    cache.maintain(HOUR_MS).unwrap();
    let stats = cache.stats();
    assert!(stats.bytes <= stats.byte_budget && stats.examples > 0);
    // Index and map hold the same.
    assert_eq!(ana.nearest(&vector(1), 5000, Instructions::NONE).len(), stats.examples);
}
