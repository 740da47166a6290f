use std::collections::{HashMap, HashSet};

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

fn named(vectors: Vec<UnitVector>) -> Vec<(ExampleId, UnitVector)> {
    vectors.into_iter().map(|vector| (ExampleId::generate(), vector)).collect()
}

fn insert_all(index: &Index, rows: &[(ExampleId, UnitVector)]) {
    rows.iter().for_each(|(id, vector)| index.insert(*id, vector.clone(), Instructions::NONE));
}

fn exact(rows: &[(ExampleId, UnitVector)], query: &UnitVector, k: usize) -> Vec<ExampleId> {
    let mut all: Vec<_> = rows.iter().map(|(id, vector)| (*id, vector.dot(query))).collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    all.truncate(k);
    all.into_iter().map(|(id, _)| id).collect()
}

fn ids(found: Vec<(ExampleId, f32)>) -> Vec<ExampleId> {
    found.into_iter().map(|(id, _)| id).collect()
}

fn recall(index: &Index, rows: &[(ExampleId, UnitVector)], queries: &[UnitVector]) -> f64 {
    let found = |query: &UnitVector| {
        let expected: HashSet<_> = exact(rows, query, 10).into_iter().collect();
        let found = index.nearest(query, 10, -1.0, Instructions::NONE);
        found.iter().filter(|(id, _)| expected.contains(id)).count()
    };
    queries.iter().map(found).sum::<usize>() as f64 / (10 * queries.len()) as f64
}

