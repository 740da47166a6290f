use proptest::prelude::*;
use reprise_cache::{ExampleChange, Order, Outcome};

use crate::support::*;

#[test]
fn a_handle_reaches_nothing_of_another_tenant() {
    let cache = in_memory(config());
    let (ana, bob) = (cache.tenant(&tenant("ana")), cache.tenant(&tenant("bob")));
    let secret = inserted(ana.admit(&new(1, "secret request", "secret answer", None), 0).unwrap());
    ana.put_exact(&fingerprint(1), answer("secret", 0)).unwrap();

    assert!(bob.nearest(&vector(1), 10).is_empty());
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
                    2 => if let Some(first) = handle.nearest(&vector(seed), 1).first() {
                        handle.delete(first.example.id).unwrap();
                    },
                    _ => drop(handle.forget(&fingerprint(seed)).unwrap()),
                }
                let mut nearest: Vec<_> = handle.nearest(&vector(seed), 20).into_iter()
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
