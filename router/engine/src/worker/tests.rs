//! What happens when the model itself goes wrong, which the real one does not do on request; and whole runs of the worker on
//! the scheduler's backend of hashes.

use std::{num::NonZeroUsize, sync::LazyLock, sync::atomic::Ordering::Relaxed, time::Duration};

use reprise_scheduler::testing::{Fake, Fault};
use reprise_scheduler::{
    AttentionRow, BackendError, CoreConfig, ExpertId, ModelLayout, PartWork, Row, SubLayerId,
};
use reprise_tier::{
    Event, FinishReason, GenerateRequest, Generation, Message, Priority, Role, Usage, channel,
};

use super::*;
use crate::{DeviceKind, gguf::Gguf, speed::Work, testing::small_model};

static PROMPTS: LazyLock<Gguf> = LazyLock::new(|| Gguf::open(&small_model()).expect("opens"));

/// Fails in its first `left` calls of the head; after that every next token is 2, SmolLM2's end of turn.
#[derive(Debug)]
struct Faulty {
    fake: Fake,
    left: u32,
    fault: Fault,
}

impl Backend for Faulty {
    fn layout(&self) -> &ModelLayout {
        self.fake.layout()
    }

    fn embed(&mut self, rows: &[Row], tokens: &[u32]) -> Result<(), BackendError> {
        self.fake.embed(rows, tokens)
    }

    fn attention(&mut self, sub_layer: SubLayerId, rows: &[AttentionRow<'_>]) -> Result<(), BackendError> {
        self.fake.attention(sub_layer, rows)
    }

    fn feed_forward(&mut self, sub_layer: SubLayerId, rows: &[Row]) -> Result<(), BackendError> {
        self.fake.feed_forward(sub_layer, rows)
    }

    fn gate(&mut self, _: SubLayerId, _: &[Row], _: &mut Vec<ExpertId>) -> Result<(), BackendError> {
        unreachable!("no experts")
    }

    fn experts(&mut self, _: SubLayerId, _: &[PartWork]) -> Result<(), BackendError> {
        unreachable!("no experts")
    }

    fn join(&mut self, _: SubLayerId, _: &[Row]) -> Result<(), BackendError> {
        unreachable!("no experts")
    }

    fn logits(&mut self, rows: &[Row], logits: &mut Vec<f32>) -> Result<(), BackendError> {
        if self.left > 0 {
            self.left -= 1;
            assert!(self.fault == Fault::Error, "as told");
            return Err(BackendError("as told".into()));
        }
        *logits = [0.0, 0.0, 1.0].repeat(rows.len());
        Ok(())
    }
}

pub(super) fn shared(max_sequences: usize, queue: usize) -> Shared {
    let number = |n| NonZeroUsize::new(n).expect("not zero");
    let config = LocalConfig {
        name: "faulty".into(),
        model_id: "faulty".into(),
        gguf: small_model(),
        threads: None,
        queue_capacity: number(queue),
        cost: 0.0,
        device: DeviceKind::Cpu,
        context_length: None,
        max_sequences: number(max_sequences),
        kv_tokens: None,
        prefill_chunk: number(32),
        spread: None,
    };
    let prompts = PromptBuilder::from_gguf(&PROMPTS).expect("builds");
    let info = TierInfo {
        name: "faulty".into(),
        model: "faulty".into(),
        context_length: 256,
        cost: 0.0,
        remote: false,
    };
    let shared = Shared::new(config);
    shared.loaded.set(Loaded { info, prompts, grammars: Grammars::default() }).expect("not loaded yet");
    *shared.state.write() = TierState::Ready;
    shared
}

fn fake(shared: &Shared, blocks: usize) -> (Fake, Pipeline) {
    let config = shared.config.ticks();
    let fake = Fake::new("af", config.max_rows, blocks, 8).with_vocabulary(3);
    let pipeline = Pipeline::new(config, fake.layout()).expect("valid");
    (fake, pipeline)
}

fn serve_faulty(shared: &Shared, left: u32, fault: Fault) {
    let (fake, pipeline) = fake(shared, 64);
    serve(shared, shared.loaded.get().expect("set"), Faulty { fake, left, fault }, pipeline);
}

pub(super) fn submit(shared: &Shared) -> Generation {
    submit_with(shared, |_| ())
}

pub(super) fn submit_with(shared: &Shared, change: impl FnOnce(&mut GenerateRequest)) -> Generation {
    let mut request = GenerateRequest {
        id: "test".into(),
        messages: vec![Message::new(Role::User, "Hi")],
        max_tokens: Some(4),
        ..GenerateRequest::default()
    };
    change(&mut request);
    let (events, generation) = channel(request.max_tokens.unwrap_or(0) as usize + 8);
    let job = Job { request, events, submitted: Instant::now(), work: Work::default(), prompt: Prompt::Text };
    assert!(shared.queue.push(job, &shared.meter).expect("open"));
    generation
}

pub(super) fn last(mut generation: Generation) -> Result<Event, TierError> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
    runtime.block_on(async {
        let mut last = None;
        while let Some(event) = generation.next().await {
            last = Some(event);
        }
        last.expect("every generation ends")
    })
}

