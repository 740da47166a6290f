use rand::Rng;
use reprise_cache::UnitVector;
use reprise_cache::selection::utility::SCALARS;

use super::network::{Network, Shape};
use super::rows::Rows;
use super::*;
use crate::harness::outcome::ShownExample;
use crate::harness::table::Key;
use crate::harness::testing;

const DIMENSIONS: usize = 12;

fn vector(rng: &mut impl Rng) -> Vec<f32> {
    let values = (0..DIMENSIONS).map(|_| rng.random_range(-1.0..1.0)).collect();
    UnitVector::try_new(values).unwrap().as_slice().to_vec()
}

/// Outcomes of a world in which likeness says nothing: an example helps if it lies on the request's side of one axis.
fn world(requests: usize, seed: u64) -> (Vec<Outcome>, Table<Vector>, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let mut table = Table::open(&dir.path().join("vectors.jsonl")).unwrap();
    let mut rng = seeded(seed);
    let mut outcomes = Vec::new();
    for request in 0..requests {
        let asked = vector(&mut rng);
        let key = Key::of(&["request", &request.to_string()]);
        table.append(Vector { key: key.clone(), values: asked.clone() }).unwrap();
        for arm in 0..4 {
            let shown = vector(&mut rng);
            let example = Key::of(&["example", &request.to_string(), &arm.to_string()]);
            table.append(Vector { key: example.clone(), values: shown.clone() }).unwrap();
            let helps = asked[0] * shown[0] > 0.0;
            outcomes.push(outcome(request, arm, &key, Some(example), rng.random_range(0.3..0.9), helps));
        }
        outcomes.push(outcome(request, 9, &key, None, 0.0, false));
    }
    (outcomes, table, dir)
}

fn outcome(
    request: usize,
    arm: usize,
    vector: &Key,
    example: Option<Key>,
    similarity: f32,
    good: bool,
) -> Outcome {
    let shown = |vector| ShownExample { bytes: 80, ..testing::shown(vector, similarity) };
    Outcome {
        run: Key::of(&["run", &request.to_string(), &arm.to_string()]),
        vector: vector.clone(),
        examples: example.into_iter().map(shown).collect(),
        prompt_tokens: 30,
        ..testing::outcome(&format!("r{request}"), "small", &format!("rank-{arm}"), f64::from(u8::from(good)))
    }
}

#[test]
fn the_gradient_is_that_of_finite_differences() {
    let (outcomes, table, _dir) = world(3, 4);
    let rows = Rows::from_outcomes(&outcomes, &table, 1).unwrap();
    let mut network = Network::new(Shape { dimensions: DIMENSIONS, projected: 3, hidden: 4 }, &mut seeded(2));
    let mut row = rows.rows[5].clone();
    (row.label, row.weight) = (0.3, 0.5);
    let mut gradient = vec![0.0; network.parameters()];
    network.learn_from(&rows, &row, &mut gradient);
    let step = 1e-6;
    for index in 0..network.parameters() {
        let kept = network.parameters[index];
        let mut at = |value: f64| {
            network.parameters[index] = value;
            network.learn_from(&rows, &row, &mut vec![0.0; gradient.len()])
        };
        let slope = (at(kept + step) - at(kept - step)) / (2.0 * step);
        network.parameters[index] = kept;
        assert!((slope - gradient[index]).abs() < 1e-5, "{index}: {slope} {}", gradient[index]);
    }
}

#[test]
fn what_is_trained_is_what_the_cache_computes() {
    let (outcomes, table, _dir) = world(5, 8);
    let rows = Rows::from_outcomes(&outcomes, &table, 1).unwrap();
    let network = Network::new(Shape { dimensions: DIMENSIONS, projected: 5, hidden: 6 }, &mut seeded(3));
    let model = network.clone().into_model(Calibration::identity(), 0.5, String::new()).unwrap();
    for row in &rows.rows {
        let (asked, shown) = (model.project(rows.vector(row.asked)), model.project(rows.vector(row.shown)));
        let served = f64::from(model.raw(&asked, &shown, &row.scalars));
        assert!((served - network.score(&rows, row)).abs() < 1e-5);
    }
    assert_eq!(model.weights().direct.len(), SCALARS);
}

#[test]
fn it_learns_what_likeness_cannot_tell_and_says_so_on_unseen_requests() {
    let (outcomes, table, _dir) = world(500, 5);
    let training = Training { projected: 8, hidden: 16, decay: 0.001, ..Training::default() };
    let (model, report) = learn(&outcomes, &table, &training).unwrap();
    assert!(report.model.order_within_request.unwrap() > 0.8, "{report:?}");
    assert!(report.prior.order_within_request.unwrap() < 0.6, "{report:?}");
    assert!(report.model.brier < report.prior_calibrated.brier - 0.05, "{report:?}");
    assert!(report.model.ece < 0.1, "{report:?}");
    assert!((0.0..1.0).contains(&model.weights().tau));
    // The same bits again.
    assert_eq!(learn(&outcomes, &table, &training).unwrap().0, model);
}

#[test]
fn few_outcomes_are_refused() {
    let (outcomes, table, _dir) = world(10, 5);
    assert!(learn(&outcomes, &table, &Training::default()).is_err());
}
