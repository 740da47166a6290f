use std::sync::Arc;

use proptest::prelude::*;
use reprise_cache::{
    Admission, CacheConfig, ExampleChange, IndexConfig, MemoryStore, NewExample, Order, Outcome, Store,
};

use crate::support::*;

#[test]
fn a_handle_reaches_nothing_of_another_tenant() {
    let cache = in_memory(config());
    let (ana, bob) = (cache.tenant(&tenant("ana")), cache.tenant(&tenant("bob")));
    let secret = inserted(ana.admit(&new(1, "secret request", "secret answer", None), 0).unwrap());
    ana.put_exact(&fingerprint(1), answer("secret", 0)).unwrap();

    assert!(bob.nearest(&vector(1), 10, Instructions::NONE).is_empty());
    assert!(bob.exact(&fingerprint(1), None, 0).is_none());
    assert!(bob.get(secret).is_none());
    assert!(bob.list(Order::Recent, 10, None, 0).examples.is_empty());
    assert!(bob.update(secret, &ExampleChange::default(), 1).is_err());
    assert!(!bob.delete(secret).unwrap());
    assert!(!bob.forget(&fingerprint(1)).unwrap());
    bob.credit(&[secret], &Outcome { quality: Some(1.0), cost: 1.0, offloaded: true }, 1);
    assert_eq!(bob.clear().unwrap(), 0);

    assert_eq!(ana.get(secret).unwrap().uses, 0);
    assert_eq!(ana.exact(&fingerprint(1), None, 0).unwrap().text, "secret");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Whatever is done, each tenant finds just what it would find alone.
    #[test]
    fn tenants_side_by_side_are_as_tenants_alone(steps in prop::collection::vec((0_usize..3, 0_u8..4, 0_u64..12), 1..60)) {
        let names = ["a", "a.b", "b"];
        let together = in_memory(config());
        let alone = [in_memory(config()), in_memory(config()), in_memory(config())];
        for (who, what, seed) in steps {
            let mut seen = Vec::new();
            for cache in [&together, &alone[who]] {
                let handle = cache.tenant(&tenant(names[who]));
                match what {
                    0 => drop(handle.admit(&new(seed, &format!("request {seed}"), names[who], None), 1).unwrap()),
                    1 => drop(handle.put_exact(&fingerprint(seed), answer(names[who], 1)).unwrap()),
                    2 => if let Some(first) = handle.nearest(&vector(seed), 1, Instructions::NONE).first() {
                        handle.delete(first.example.id).unwrap();
                    },
                    _ => drop(handle.forget(&fingerprint(seed)).unwrap()),
                }
                let mut nearest: Vec<_> = handle.nearest(&vector(seed), 20, Instructions::NONE).into_iter()
                    .map(|candidate| (candidate.example.request.clone(), candidate.example.answer.clone())).collect();
                nearest.sort();
                prop_assert!(nearest.iter().all(|(_, answer)| answer == names[who]));
                let exact = handle.exact(&fingerprint(seed), None, 1).map(|answer| answer.text.clone());
                seen.push((nearest, exact));
            }
            prop_assert_eq!(&seen[0], &seen[1]);
        }
    }
}

#[test]
fn an_example_is_found_under_its_own_instructions_alone() {
    let french = Instructions::of(["Answer in French."]);
    for from in [usize::MAX, 2] {
        let index = IndexConfig { ivf_from: from, ..IndexConfig::default() };
        let cache = in_memory(CacheConfig { index, ..config() });
        let ana = cache.tenant(&tenant("ana"));
        let plain = inserted(ana.admit(&new(1, "capital of Italy?", "Rome", None), 0).unwrap());
        // The very same question: no twin of the one above, since its answer answers another request.
        let under =
            NewExample { instructions: french, ..new(1, "capital of Italy?", "Rome, en Italie", None) };
        let other = inserted(ana.admit(&under, 0).unwrap());
        cache.maintain(1).unwrap();

        let found = |under| -> Vec<_> {
            ana.nearest(&vector(1), 10, under).iter().map(|candidate| candidate.example.id).collect()
        };
        assert_eq!(found(Instructions::NONE), [plain]);
        assert_eq!(found(french), [other]);
        assert!(found(Instructions::of(["Answer in German."])).is_empty());
        assert!(matches!(ana.admit(&under, 0).unwrap(), Admission::Merged(id) if id == other));
    }
}

#[test]
fn instructions_are_stored_with_the_example() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let french = Instructions::of(["Answer in French."]);
    let new = NewExample { instructions: french, ..new(1, "r", "a", None) };
    let id = inserted(open(&store, config()).tenant(&tenant("ana")).admit(&new, 0).unwrap());
    let ana = open(&store, config()).tenant(&tenant("ana"));
    assert_eq!(ana.nearest(&vector(1), 10, french)[0].example.id, id);
    assert!(ana.nearest(&vector(1), 10, Instructions::NONE).is_empty());
}
