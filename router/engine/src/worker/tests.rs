//! What happens when the model itself goes wrong, which the real one does not do on request.

use std::{num::NonZeroUsize, sync::atomic::AtomicU32};

use reprise_tier::{Event, GenerateRequest, Generation, Message, Priority, Role, Sampling, channel};

use super::*;
use crate::{DeviceKind, model::Sequence, testing::small_model};

/// Panics in its first `left` sequences; after that every next token is 2, SmolLM2's end of turn.
struct Faulty {
    left: AtomicU32,
}

struct FaultySequence {
    panics: bool,
    len: usize,
}

impl Model for Faulty {
    fn new_sequence(&self) -> Box<dyn Sequence + '_> {
        let left = self.left.load(Relaxed);
        self.left.store(left.saturating_sub(1), Relaxed);
        Box::new(FaultySequence { panics: left > 0, len: 0 })
    }
}

impl Sequence for FaultySequence {
    fn forward(&mut self, tokens: &[u32]) -> Result<Vec<f32>, EngineError> {
        assert!(!self.panics, "as told");
        self.len += tokens.len();
        Ok(vec![0.0, 0.0, 1.0])
    }

    fn len(&self) -> usize {
        self.len
    }
}

fn shared() -> Shared {
    let queue_capacity = NonZeroUsize::new(8).expect("not zero");
    let config = LocalConfig {
        name: "faulty".into(),
        model_id: "faulty".into(),
        gguf: small_model(),
        threads: None,
        queue_capacity,
        cost: 0.0,
        device: DeviceKind::Cpu,
        context_length: None,
    };
    let prompts = PromptBuilder::from_gguf(&Gguf::open(&config.gguf).expect("opens")).expect("builds");
    let info = TierInfo {
        name: "faulty".into(),
        model: "faulty".into(),
        context_length: 256,
        cost: 0.0,
        remote: false,
    };
    Shared {
        queue: Queue::new(queue_capacity),
        meter: Meter::new(queue_capacity.get()),
        config,
        loaded: OnceLock::from(Loaded { info, prompts }),
        state: RwLock::new(TierState::Ready),
        stopping: AtomicBool::new(false),
    }
}

fn submit(shared: &Shared) -> Generation {
    let (events, generation) = channel(8);
    let request = GenerateRequest {
        id: "test".into(),
        messages: vec![Message::new(Role::User, "Hi")],
        sampling: Sampling::default(),
        max_tokens: Some(4),
        stop: Vec::new(),
        priority: Priority::Interactive,
        deadline: None,
        body: None,
    };
    let job = Job { request, events, submitted: Instant::now(), work: Work::default() };
    assert!(shared.queue.push(job, &shared.meter).expect("open"));
    generation
}

fn last(mut generation: Generation) -> Result<Event, TierError> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
    runtime.block_on(async {
        let mut last = None;
        while let Some(event) = generation.next().await {
            last = Some(event);
        }
        last.expect("every generation ends")
    })
}

#[test]
fn a_panic_ends_its_request_only() {
    let shared = shared();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let loaded = shared.loaded.get().expect("set");
            serve(&Faulty { left: AtomicU32::new(1) }, None, &shared, loaded);
        });
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
fn panics_in_a_row_give_the_tier_up() {
    let shared = shared();
    let generations: Vec<_> = (0..4).map(|_| submit(&shared)).collect();
    serve(&Faulty { left: AtomicU32::new(9) }, None, &shared, shared.loaded.get().expect("set"));
    let errors: Vec<_> =
        generations.into_iter().map(|generation| last(generation).expect_err("fails")).collect();
    assert!(errors[..3].iter().all(|error| matches!(error, TierError::Internal { .. })), "{errors:?}");
    assert!(matches!(errors[3], TierError::NotReady { .. }), "{errors:?}");
    assert!(matches!(*shared.state.read(), TierState::Failed { .. }));
}
