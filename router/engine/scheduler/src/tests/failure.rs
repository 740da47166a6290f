use std::panic::{AssertUnwindSafe, catch_unwind};

use super::simulation::{End, Simulation, at, jobs};
use crate::{
    testing::{Fake, Fault},
    *,
};

fn simulation(seed: u64) -> Simulation {
    let fake = Fake::new("af ag", 20, 30, 4);
    let config = CoreConfig { max_sequences: 4, prefill_chunk: 16, max_rows: 20 };
    let pipeline = Pipeline::new(config, &fake.layout().clone()).expect("valid");
    Simulation::new(pipeline, fake, 64, jobs(seed, 12, 24, false))
}

/// Wherever the backend fails: those in flight end, the others are answered as if nothing had been.
#[test]
fn an_error_ends_the_tick_and_no_more() {
    for call in 1..80 {
        let mut simulation = simulation(call);
        simulation.fake.fail_at(call, Fault::Error);
        simulation.run();
        let ends: Vec<_> = simulation.outcomes.iter().flatten().map(|outcome| outcome.end).collect();
        let failed = ends.iter().filter(|end| **end == End::Failed).count();
        assert!((1..=4).contains(&failed), "call {call}: {ends:?}");
        assert_eq!(ends.iter().filter(|end| **end == End::Finished).count(), 12 - failed);
        assert_eq!(simulation.pipeline.core().kv().held(), 0);
        for (job, outcome) in jobs(call, 12, 24, false).iter().zip(simulation.outcomes.iter().flatten()) {
            let alone = simulation.fake.alone(&job.prompt, job.max_new);
            assert!(alone.starts_with(&outcome.tokens));
        }
    }
}

#[test]
fn a_panic_leaves_a_pipeline_that_works() {
    for call in 1..40 {
        let mut simulation = simulation(call);
        simulation.fake.fail_at(call, Fault::Panic);
        let mut panics = 0;
        while simulation.outcomes.iter().any(Option::is_none) {
            if catch_unwind(AssertUnwindSafe(|| simulation.step())).is_err() {
                panics += 1;
                let ended = simulation.pipeline.fail();
                assert!(!ended.is_empty());
                simulation.failed(&ended);
            }
        }
        assert_eq!(panics, 1, "call {call}");
        assert_eq!(simulation.pipeline.core().kv().held(), 0);
        assert_eq!(simulation.pipeline.executor().in_flight(), 0);
    }
}

#[test]
fn bounds_that_contradict_are_refused() {
    let fake = Fake::new("af", 8, 4, 4);
    let config = CoreConfig { max_sequences: 4, prefill_chunk: 4, max_rows: 8 };
    let error = |change: fn(&mut CoreConfig)| {
        let mut config = config;
        change(&mut config);
        Pipeline::new(config, fake.layout()).err()
    };
    assert_eq!(error(|_| ()), None);
    assert_eq!(error(|c| c.max_sequences = 0), Some(ConfigError::Zero("max_sequences")));
    assert_eq!(error(|c| c.max_rows = 3), Some(ConfigError::Rows { max_rows: 3, max_sequences: 4 }));
    assert_eq!(error(|c| c.max_rows = 9), Some(ConfigError::Arena { rows: 8, max_rows: 9 }));
    let mut idle = Pipeline::new(config, fake.layout()).expect("valid");
    let turn =
        idle.turn(&mut Fake::new("af", 8, 4, 4), at(0), &mut Finished::default()).expect("nothing to do");
    assert_eq!(turn, Turn::default());
}
