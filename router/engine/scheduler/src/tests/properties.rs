use proptest::prelude::*;

use super::simulation::{End, Job, Shuffled, Simulation, jobs};
use crate::{testing::Fake, *};

/// What holds of every run, whatever came when.
fn check(simulation: &Simulation, jobs: &[Job], fake: &Fake) -> Result<(), TestCaseError> {
    let core = simulation.pipeline.core();
    prop_assert_eq!((core.len(), core.kv().held(), core.kv().free()), (0, 0, core.kv().len()));
    prop_assert_eq!(simulation.pipeline.executor().in_flight(), 0);
    prop_assert!(simulation.waiting.is_empty());
    for (job, outcome) in jobs.iter().zip(&simulation.outcomes) {
        let outcome = outcome.as_ref().expect("the run is over");
        let alone = fake.alone(&job.prompt, job.max_new);
        match outcome.end {
            End::Finished => prop_assert_eq!(&outcome.tokens, &alone),
            _ => prop_assert!(alone.starts_with(&outcome.tokens)),
        }
        // Nobody is late in silence: the end comes in the very tick of the deadline or the cancellation.
        let due = [job.deadline, job.cancel].into_iter().flatten().min();
        match (outcome.end, due) {
            (End::Expired | End::Cancelled, due) => prop_assert_eq!(Some(outcome.ended), due),
            (End::Finished, Some(due)) => prop_assert!(outcome.ended < due),
            _ => {}
        }
    }
    Ok(())
}

fn run(
    letters: &str,
    blocks: usize,
    config: CoreConfig,
    schedule: Option<u64>,
    jobs: &[Job],
) -> (Simulation, Fake) {
    let fake = || Fake::new(letters, config.max_rows, blocks, 4);
    let layout = fake().layout().clone();
    let pipeline = match schedule {
        None => Pipeline::new(config, &layout),
        Some(seed) => Pipeline::with_schedule(config, &layout, Box::new(Shuffled::new(seed))),
    };
    let mut simulation = Simulation::new(pipeline.expect("valid"), fake(), jobs.len(), jobs.to_vec());
    simulation.run();
    (simulation, fake())
}

/// With a backend that computes whole steps.
fn run_steps(letters: &str, blocks: usize, config: CoreConfig, jobs: &[Job]) -> (Simulation, Fake) {
    let fake = || Fake::new(letters, config.max_rows, blocks, 4).with_steps();
    let pipeline = Pipeline::new(config, &fake().layout().clone()).expect("valid");
    let mut simulation = Simulation::new(pipeline, fake(), jobs.len(), jobs.to_vec());
    simulation.run();
    (simulation, fake())
}

