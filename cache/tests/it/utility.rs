//! Utility models are installed under numbers, survive a restart and can be set back.

use std::sync::Arc;

use reprise_cache::{
    Cache, CacheError, MemoryStore, ModelHash, Store,
    selection::{
        Query, UtilityModel,
        utility::{Calibration, SCALARS, Weights},
    },
};

use crate::support::{DIMENSIONS, config, in_memory, new, open, tenant, vector};

/// Scores all alike.
fn model(dimensions: usize, bias: f32) -> UtilityModel {
    UtilityModel::try_new(Weights {
        dimensions,
        projection: vec![0.0; dimensions],
        hidden: vec![0.0; 2 + SCALARS],
        hidden_bias: vec![0.0],
        output: vec![0.0],
        direct: vec![0.0; SCALARS],
        bias,
        calibration: Calibration::identity(),
        tau: 0.25,
        trained_on: format!("bias {bias}"),
    })
    .unwrap()
}

fn score(cache: &Cache) -> f32 {
    let tenant = cache.tenant(&tenant("a"));
    let query = vector(1);
    let found = tenant.nearest(&query, 1, reprise_cache::Instructions::NONE);
    let candidates: Vec<_> = found.iter().collect();
    let query = Query { embedding: &query, bytes: 8, strength: 0.0 };
    cache.utility().utility.scores(&query, &candidates)[0]
}

#[test]
fn versions_survive_a_restart_and_are_set_back() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let cache = open(&store, config());
    cache.tenant(&tenant("a")).admit(&new(1, "q", "a", Some(1.0)), 0).unwrap();
    let prior = score(&cache);
    assert_eq!(cache.install_utility(model(DIMENSIONS, 3.0)).unwrap(), 1);
    assert_eq!(cache.install_utility(model(DIMENSIONS, -3.0)).unwrap(), 2);
    assert!(score(&cache) < 0.1);

    let cache = open(&store, config());
    assert_eq!(cache.utility().version, 2);
    assert!(score(&cache) < 0.1);
    assert!(cache.activate_utility(1).unwrap());
    assert!(score(&cache) > 0.9);
    assert!(!cache.activate_utility(7).unwrap());
    assert_eq!(cache.utility().version, 1);

    let cache = open(&store, config());
    let rows = cache.utility_versions().unwrap();
    assert_eq!(rows.iter().map(|row| (row.version, row.active)).collect::<Vec<_>>(), [(1, true), (2, false)]);
    assert!(cache.activate_utility(0).unwrap());
    assert!((score(&cache) - prior).abs() < 1e-6);
    assert_eq!(open(&store, config()).utility().version, 0);
}

#[test]
fn another_embedders_model_is_refused_or_a_miss() {
    let cache = in_memory(config());
    let refused = cache.install_utility(model(DIMENSIONS + 1, 0.0)).unwrap_err();
    assert!(matches!(refused, CacheError::Dimensions { .. }));

    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    open(&store, config()).install_utility(model(DIMENSIONS, 1.0)).unwrap();
    let other = Cache::open(config(), ModelHash::new([1; 32]), DIMENSIONS, Arc::clone(&store)).unwrap();
    assert_eq!(other.utility().version, 0);
}

#[test]
fn old_versions_go_but_never_the_one_that_scores() {
    let cache = in_memory(config());
    cache.install_utility(model(DIMENSIONS, 1.0)).unwrap();
    for _ in 0..12 {
        cache.install_utility(model(DIMENSIONS, 2.0)).unwrap();
        cache.activate_utility(1).unwrap();
    }
    let versions: Vec<u32> = cache.utility_versions().unwrap().iter().map(|row| row.version).collect();
    assert!(versions.contains(&1) && versions.contains(&13) && versions.len() <= 8, "{versions:?}");
}

#[test]
fn another_gateway_on_the_same_store_takes_it_over() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let (one, two) = (open(&store, config()), open(&store, config()));
    one.install_utility(model(DIMENSIONS, 1.0)).unwrap();
    two.follow().unwrap();
    assert_eq!(two.utility().version, 1);
}
