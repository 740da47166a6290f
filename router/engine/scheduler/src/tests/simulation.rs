//! A worker's loop under a virtual clock.

use std::{collections::HashMap, time::Duration};

use rand::{Rng, SeedableRng, rngs::SmallRng, seq::IndexedRandom};

use crate::{testing::Fake, *};

/// A request and when things happen to it, in ticks of the virtual clock.
#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) arrival: u64,
    pub(super) prompt: Vec<u32>,
    pub(super) max_new: usize,
    pub(super) priority: Priority,
    pub(super) scope: u64,
    pub(super) cancel: Option<u64>,
    pub(super) deadline: Option<u64>,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Finished,
    Cancelled,
    Expired,
    Refused,
    Never(StartError),
    Failed,
}

#[derive(Debug, Clone)]
pub(super) struct Outcome {
    pub(super) end: End,
    pub(super) tokens: Vec<u32>,
    /// Ticks of its start and of its end.
    pub(super) started: Option<u64>,
    pub(super) ended: u64,
}

#[derive(Debug)]
pub(super) struct Simulation {
    pub(super) pipeline: Pipeline,
    pub(super) fake: Fake,
    pub(super) waiting: Waiting<usize>,
    jobs: Vec<Job>,
    running: HashMap<SequenceId, usize>,
    pub(super) outcomes: Vec<Option<Outcome>>,
    tokens: Vec<Vec<u32>>,
    started: Vec<Option<u64>>,
    pub(super) now: u64,
    out: Finished,
    /// Per tick who got a token.
    pub(super) served: Vec<Vec<usize>>,
}

/// Any queue that is not empty, rows of many ticks in flight: the worst that a schedule may do.
#[derive(Debug)]
pub(super) struct Shuffled(pub(super) SmallRng);

impl Shuffled {
    pub(super) fn new(seed: u64) -> Self {
        Self(SmallRng::seed_from_u64(seed))
    }
}

impl Schedule for Shuffled {
    fn next(&mut self, queues: &Queues<'_>) -> Option<QueueId> {
        let filled: Vec<_> = (0..queues.queues.len()).filter(|at| queues.queues[*at].depth > 0).collect();
        filled.choose(&mut self.0).copied()
    }

    fn admits(&self, _: usize) -> bool {
        true
    }
}

pub(super) fn at(tick: u64) -> Moment {
    Moment(Duration::from_millis(tick))
}

impl Simulation {
    pub(super) fn new(pipeline: Pipeline, fake: Fake, queue: usize, jobs: Vec<Job>) -> Self {
        Self {
            pipeline,
            fake,
            waiting: Waiting::new(queue),
            running: HashMap::new(),
            outcomes: vec![None; jobs.len()],
            tokens: vec![Vec::new(); jobs.len()],
            started: vec![None; jobs.len()],
            jobs,
            now: 0,
            out: Finished::default(),
            served: Vec::new(),
        }
    }

    pub(super) fn run(&mut self) {
        while self.outcomes.iter().any(Option::is_none) {
            assert!(self.now < 200_000, "no end in sight: {self:?}");
            self.step();
        }
    }

    pub(super) fn step(&mut self) {
        for job in 0..self.jobs.len() {
            if self.jobs[job].arrival == self.now {
                let deadline = self.jobs[job].deadline.map(at);
                if let Err(job) = self.waiting.push(self.jobs[job].priority, deadline, job) {
                    self.end(job, End::Refused);
                }
            }
        }
        self.leave();
        self.start();
        let turn = match self.pipeline.turn(&mut self.fake, at(self.now), &mut self.out) {
            Ok(turn) => turn,
            Err(broken) => return self.failed(&broken.ended),
        };
        assert!(turn.computed || self.pipeline.core().is_empty(), "stuck at {}: {self:?}", self.now);
        let mut served = Vec::new();
        let mut drawn: Vec<_> = self.out.each_mut().map(|(id, logits)| (id, Fake::best(logits))).collect();
        drawn.extend(self.out.chosen.iter().map(|(id, token)| (*id, token.expect("a number"))));
        for (id, token) in drawn {
            let job = self.running[&id];
            self.tokens[job].push(token);
            served.push(job);
            if self.tokens[job].len() == self.jobs[job].max_new {
                self.running.remove(&id);
                self.pipeline.end(id);
                self.end(job, End::Finished);
            } else {
                self.pipeline.push(id, token);
            }
        }
        self.served.push(served);
        self.check();
        self.now += 1;
    }