fn bounds() -> impl Strategy<Value = CoreConfig> {
    (1usize..8, 1usize..20, 0usize..12).prop_map(|(max_sequences, prefill_chunk, more)| CoreConfig {
        max_sequences,
        prefill_chunk,
        max_rows: max_sequences + more,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    /// Pools from one that just holds the longest sequence (48 tokens), with preemptions all the time, to an ample one.
    #[test]
    fn tokens_do_not_depend_on_batch_mates(
        seed in any::<u64>(), blocks in 12usize..60, config in bounds(), count in 1usize..24,
    ) {
        let jobs = jobs(seed, count, 24, true);
        let (simulation, fake) = run("af ag", blocks, config, None, &jobs);
        check(&simulation, &jobs, &fake)?;
    }

    #[test]
    fn tokens_do_not_depend_on_the_schedule(
        seed in any::<u64>(), blocks in 12usize..60, config in bounds(), count in 1usize..16,
    ) {
        let jobs = jobs(seed, count, 24, true);
        let (simulation, fake) = run("ag af ag", blocks, config, Some(seed), &jobs);
        check(&simulation, &jobs, &fake)?;
    }

    #[test]
    fn whole_steps_give_the_same_tokens(
        seed in any::<u64>(), blocks in 12usize..60, config in bounds(), count in 1usize..24,
    ) {
        let jobs = jobs(seed, count, 24, true);
        let (simulation, fake) = run_steps("af ag", blocks, config, &jobs);
        check(&simulation, &jobs, &fake)?;
    }

    #[test]
    fn without_cancels_all_finish(
        seed in any::<u64>(), blocks in 12usize..30, config in bounds(), shuffled in any::<bool>(),
    ) {
        let jobs = jobs(seed, 16, 24, false);
        let (simulation, fake) = run("af g", blocks, config, shuffled.then_some(seed), &jobs);
        check(&simulation, &jobs, &fake)?;
        prop_assert!(simulation.outcomes.iter().flatten().all(|outcome| outcome.end == End::Finished));
    }
}

/// One turn a tick, where queue by queue it takes one for the embedding, each sub-layer and the head.
#[test]
fn whole_steps_take_one_turn() {
    let config = CoreConfig { max_sequences: 1, prefill_chunk: 64, max_rows: 65 };
    let job = |max_new| Job {
        arrival: 0,
        prompt: (0..9).collect(),
        max_new,
        priority: Priority::Interactive,
        scope: 0,
        cancel: None,
        deadline: None,
    };
    // One of even length, whose tokens the backend chooses, and one of odd.
    for max_new in [6, 7] {
        let (simulation, _) = run_steps("afaf", 40, config, &[job(max_new)]);
        assert_eq!(simulation.now, max_new as u64);
    }
}

#[test]
fn the_cases_hold_preemptions_and_shared_blocks() {
    let config = CoreConfig { max_sequences: 6, prefill_chunk: 16, max_rows: 22 };
    let jobs = jobs(1, 24, 24, false);
    let (simulation, _) = run("af ag", 14, config, None, &jobs);
    let counts = simulation.pipeline.core().counts();
    assert!(counts.preemptions > 5, "{counts:?}");
    assert!(counts.shared_tokens > 50, "{counts:?}");
}

#[test]
fn what_can_never_fit_is_refused_before_it_starts() {
    let config = CoreConfig { max_sequences: 2, prefill_chunk: 16, max_rows: 22 };
    let mut jobs = jobs(1, 3, 24, false);
    jobs[0].prompt = vec![1; 30];
    jobs[0].max_new = 19;
    jobs[1].prompt.clear();
    let (simulation, _) = run("af", 12, config, None, &jobs);
    let end = |job: usize| simulation.outcomes[job].as_ref().map(|outcome| (outcome.end, outcome.started));
    assert_eq!(end(0), Some((End::Never(StartError::Context { tokens: 49, context_length: 48 }), None)));
    assert_eq!(end(1), Some((End::Never(StartError::Empty), None)));
    assert!(matches!(end(2), Some((End::Finished, _))));

    let layout = ModelLayout { context_length: 1000, ..Fake::new("af", 22, 12, 4).layout().clone() };
    let core = Core::new(config, &layout).expect("valid");
    assert_eq!(core.check(30, 19), Err(StartError::Kv { tokens: 49, needed: 13, blocks: 12 }));
    assert_eq!(core.check(30, 18), Ok(()));
}

#[test]
fn a_prompt_is_computed_once_for_one_tenant_and_again_for_another() {
    let config = CoreConfig { max_sequences: 4, prefill_chunk: 64, max_rows: 68 };
    let attended = |scopes: &[u64]| {
        let job = |(at, scope): (usize, &u64)| Job {
            arrival: at as u64 * 40,
            prompt: (0..33).collect(),
            max_new: 1,
            priority: Priority::Interactive,
            scope: *scope,
            cancel: None,
            deadline: None,
        };
        let jobs: Vec<_> = scopes.iter().enumerate().map(job).collect();
        run("af", 40, config, None, &jobs).0.fake.attended
    };
    assert_eq!(attended(&[7]), 33);
    // The last token alone.
    assert_eq!(attended(&[7, 7]), 33 + 1);
    assert_eq!(attended(&[7, 8]), 33 + 33);
}