#[test]
fn lists_recall_98_of_100_of_the_ten_nearest() {
    let rows = named(vectors(3000, 64, 1));
    // Lists of a dozen over twenty wide clusters: harder than texts.
    for (graph_from, probes) in [(usize::MAX, 64), (1, 64)] {
        let config =
            IndexConfig { ivf_from: 1000, probes, graph_from, ef_search: 128, ..IndexConfig::default() };
        let index = Index::new(config);
        insert_all(&index, &rows);
        assert!(index.rebuild_if_stale() && index.has_centres());
        let recall = recall(&index, &rows, &vectors(100, 64, 2));
        assert!(recall >= 0.98, "recall@10 is {recall}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// With inserts, replacements, removals and rebuilds in any order, what is found is what a plain scan finds, without
    /// centres and where all lists are read.
    #[test]
    fn agrees_with_a_plain_scan(
        steps in prop::collection::vec(0_u8..10, 1..150), seed: u64, graph_from in prop::sample::select(vec![1, 1000]),
    ) {
        let index = Index::new(IndexConfig { ivf_from: 40, probes: 1000, graph_from, ..IndexConfig::default() });
        let pool = vectors(steps.len(), 8, seed);
        let mut rows: Vec<(ExampleId, UnitVector)> = Vec::new();
        let mut rng = SmallRng::seed_from_u64(seed);
        for (step, vector) in steps.iter().zip(&pool) {
            match step {
                0 | 1 if !rows.is_empty() => {
                    let (id, vector) = rows.swap_remove(rng.random_range(0..rows.len()));
                    prop_assert!(index.remove(id, &vector, Instructions::NONE));
                    prop_assert!(!index.remove(id, &vector, Instructions::NONE));
                }
                2 => { index.rebuild_if_stale(); }
                3 if !rows.is_empty() => {
                    let at = rng.random_range(0..rows.len());
                    prop_assert!(index.remove(rows[at].0, &rows[at].1, Instructions::NONE));
                    rows[at].1 = vector.clone();
                    index.insert(rows[at].0, vector.clone(), Instructions::NONE);
                }
                _ => {
                    rows.push((ExampleId::generate(), vector.clone()));
                    insert_all(&index, &rows[rows.len() - 1..]);
                }
            }
        }
        prop_assert_eq!(index.len(), rows.len());
        for query in pool.iter().take(5) {
            prop_assert_eq!(ids(index.nearest(query, 5, -1.0, Instructions::NONE)), exact(&rows, query, 5));
        }
    }
}

#[test]
fn identical_vectors_are_all_found() {
    let index = Index::new(IndexConfig { ivf_from: 100, ..IndexConfig::default() });
    let pool = vectors(300, 32, 5);
    // Half of the rows share three vectors.
    let rows = named((0..600).map(|i| pool[if i % 2 == 0 { i % 3 } else { i / 2 }].clone()).collect());
    insert_all(&index, &rows);
    assert!(index.rebuild_if_stale() && index.has_centres());
    let lost = pool.iter().filter(|vector| index.nearest(vector, 1, -1.0, Instructions::NONE)[0].1 < 0.9999);
    assert_eq!(lost.count(), 0);
    let of_first = index.nearest(&pool[0], 500, 0.99999, Instructions::NONE).len();
    assert_eq!(of_first, rows.iter().filter(|(_, vector)| *vector == pool[0]).count());
}

#[test]
fn one_vector_a_thousand_times_is_one_list() {
    let index = Index::new(IndexConfig { ivf_from: 100, ..IndexConfig::default() });
    let rows = named(vec![vectors(1, 16, 6)[0].clone(); 1000]);
    insert_all(&index, &rows);
    assert!(index.rebuild_if_stale());
    assert_eq!(index.nearest(&rows[0].1, 2000, 0.9, Instructions::NONE).len(), 1000);
}

#[test]
fn where_all_around_went_those_farther_off_are_found() {
    let index = Index::new(IndexConfig { ivf_from: 500, probes: 64, ..IndexConfig::default() });
    let rows = named(vectors(2000, 32, 4));
    insert_all(&index, &rows);
    assert!(index.rebuild_if_stale());
    let nearest: HashSet<_> = exact(&rows, &rows[0].1, 300).into_iter().collect();
    let (gone, left): (Vec<_>, Vec<_>) = rows.iter().cloned().partition(|(id, _)| nearest.contains(id));
    gone.iter().for_each(|(id, vector)| assert!(index.remove(*id, vector, Instructions::NONE)));
    let queries: Vec<UnitVector> = gone.into_iter().map(|(_, vector)| vector).collect();
    assert!(queries.iter().all(|query| index.nearest(query, 10, -1.0, Instructions::NONE).len() == 10));
    let recall = recall(&index, &left, &queries);
    assert!(recall >= 0.9, "{recall}");
}

#[test]
fn other_instructions_and_other_dimensions_are_other_groups() {
    let index = Index::default();
    let under = Instructions::of(["Translate."]);
    let (plain, short) = (named(vectors(5, 16, 7)), named(vectors(5, 8, 8)));
    insert_all(&index, &plain);
    insert_all(&index, &short);
    plain.iter().for_each(|(_, vector)| index.insert(ExampleId::generate(), vector.clone(), under));
    let found: HashSet<_> =
        ids(index.nearest(&plain[0].1, 50, -1.0, Instructions::NONE)).into_iter().collect();
    assert_eq!(found, plain.iter().map(|(id, _)| *id).collect());
    assert_eq!(index.nearest(&plain[0].1, 50, -1.0, under).len(), 5);
    assert_eq!(index.len(), 15);
    short.iter().for_each(|(id, vector)| assert!(index.remove(*id, vector, Instructions::NONE)));
    assert_eq!((index.len(), index.groups.read().len()), (10, 2));
}

#[test]
fn the_lists_follow_the_number_of_vectors_up_and_down() {
    let index = Index::new(IndexConfig { ivf_from: 100, ..IndexConfig::default() });
    let rows = named(vectors(1000, 16, 9));
    insert_all(&index, &rows[..99]);
    assert!(!index.rebuild_if_stale());
    insert_all(&index, &rows[99..150]);
    assert!(index.rebuild_if_stale() && index.has_centres() && !index.rebuild_if_stale());
    insert_all(&index, &rows[150..]);
    assert!(index.rebuild_if_stale() && !index.rebuild_if_stale());
    rows[40..].iter().for_each(|(id, vector)| assert!(index.remove(*id, vector, Instructions::NONE)));
    assert!(index.rebuild_if_stale() && !index.has_centres() && !index.rebuild_if_stale());
    assert_eq!(
        ids(index.nearest(&rows[0].1, 50, -1.0, Instructions::NONE)),
        exact(&rows[..40], &rows[0].1, 50)
    );
}

#[test]
fn searches_and_changes_go_on_while_a_generation_is_built() {
    let index = Index::new(IndexConfig { ivf_from: 500, graph_from: 100, ..IndexConfig::default() });
    let rows = named(vectors(2400, 32, 3));
    insert_all(&index, &rows[..1500]);
    std::thread::scope(|scope| {
        scope.spawn(|| while !index.rebuild_if_stale() {});
        for (at, (id, vector)) in rows.iter().enumerate().skip(1500) {
            index.insert(*id, vector.clone(), Instructions::NONE);
            let (nearest, similarity) = index.nearest(vector, 1, -1.0, Instructions::NONE)[0];
            assert!(nearest == *id && similarity > 0.999);
            // Every other of the first that is removed comes back.
            let (old, vector) = &rows[at - 1500];
            assert!(index.remove(*old, vector, Instructions::NONE));
            if at % 2 == 0 {
                index.insert(*old, vector.clone(), Instructions::NONE);
            }
        }
    });
    let left: HashMap<_, _> = rows
        .iter()
        .enumerate()
        .filter(|(at, _)| *at >= 900 || at % 2 == 0)
        .map(|(_, row)| row.clone())
        .collect();
    assert_eq!(index.len(), left.len());
    for (id, vector) in &rows {
        let found = index.nearest(vector, 1, -1.0, Instructions::NONE)[0];
        assert_eq!(found.0 == *id, left.contains_key(id));
    }
    assert!(index.has_centres());
}