fn a_fault_ends_its_request_only(fault: Fault) {
    let shared = shared(1, 8);
    std::thread::scope(|scope| {
        scope.spawn(|| serve_faulty(&shared, 1, fault));
        match last(submit(&shared)) {
            Err(TierError::Internal { message }) => assert!(message.contains("as told"), "{message}"),
            other => panic!("{other:?}"),
        }
        assert!(matches!(last(submit(&shared)), Ok(Event::Finished(_))));
        assert_eq!(*shared.state.read(), TierState::Ready);
        shared.queue.close(&TierError::ShuttingDown, &shared.meter);
    });
}

#[test]
fn a_panic_ends_its_request_only() {
    a_fault_ends_its_request_only(Fault::Panic);
}

#[test]
fn an_error_ends_its_request_only() {
    a_fault_ends_its_request_only(Fault::Error);
}

#[test]
fn panics_in_a_row_give_the_tier_up() {
    let shared = shared(1, 8);
    let generations: Vec<_> = (0..4).map(|_| submit(&shared)).collect();
    serve_faulty(&shared, 9, Fault::Panic);
    let errors: Vec<_> =
        generations.into_iter().map(|generation| last(generation).expect_err("fails")).collect();
    assert!(errors[..3].iter().all(|error| matches!(error, TierError::Internal { .. })), "{errors:?}");
    assert!(matches!(errors[3], TierError::NotReady { .. }), "{errors:?}");
    assert!(matches!(*shared.state.read(), TierState::Failed { .. }));
}

#[test]
fn a_full_batch_answers_all_and_leaves_nothing() {
    let shared = shared(4, 64);
    let generations: Vec<_> = (0..64u64)
        .map(|i| {
            submit_with(&shared, |request| {
                request.messages = vec![Message::new(Role::User, "word ".repeat(1 + i as usize % 20))];
                request.max_tokens = Some(1 + (i % 40) as u32);
                request.scope = i % 3;
                request.sampling.seed = Some(i);
                // The ends of a turn, two of three tokens, are left out: every answer has its full length.
                request.sampling.logit_bias = vec![(0, -100.0), (2, -100.0)];
                request.priority = if i % 4 == 0 { Priority::Batch } else { Priority::Interactive };
            })
        })
        .collect();
    // What is to be asserted leaves the scope first: a panic inside would wait for a worker that nobody stops.
    let (ends, pressure) = std::thread::scope(|scope| {
        scope.spawn(|| {
            // As many blocks as one of them may need, and half again: they preempt each other.
            let (fake, pipeline) = fake(&shared, 20);
            serve(&shared, shared.loaded.get().expect("set"), fake, pipeline);
        });
        let ends: Vec<_> = generations.into_iter().map(last).collect();
        let begun = Instant::now();
        let mut pressure = shared.meter.pressure();
        while (pressure.kv_used > 0.0 || pressure.running > 0) && begun.elapsed() < Duration::from_secs(60) {
            std::thread::yield_now();
            pressure = shared.meter.pressure();
        }
        shared.queue.close(&TierError::ShuttingDown, &shared.meter);
        (ends, pressure)
    });
    for (i, end) in ends.into_iter().enumerate() {
        let Ok(Event::Finished(finish)) = end else { panic!("{i} did not finish: {end:?}") };
        let Usage { completion_tokens, .. } = finish.usage;
        assert_eq!((finish.reason, completion_tokens), (FinishReason::Length, 1 + (i as u32) % 40));
    }
    assert_eq!((pressure.kv_used, pressure.running, pressure.waiting), (0.0, 0, 0));
}

#[test]
fn stopping_ends_what_runs() {
    let shared = shared(2, 8);
    let generations: Vec<_> = (0..4)
        .map(|_| {
            submit_with(&shared, |request| {
                request.max_tokens = Some(200);
                request.sampling.logit_bias = vec![(0, -100.0), (2, -100.0)];
            })
        })
        .collect();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (fake, pipeline) = fake(&shared, 64);
            serve(&shared, shared.loaded.get().expect("set"), fake, pipeline);
        });
        let begun = Instant::now();
        while shared.meter.pressure().running < 2 && shared.meter.pressure().waiting > 0 {
            assert!(begun.elapsed() < Duration::from_secs(60));
            std::thread::yield_now();
        }
        shared.stopping.store(true, Relaxed);
        shared.queue.close(&TierError::ShuttingDown, &shared.meter);
    });
    for generation in generations {
        assert!(matches!(last(generation), Err(TierError::ShuttingDown) | Ok(Event::Finished(_))));
    }
}

#[test]
fn the_bounds_of_a_tick_hold_all_sequences_and_a_chunk() {
    let shared = shared(5, 1);
    let CoreConfig { max_sequences, prefill_chunk, max_rows } = shared.config.ticks();
    assert_eq!((max_sequences, prefill_chunk, max_rows), (5, 32, 37));
}