    pub(super) fn failed(&mut self, ended: &[SequenceId]) {
        for id in ended {
            let job = self.running.remove(id).expect("it ran");
            self.end(job, End::Failed);
        }
        self.now += 1;
    }

    /// What is over its time or cancelled goes.
    fn leave(&mut self) {
        let now = self.now;
        let gone = |job: &usize| self.jobs[*job].cancel.is_some_and(|cancel| now >= cancel);
        let waiting: Vec<usize> = self.waiting.iter().map(|entry| entry.item).filter(gone).collect();
        let expired = self.waiting.sweep(at(now), gone);
        waiting.into_iter().for_each(|job| self.end(job, End::Cancelled));
        expired.into_iter().for_each(|job| self.end(job, End::Expired));
        let cancelled: Vec<_> = self
            .running
            .iter()
            .filter(|(_, job)| self.jobs[**job].cancel.is_some_and(|cancel| now >= cancel))
            .map(|(id, _)| (*id, End::Cancelled))
            .collect();
        let expired: Vec<_> = self.pipeline.core().expired(at(now)).map(|id| (id, End::Expired)).collect();
        for (id, end) in cancelled.into_iter().chain(expired) {
            if let Some(job) = self.running.remove(&id) {
                self.pipeline.end(id);
                assert!(self.pipeline.core().blocks(id).is_empty(), "freed at once");
                self.end(job, end);
            }
        }
    }

    fn start(&mut self) {
        while let Some(entry) = self.waiting.front() {
            let job = &self.jobs[entry.item];
            let new = NewSequence {
                // Some leave the choice to a backend that makes it.
                greedy: job.max_new.is_multiple_of(2),
                tokens: job.prompt.clone(),
                max_new: job.max_new,
                priority: job.priority,
                deadline: entry.deadline,
                scope: job.scope,
            };
            let core = self.pipeline.core();
            let never = core.check(new.tokens.len(), new.max_new).is_err();
            if !never && !core.has_room(new.priority, new.scope, &new.tokens) {
                return;
            }
            let job = self.waiting.pop().expect("it is the front").item;
            match self.pipeline.start(new) {
                Ok(id) => {
                    self.running.insert(id, job);
                    self.started[job] = Some(self.now);
                }
                Err(error) => self.end(job, End::Never(error)),
            }
        }
    }

    fn end(&mut self, job: usize, end: End) {
        let tokens = std::mem::take(&mut self.tokens[job]);
        let outcome = Outcome { end, tokens, started: self.started[job], ended: self.now };
        assert!(self.outcomes[job].replace(outcome).is_none(), "{job} ended twice");
    }

    fn check(&self) {
        let core = self.pipeline.core();
        let tables: std::collections::HashSet<_> =
            core.ids().flat_map(|id| core.blocks(id).iter().copied()).collect();
        assert_eq!(core.kv().held(), tables.len());
        assert_eq!(core.kv().held() + core.kv().free(), core.kv().len());
        if core.is_empty() {
            assert_eq!((core.kv().held(), self.pipeline.executor().in_flight()), (0, 0));
        }
    }
}

/// Jobs whose prompts often begin alike.
pub(super) fn jobs(seed: u64, count: usize, longest: usize, with_ends: bool) -> Vec<Job> {
    let mut random = SmallRng::seed_from_u64(seed);
    let stems: Vec<Vec<u32>> =
        (0..3).map(|_| (0..longest).map(|_| random.random_range(0..40)).collect()).collect();
    (0..count)
        .map(|_| {
            let stem = &stems[random.random_range(0..stems.len())];
            let mut prompt = stem[..random.random_range(0..=longest * 2 / 3)].to_vec();
            let own = random.random_range(1..=longest / 3);
            prompt.extend((0..own).map(|_| random.random_range(0..40u32)));
            let arrival = random.random_range(0..count as u64 * 6);
            let mut later = |share: f64| {
                (with_ends && random.random_bool(share)).then(|| arrival + random.random_range(0..400))
            };
            let (cancel, deadline) = (later(0.2), later(0.2));
            let priority = if random.random_bool(0.3) { Priority::Batch } else { Priority::Interactive };
            let (max_new, scope) = (random.random_range(1..=longest), random.random_range(0..2));
            Job { arrival, prompt, max_new, priority, scope, cancel, deadline }
        })
        .collect()
}
