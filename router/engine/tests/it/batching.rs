//! A sequence's logits do not depend on its batch mates, bit for bit: tiny models of several families on the CPU backend, with
//! random arrivals, cancellations, and preemptions by a KV pool that holds little more than one sequence.

use std::{collections::HashMap, num::NonZeroUsize, path::Path};

use proptest::prelude::*;
use rand::{Rng, SeedableRng, rngs::StdRng};
use reprise_engine::{
    backend::{CpuBackend, CpuOptions},
    loader::Checkpoint,
};
use reprise_kernels::attention::KvFormat;
use reprise_scheduler::{Backend, CoreConfig, Finished, Moment, NewSequence, Pipeline, Priority, SequenceId};

use super::common;

/// Random bits of every logit of every step, and the greedy tokens that they gave.
#[derive(Debug, Clone, Default, PartialEq)]
struct Trace {
    tokens: Vec<u32>,
    logits: Vec<Vec<u32>>,
}

#[derive(Debug, Clone)]
struct Job {
    arrival: usize,
    prompt: Vec<u32>,
    count: usize,
    priority: Priority,
    scope: u64,
    /// It is cancelled after so many tokens.
    cancel: Option<usize>,
}

#[expect(clippy::expect_used, reason = "helper of tests")]
fn backend(path: &Path, kv_blocks: usize, threads: usize, kv_format: KvFormat) -> CpuBackend {
    let options = CpuOptions {
        threads: NonZeroUsize::new(threads).expect("threads"),
        rows: 64,
        kv_blocks,
        kv_format,
        context_length: Some(kv_blocks * 32),
    };
    let mut checkpoint = Checkpoint::open(path).expect("opens");
    CpuBackend::load(&mut checkpoint, &options, &mut |_| {}, &|| false).expect("loads")
}

fn best(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (id, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = id;
        }
    }
    u32::try_from(best).unwrap_or(0)
}

/// Computes all jobs together. Returns their traces and the preemptions.
#[expect(clippy::expect_used, reason = "helper of tests")]
fn run(backend: &mut CpuBackend, config: CoreConfig, jobs: &[Job]) -> (Vec<Trace>, u64) {
    let mut pipeline = Pipeline::new(config, backend.layout()).expect("valid");
    let mut traces = vec![Trace::default(); jobs.len()];
    let mut running: HashMap<SequenceId, usize> = HashMap::new();
    let mut out = Finished::default();
    let mut tick = 0;
    while tick <= jobs.iter().map(|job| job.arrival).max().unwrap_or(0) || !running.is_empty() {
        let between = pipeline.executor().in_flight() == 0;
        if between {
            for (index, job) in jobs.iter().enumerate().filter(|(_, job)| job.arrival == tick) {
                let new = NewSequence {
                    greedy: false,
                    tokens: job.prompt.clone(),
                    max_new: job.count,
                    priority: job.priority,
                    deadline: None,
                    scope: job.scope,
                };
                running.insert(pipeline.start(new).expect("fits alone"), index);
            }
            tick += 1;
        }
        let turn = pipeline.turn(backend, Moment::default(), &mut out).expect("computes");
        assert!(turn.computed || running.is_empty(), "stuck");
        for (id, logits) in out.each_mut() {
            let (job, trace) = (&jobs[running[&id]], &mut traces[running[&id]]);
            let token = best(logits);
            trace.tokens.push(token);
            trace.logits.push(logits.iter().map(|logit| logit.to_bits()).collect());
            if trace.tokens.len() == job.count || Some(trace.tokens.len()) == job.cancel {
                pipeline.end(id);
                running.remove(&id);
            } else {
                pipeline.push(id, token);
            }
        }
    }
    let core = pipeline.core();
    assert_eq!((core.len(), core.kv().held(), pipeline.executor().in_flight()), (0, 0, 0), "nothing is left");
    (traces, core.counts().preemptions)
}

/// Jobs whose prompts often begin alike, of at most 128 tokens with what they generate.
fn jobs(seed: u64, count: usize, vocabulary: u32) -> Vec<Job> {
    let mut random = StdRng::seed_from_u64(seed);
    let stem: Vec<u32> = (0..90).map(|_| random.random_range(0..vocabulary)).collect();
    (0..count)
        .map(|_| {
            let mut prompt = stem[..random.random_range(0..=stem.len())].to_vec();
            let own = random.random_range(1..=16);
            prompt.extend((0..own).map(|_| random.random_range(0..vocabulary)));
            let count = random.random_range(1..=20);
            Job {
                arrival: random.random_range(0..30),
                prompt,
                count,
                priority: if random.random_bool(0.3) { Priority::Batch } else { Priority::Interactive },
                scope: random.random_range(0..2),
                cancel: random.random_bool(0.2).then(|| random.random_range(1..=count)),
            }
        })
        .collect()
}

fn compare(path: &Path, jobs: &[Job], config: CoreConfig, kv_blocks: usize, format: KvFormat) -> u64 {
    let (together, preemptions) = run(&mut backend(path, kv_blocks, 2, format), config, jobs);
    // Alone: one thread, the whole prompt in one piece, a fresh pipeline each, so that nothing is shared.
    let mut backend = backend(path, 4, 1, format);
    let alone = CoreConfig { max_sequences: 1, prefill_chunk: 63, max_rows: 64 };
    for (job, trace) in jobs.iter().zip(together) {
        let job = Job { arrival: 0, ..job.clone() };
        let (single, _) = run(&mut backend, alone, std::slice::from_ref(&job));
        assert!(single[0] == trace, "{}: other bits than alone, in {config:?}: {job:?}", path.display());
    }
    preemptions
}

fn tiny(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tiny").join(name)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn bits_do_not_depend_on_batch_mates(
        seed in any::<u64>(),
        family in 0usize..4,
        (max_sequences, prefill_chunk) in (1usize..8, 1usize..40),
        kv_blocks in 4usize..16,
        half in any::<bool>(),
    ) {
        let path = tiny(["llama", "qwen2", "mixtral", "qwen3-moe"][family]);
        let config = CoreConfig { max_sequences, prefill_chunk, max_rows: max_sequences + prefill_chunk };
        let format = if half { KvFormat::F16 } else { KvFormat::F32 };
        compare(&path, &jobs(seed, 12, 96), config, kv_blocks, format);
    }
}

#[test]
fn a_pool_for_little_more_than_one_preempts_and_changes_no_bit() {
    let config = CoreConfig { max_sequences: 6, prefill_chunk: 24, max_rows: 30 };
    for name in ["llama", "mixtral"] {
        let preemptions = compare(&tiny(name), &jobs(3, 16, 96), config, 5, KvFormat::F32);
        assert!(preemptions > 0, "{name}");
    }
}

#[test]
fn the_small_model_gives_the_same_bits_in_a_batch() {
    let mut jobs = jobs(9, 6, 40_000);
    jobs.iter_mut().for_each(|job| job.count = job.count.min(5));
    let config = CoreConfig { max_sequences: 4, prefill_chunk: 40, max_rows: 44 };
    compare(&common::model(common::SMALL), &jobs, config, 10, KvFormat::F16);
}
