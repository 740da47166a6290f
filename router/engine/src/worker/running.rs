use std::{sync::Arc, time::Instant};

use reprise_tier::{Event, Finish, FinishReason, TierError, Timings, Usage};

use super::{Job, Loaded, count, queue::Prepared};
use crate::{
    sampling::{Chosen, Sampler, SamplingError},
    text::{AnswerBuilder, Calls, Piece, Vocabulary},
};

/// A request that is being computed: what turns its logits into events.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) job: Job,
    vocabulary: Arc<Vocabulary>,
    sampler: Sampler,
    answer: AnswerBuilder,
    /// Where the answer may call functions.
    calls: Option<Calls>,
    prompt: usize,
    /// Tokens of it whose KV was found.
    found: usize,
    limit: usize,
    generated: usize,
    started: Instant,
    first_token: Option<Instant>,
}

/// What a sequence does after its logits.
#[derive(Debug)]
pub(crate) enum Then {
    /// It goes on with this token.
    Token(u32),
    /// It is over, and its last event sent. The tokens that were generated.
    Over(usize),
}

impl Running {
    /// Takes the mask.
    pub(crate) fn new(job: Job, prepared: &mut Prepared, loaded: &Loaded) -> Self {
        let vocabulary = loaded.prompts.vocabulary();
        let sampler = Sampler::new(&job.request.sampling);
        Self {
            vocabulary: Arc::clone(vocabulary),
            sampler: match prepared.mask.take() {
                Some(mask) => sampler.with_mask(mask),
                None => sampler,
            },
            calls: job.request.tools.as_deref().map(|tools| Calls::new(tools, job.request.form.as_ref())),
            answer: AnswerBuilder::new(Arc::clone(vocabulary), &job.request.stop),
            prompt: prepared.tokens.len(),
            found: 0,
            limit: prepared.limit,
            generated: 0,
            started: Instant::now(),
            first_token: None,
            job,
        }
    }

    pub(crate) fn begin(&self) {
        self.job.events.send(Ok(Event::Started { prompt_tokens: count(self.prompt) }));
    }

    /// So many tokens of its prompt were not computed again.
    pub(crate) fn found(&mut self, tokens: usize) {
        self.found = tokens.min(self.prompt);
    }

    /// The most tokens that can still come.
    pub(crate) fn left(&self) -> usize {
        self.limit - self.generated
    }

    pub(crate) fn generated(&self) -> usize {
        self.generated
    }

    pub(crate) fn prompt_tokens(&self) -> usize {
        self.prompt
    }

    pub(crate) fn is_greedy(&self) -> bool {
        self.sampler.is_greedy()
    }

    /// Draws the next token from its logits.
    pub(crate) fn logits(&mut self, logits: &mut [f32]) -> Then {
        let outcome = self.sampler.sample(logits);
        self.chosen(outcome)
    }

    /// Takes the token that the backend chose.
    pub(crate) fn greedy(&mut self, token: Option<u32>) -> Then {
        let outcome = self.sampler.accept_greedy(token);
        self.chosen(outcome)
    }

    fn chosen(&mut self, outcome: Result<Chosen, SamplingError>) -> Then {
        self.first_token.get_or_insert_with(Instant::now);
        let chosen = match outcome {
            Ok(chosen) => chosen,
            Err(error) => {
                self.fail(self.error(error));
                return Then::Over(self.generated);
            }
        };
        if self.vocabulary.is_end(chosen.token) {
            return self.finish(FinishReason::Stop);
        }
        self.generated += 1;
        let piece = self.answer.push(&chosen);
        if self.send(piece) {
            return self.over(FinishReason::Stop);
        }
        if self.sampler.is_complete() {
            return self.finish(FinishReason::Stop);
        }
        if self.generated == self.limit {
            self.finish(FinishReason::Length)
        } else {
            Then::Token(chosen.token)
        }
    }

    /// No further token: sends what was held back and the end.
    pub(crate) fn finish(&mut self, reason: FinishReason) -> Then {
        let rest = self.answer.finish();
        let stopped = self.send(rest);
        self.over(if stopped { FinishReason::Stop } else { reason })
    }

    pub(crate) fn fail(&self, error: TierError) {
        self.job.events.send(Err(error));
    }

    fn error(&self, error: SamplingError) -> TierError {
        if error != SamplingError::MaskFailed {
            return TierError::Internal { message: error.to_string() };
        }
        let param = if self.job.request.tools.is_some() { "tools" } else { "response_format" };
        let message = format!(
            "Unsupported '{param}': what may follow this answer's beginning is too much to work out."
        );
        TierError::Unsupported { param: param.into(), message }
    }

    fn over(&mut self, reason: FinishReason) -> Then {
        for event in self.calls.iter_mut().flat_map(Calls::finish) {
            self.job.events.send(Ok(event));
        }
        let called = self.calls.as_ref().is_some_and(Calls::has_called);
        let reason = if called && reason == FinishReason::Stop { FinishReason::ToolCalls } else { reason };
        let now = Instant::now();
        let first = self.first_token.unwrap_or(now);
        let usage = Usage {
            prompt_tokens: count(self.prompt),
            cached_tokens: count(self.found),
            completion_tokens: count(self.generated),
        };
        let timings = Timings {
            queued: self.started.duration_since(self.job.submitted),
            prefill: first.duration_since(self.started),
            decode: now.duration_since(first),
        };
        self.job.events.send(Ok(Event::Finished(Finish { reason, usage, timings })));
        Then::Over(self.generated)
    }

    /// True if the answer ended in a stop string.
    fn send(&mut self, piece: Piece) -> bool {
        match (piece.delta, &mut self.calls) {
            (Some(delta), None) => {
                self.job.events.send(Ok(delta));
            }
            (Some(Event::Delta { text, logprobs }), Some(calls)) => {
                for event in calls.divide(&text, logprobs) {
                    self.job.events.send(Ok(event));
                }
            }
            _ => {}
        }
        piece.stopped
    }
}
