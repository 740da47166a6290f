use std::collections::HashSet;

use proptest::prelude::*;
use rand::{Rng, SeedableRng, rngs::SmallRng};

use super::*;

/// Clustered, as texts are.
fn vectors(count: usize, dimensions: usize, seed: u64) -> Vec<UnitVector> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let centres: Vec<Vec<f32>> =
        (0..20).map(|_| (0..dimensions).map(|_| rng.random_range(-1.0..1.0)).collect()).collect();
    (0..count)
        .map(|_| {
            let centre = &centres[rng.random_range(0..centres.len())];
            let noisy = centre.iter().map(|c| c + rng.random_range(-0.6..0.6_f32)).collect();
            UnitVector::try_new(noisy).unwrap()
        })
        .collect()
}

fn exact(rows: &[(ExampleId, UnitVector)], query: &UnitVector, k: usize) -> Vec<ExampleId> {
    let mut all: Vec<_> = rows.iter().map(|(id, vector)| (*id, vector.dot(query))).collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    all.truncate(k);
    all.into_iter().map(|(id, _)| id).collect()
}

#[test]
fn clusters_recall_98_of_100_of_the_ten_nearest() {
    let config = IndexConfig { clusters_from: 1000, ..IndexConfig::default() };
    let index = Index::new(config);
    let rows: Vec<_> =
        vectors(3000, 64, 1).into_iter().map(|vector| (ExampleId::generate(), vector)).collect();
    rows.iter().for_each(|(id, vector)| index.insert(*id, vector.clone(), Instructions::NONE));
    assert!(index.rebuild_if_stale() && index.shape().clusters > 0);
    let queries = vectors(100, 64, 2);
    let hits: usize = queries
        .iter()
        .map(|query| {
            let expected: HashSet<_> = exact(&rows, query, 10).into_iter().collect();
            index
                .nearest(query, 10, -1.0, Instructions::NONE)
                .iter()
                .filter(|(id, _)| expected.contains(id))
                .count()
        })
        .sum();
    assert!(hits >= 980, "recall@10 is {}", hits as f64 / 1000.0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// With inserts, replacements, removals and rebuilds in any order, what is found is what a plain scan finds.
    #[test]
    fn agrees_with_a_plain_scan(steps in prop::collection::vec(0_u8..10, 1..150), seed: u64) {
        // Clusters come in at 40 rows, and all of them are searched.
        let index = Index::new(IndexConfig { clusters_from: 40, outgrown: 1.3, recall: 1.1, ..IndexConfig::default() });
        let pool = vectors(steps.len(), 8, seed);
        let mut rows: Vec<(ExampleId, UnitVector)> = Vec::new();
        let mut rng = SmallRng::seed_from_u64(seed);
        for (step, vector) in steps.iter().zip(&pool) {
            match step {
                0 | 1 if !rows.is_empty() => {
                    let (id, _) = rows.swap_remove(rng.random_range(0..rows.len()));
                    prop_assert!(index.remove(id));
                    prop_assert!(!index.remove(id));
                }
                2 => { index.rebuild_if_stale(); }
                3 if !rows.is_empty() => {
                    let at = rng.random_range(0..rows.len());
                    rows[at].1 = vector.clone();
                    index.insert(rows[at].0, vector.clone(), Instructions::NONE);
                }
                _ => {
                    let id = ExampleId::generate();
                    rows.push((id, vector.clone()));
                    index.insert(id, vector.clone(), Instructions::NONE);
                }
            }
        }
        prop_assert_eq!(index.len(), rows.len());
        for query in pool.iter().take(5) {
            let found: Vec<_> = index.nearest(query, 5, -1.0, Instructions::NONE).into_iter().map(|(id, _)| id).collect();
            prop_assert_eq!(found, exact(&rows, query, 5));
        }
    }
}

#[test]
fn identical_vectors_are_all_found() {
    let index = Index::new(IndexConfig { clusters_from: 100, ..IndexConfig::default() });
    let pool = vectors(300, 32, 5);
    // Half of the rows share three vectors.
    let rows: Vec<_> = (0..600)
        .map(|i| (ExampleId::generate(), pool[if i % 2 == 0 { i % 3 } else { i / 2 }].clone()))
        .collect();
    rows.iter().for_each(|(id, vector)| index.insert(*id, vector.clone(), Instructions::NONE));
    assert!(index.rebuild_if_stale());
    let lost =
        pool.iter().filter(|vector| index.nearest(vector, 1, -1.0, Instructions::NONE)[0].1 < 0.9999).count();
    assert_eq!(lost, 0);
    let of_first = index.nearest(&pool[0], 500, 0.99999, Instructions::NONE).len();
    assert_eq!(of_first, rows.iter().filter(|(_, vector)| *vector == pool[0]).count());
}

#[test]
fn rare_instructions_are_found_however_far_their_lists() {
    let index = Index::new(IndexConfig { clusters_from: 100, ..IndexConfig::default() });
    let rare = Instructions::of(["rare"]);
    let pool = vectors(3000, 32, 9);
    for (i, vector) in pool.iter().enumerate() {
        index.insert(
            ExampleId::generate(),
            vector.clone(),
            if i % 500 == 0 { rare } else { Instructions::NONE },
        );
    }
    assert!(index.rebuild_if_stale());
    assert_eq!(index.nearest(&pool[1], 6, -1.0, rare).len(), 6);
}

#[test]
fn it_is_rebuilt_only_when_outgrown() {
    let index = Index::new(IndexConfig { clusters_from: 200, ..IndexConfig::default() });
    let pool = vectors(500, 16, 6);
    let ids: Vec<_> = pool.iter().map(|_| ExampleId::generate()).collect();
    let add = |range: std::ops::Range<usize>| {
        range.for_each(|i| index.insert(ids[i], pool[i].clone(), Instructions::NONE));
    };
    add(0..199);
    assert!(!index.rebuild_if_stale() && index.shape().clusters == 0);
    add(199..220);
    assert!(index.rebuild_if_stale() && index.shape().clusters > 0);
    add(220..439);
    assert!(!index.rebuild_if_stale());
    add(439..440);
    assert!(index.rebuild_if_stale());
    ids[..300].iter().for_each(|id| assert!(index.remove(*id)));
    // Too few for clusters now.
    assert!(index.rebuild_if_stale() && index.shape().clusters == 0);
}

#[test]
fn where_all_around_died_the_living_farther_off_are_found() {
    let index = Index::new(IndexConfig { clusters_from: 500, outgrown: 10.0, ..IndexConfig::default() });
    let rows: Vec<_> =
        vectors(2000, 32, 4).into_iter().map(|vector| (ExampleId::generate(), vector)).collect();
    rows.iter().for_each(|(id, vector)| index.insert(*id, vector.clone(), Instructions::NONE));
    assert!(index.rebuild_if_stale());
    let query = &rows[0].1;
    let nearest = exact(&rows, query, 600);
    nearest.iter().for_each(|id| assert!(index.remove(*id)));
    assert!(!index.rebuild_if_stale());
    let left: Vec<_> = rows.iter().filter(|(id, _)| !nearest.contains(id)).cloned().collect();
    let expected: HashSet<_> = exact(&left, query, 10).into_iter().collect();
    let hits = index
        .nearest(query, 10, -1.0, Instructions::NONE)
        .iter()
        .filter(|(id, _)| expected.contains(id))
        .count();
    assert!(hits >= 9, "{hits} of 10");
}

#[test]
fn searches_go_on_while_a_generation_is_built() {
    let index = Index::new(IndexConfig { clusters_from: 500, ..IndexConfig::default() });
    let pool = vectors(2000, 32, 3);
    let ids: Vec<_> = pool.iter().map(|_| ExampleId::generate()).collect();
    pool.iter()
        .zip(&ids)
        .take(1500)
        .for_each(|(vector, id)| index.insert(*id, vector.clone(), Instructions::NONE));
    std::thread::scope(|scope| {
        scope.spawn(|| while !index.rebuild_if_stale() {});
        for (vector, id) in pool.iter().zip(&ids).skip(1500) {
            index.insert(*id, vector.clone(), Instructions::NONE);
            let (nearest, similarity) = index.nearest(vector, 1, -1.0, Instructions::NONE)[0];
            assert!(nearest == *id && similarity > 0.999);
        }
    });
    assert_eq!(index.len(), 2000);
    // Every row is still found, whether the generation holds it or not.
    let lost = pool
        .iter()
        .zip(&ids)
        .filter(|(vector, id)| index.nearest(vector, 1, -1.0, Instructions::NONE)[0].0 != **id)
        .count();
    assert!(lost <= 10, "{lost} of 2000 rows are not found");
}
