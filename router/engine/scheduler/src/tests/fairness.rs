use super::simulation::{End, Job, Simulation};
use crate::{core::Room, testing::Fake, *};

fn job(arrival: u64, prompt: usize, max_new: usize, priority: Priority) -> Job {
    let first = u32::try_from(arrival % 40).expect("small");
    let prompt = (first..).take(prompt).map(|token| token % 40).collect();
    Job { arrival, prompt, max_new, priority, scope: arrival, cancel: None, deadline: None }
}

fn simulation(config: CoreConfig, blocks: usize, queue: usize, jobs: &[Job]) -> Simulation {
    let fake = Fake::new("af", config.max_rows, blocks, 4);
    let pipeline = Pipeline::new(config, &fake.layout().clone()).expect("valid");
    Simulation::new(pipeline, fake, queue, jobs.to_vec())
}

const SUB_LAYERS: u64 = 4;

/// With prompts that keep coming, whoever generates gets a token in every tick.
#[test]
fn sixty_four_at_once_and_none_starves() {
    let config = CoreConfig { max_sequences: 16, prefill_chunk: 32, max_rows: 48 };
    let jobs: Vec<_> = (0..64).map(|i| job(i % 3, 20 + i as usize, 24, Priority::Interactive)).collect();
    let mut simulation = simulation(config, 16 * 32, 64, &jobs);
    simulation.run();
    for (index, job) in jobs.iter().enumerate() {
        let outcome = simulation.outcomes[index].as_ref().expect("ended");
        assert_eq!(outcome.end, End::Finished);
        let served: Vec<_> = (0u64..)
            .zip(&simulation.served)
            .filter(|(_, served)| served.contains(&index))
            .map(|(tick, _)| tick)
            .collect();
        assert_eq!(served.len(), job.max_new);
        // A turn is one queue, a tick all of them: embedding, sub-layers, head.
        assert!(served.windows(2).all(|pair| pair[1] - pair[0] <= SUB_LAYERS), "{index}: {served:?}");
    }
    // First come, first served.
    let mut starts: Vec<_> = jobs
        .iter()
        .zip(&simulation.outcomes)
        .map(|(job, outcome)| (job.arrival, outcome.as_ref().and_then(|o| o.started)))
        .collect();
    starts.sort_unstable();
    assert!(starts.is_sorted_by_key(|(_, started)| *started), "{starts:?}");
}

/// Short prompts go before a long one, but it advances all the same.
#[test]
fn a_long_prompt_is_not_passed_over_forever() {
    let config = CoreConfig { max_sequences: 4, prefill_chunk: 8, max_rows: 12 };
    let mut jobs = vec![job(0, 200, 1, Priority::Interactive)];
    jobs.extend((0..400).map(|i| job(i * 3, 9, 1, Priority::Interactive)));
    let mut simulation = simulation(config, 100, 400, &jobs);
    simulation.run();
    let ended = |index: usize| simulation.outcomes[index].as_ref().map_or(0, |outcome| outcome.ended);
    let last = (1..jobs.len()).map(ended).max().unwrap_or(0);
    assert!(ended(0) < last, "it ended only when no short one was left");
    let short = (1..40).map(|index| ended(index) - jobs[index].arrival).max().unwrap_or(0);
    assert!(short < 200, "a short prompt waited {short} turns behind the long one");
}

#[test]
fn interactive_takes_the_place_of_batch_and_batch_finishes_after_it() {
    let config = CoreConfig { max_sequences: 2, prefill_chunk: 8, max_rows: 10 };
    let mut jobs = vec![job(0, 8, 30, Priority::Batch), job(1, 8, 30, Priority::Batch)];
    jobs.push(job(60, 8, 10, Priority::Interactive));
    let mut simulation = simulation(config, 40, 8, &jobs);
    simulation.run();
    let outcome = |index: usize| simulation.outcomes[index].clone().expect("ended");
    assert_eq!(outcome(2).started, Some(60));
    assert_eq!(simulation.pipeline.core().counts().preemptions, 1);
    assert!(outcome(2).ended < outcome(0).ended && outcome(0).ended < outcome(1).ended);
    for (index, job) in jobs.iter().enumerate() {
        assert_eq!(outcome(index).tokens, simulation.fake.alone(&job.prompt, job.max_new), "{index}");
    }
}

#[test]
fn when_blocks_run_out_the_latest_yields() {
    let config = CoreConfig { max_sequences: 2, prefill_chunk: 16, max_rows: 18 };
    // Each grows to 10 blocks of the 12.
    let jobs = [job(0, 8, 32, Priority::Interactive), job(1, 8, 32, Priority::Interactive)];
    let mut simulation = simulation(config, 12, 8, &jobs);
    simulation.run();
    let outcome = |index: usize| simulation.outcomes[index].clone().expect("ended");
    assert!(simulation.pipeline.core().counts().preemptions >= 1);
    assert!(outcome(0).ended < outcome(1).ended);
    // The first was never held up: 8 tokens of prompt in one tick, then a token a tick.
    assert!(outcome(0).ended <= 33 * SUB_LAYERS, "{:?}", outcome(0));
}

#[test]
fn the_queue_is_bounded() {
    let config = CoreConfig { max_sequences: 1, prefill_chunk: 16, max_rows: 18 };
    let jobs: Vec<_> = (0..10).map(|_| job(0, 8, 4, Priority::Interactive)).collect();
    let mut simulation = simulation(config, 12, 4, &jobs);
    simulation.run();
    let refused = simulation.outcomes.iter().flatten().filter(|outcome| outcome.end == End::Refused).count();
    assert_eq!(refused, 6);
}

/// A tick takes in as many as there are places and blocks for, not one.
#[test]
fn several_start_in_one_tick() {
    let config = CoreConfig { max_sequences: 4, prefill_chunk: 32, max_rows: 36 };
    let fake = Fake::new("af", config.max_rows, 20, 4);
    let mut core = Core::new(config, fake.layout()).expect("valid");
    let new = |tokens: usize, scope| NewSequence {
        tokens: vec![1; tokens],
        max_new: 4,
        priority: Priority::Interactive,
        deadline: None,
        scope,
        greedy: false,
    };
    let mut started = Vec::new();
    while core.has_room(Priority::Interactive, 9, &[1; 8]) {
        started.push(core.start(new(8, started.len() as u64)).expect("fits"));
    }
    assert_eq!(started.len(), 4, "as many as there are places");
    let mut plan = Plan::default();
    core.plan(Room { rows: 36, prefilling: 0, lanes: 1, elsewhere: false }, &mut plan);
    assert!(started.iter().all(|id| !core.blocks(*id).is_empty()), "all of them became active");

    // Three of seven blocks each find no room for a fourth block beside them: two start.
    let mut core = Core::new(config, fake.layout()).expect("valid");
    let mut count = 0;
    while core.has_room(Priority::Interactive, 9, &[1; 28]) {
        core.start(new(28, count)).expect("fits");
        count += 1;
    }
    assert_eq!(count, 2);
}

/// Two lanes have half of those that generate each, however many prompts there are beside them.
#[test]
fn lanes_share_what_generates() {
    let config = CoreConfig { max_sequences: 16, prefill_chunk: 8, max_rows: 64 };
    let fake = Fake::new("af", config.max_rows, 200, 4);
    let mut core = Core::new(config, fake.layout()).expect("valid");
    for scope in 0..16 {
        let tokens = if scope < 6 { vec![1; 1] } else { vec![1; 40] };
        let priority = Priority::Interactive;
        core.start(NewSequence { tokens, max_new: 4, priority, deadline: None, scope, greedy: false })
            .expect("fits");
    }
    let mut plan = Plan::default();
    for elsewhere in [false, true] {
        core.plan(Room { rows: 64, prefilling: 0, lanes: 2, elsewhere }, &mut plan);
        assert_eq!(plan.decode_rows, 3);
    }
}

/// Only what another sequence of its scope computed is found, in whole blocks, and never the last token.
#[test]
fn a_sequence_knows_what_it_found() {
    let config = CoreConfig { max_sequences: 4, prefill_chunk: 64, max_rows: 64 };
    let fake = Fake::new("af", config.max_rows, 64, 4);
    let mut core = Core::new(config, fake.layout()).expect("valid");
    let start = |core: &mut Core, scope: u64, length: u32| {
        let new = NewSequence {
            tokens: (0..length).collect(),
            max_new: 4,
            priority: Priority::Interactive,
            deadline: None,
            scope,
            greedy: true,
        };
        let id = core.start(new).expect("it fits");
        let mut plan = Plan::default();
        core.plan(Room { rows: 64, prefilling: 0, lanes: 1, elsewhere: false }, &mut plan);
        for row in plan.rows {
            core.computed(row.sequence, row.position);
        }
        core.found(id)
    };
    assert_eq!(start(&mut core, 1, 13), 0);
    assert_eq!(start(&mut core, 1, 13), 12);
    assert_eq!(start(&mut core, 1, 12), 8, "the last token is always computed");
    assert_eq!(start(&mut core, 2, 13), 0, "nothing of another scope");
}
