use std::{
    sync::atomic::Ordering::Relaxed,
    time::{Duration, Instant},
};

use reprise_tier::{Event, Finish, FinishReason, TierError, Timings, Usage};

use super::{Job, Loaded, Shared};
use crate::{
    EngineError,
    model::{Model, Sequence},
    sampling::{self, Sampler, SamplingError},
    speed::Work,
    text::{AnswerBuilder, Piece},
};

/// Prompt tokens computed between two looks at deadline and cancellation.
pub(crate) const PREFILL_CHUNK: usize = 128;

/// Why a generation has no [`Finish`].
enum Ended {
    /// Nobody waits for it.
    Cancelled,
    Failed(TierError),
}

impl From<EngineError> for Ended {
    fn from(error: EngineError) -> Self {
        Self::Failed(TierError::Internal { message: error.to_string() })
    }
}

impl From<SamplingError> for Ended {
    fn from(error: SamplingError) -> Self {
        Self::Failed(TierError::Internal { message: error.to_string() })
    }
}

/// Computes one answer. It ends with one `Finished` or one error, unless its reader has gone.
pub(crate) fn generate(model: &dyn Model, shared: &Shared, loaded: &Loaded, job: &Job) {
    let last = match Run::new(shared, loaded, job).run(model) {
        Ok(finish) => Ok(Event::Finished(finish)),
        Err(Ended::Failed(error)) => Err(error),
        Err(Ended::Cancelled) => return,
    };
    job.events.send(last);
}

struct Run<'a> {
    shared: &'a Shared,
    loaded: &'a Loaded,
    job: &'a Job,
    queued: Duration,
}

impl<'a> Run<'a> {
    fn new(shared: &'a Shared, loaded: &'a Loaded, job: &'a Job) -> Self {
        Self { shared, loaded, job, queued: job.submitted.elapsed() }
    }

    fn run(&self, model: &dyn Model) -> Result<Finish, Ended> {
        self.shared.meter.set_running(1, self.job.work, 0);
        self.check()?;
        let request = &self.job.request;
        sampling::check(&request.sampling, self.loaded.prompts.vocabulary().len()).map_err(Ended::Failed)?;
        let prompt = self.prompt()?;
        let limit = self.limit(prompt.len())?;
        self.job.events.send(Ok(Event::Started { prompt_tokens: count(prompt.len()) }));

        let begun = Instant::now();
        let mut sequence = model.new_sequence();
        let logits = self.prefill(&mut *sequence, &prompt, limit)?;
        let prefill = begun.elapsed();
        self.shared.meter.measured_prefill(prompt.len(), prefill.as_secs_f64());

        let begun = Instant::now();
        let (reason, completion) = self.decode(&mut *sequence, logits, limit)?;
        let decode = begun.elapsed();
        // The first token came with the prefill.
        self.shared.meter.measured_decode(completion.saturating_sub(1), decode.as_secs_f64());
        self.shared.meter.measured_completion(completion);
        let usage = Usage { prompt_tokens: count(prompt.len()), completion_tokens: count(completion) };
        let timings = Timings { queued: self.queued, prefill, decode };
        Ok(Finish { reason, usage, timings, tool_calls: None })
    }

    fn prompt(&self) -> Result<Vec<u32>, Ended> {
        match self.loaded.prompts.prompt(&self.job.request.messages) {
            Ok(prompt) if prompt.is_empty() => Err(invalid("the conversation is empty".into())),
            Ok(prompt) => Ok(prompt),
            // The template's own words, such as that roles must alternate.
            Err(EngineError::Template(error)) => Err(invalid(error.to_string())),
            Err(error) => Err(error.into()),
        }
    }

    /// The most tokens that may be generated. As OpenAI does: a prompt that leaves no room is an error, and so is
    /// an explicit `max_tokens` that does not fit beside the prompt; it is not cut silently.
    fn limit(&self, prompt: usize) -> Result<usize, Ended> {
        let context = self.loaded.info.context_length;
        let wanted = self.job.request.max_tokens;
        let room = (context as usize).saturating_sub(prompt);
        let needed = wanted.map_or(1, |wanted| wanted as usize);
        if room < needed.max(1) {
            return Err(Ended::Failed(TierError::ContextExceeded {
                prompt_tokens: count(prompt),
                max_tokens: count(needed),
                context_length: context,
            }));
        }
        Ok(wanted.map_or(room, |wanted| wanted as usize))
    }

    /// The logits after the prompt.
    fn prefill(&self, sequence: &mut dyn Sequence, prompt: &[u32], limit: usize) -> Result<Vec<f32>, Ended> {
        let mut logits = Vec::new();
        for chunk in prompt.chunks(PREFILL_CHUNK) {
            self.step(sequence.len(), prompt.len() - sequence.len(), self.expected(limit))?;
            logits = sequence.forward(chunk)?;
        }
        Ok(logits)
    }

    fn decode(
        &self,
        sequence: &mut dyn Sequence,
        mut logits: Vec<f32>,
        limit: usize,
    ) -> Result<(FinishReason, usize), Ended> {
        let vocabulary = self.loaded.prompts.vocabulary();
        let mut sampler = Sampler::new(&self.job.request.sampling);
        let mut answer = AnswerBuilder::new(vocabulary, &self.job.request.stop);
        let mut generated = 0;
        let reason = loop {
            if generated == limit {
                break FinishReason::Length;
            }
            self.step(sequence.len(), 0, self.expected(limit).saturating_sub(generated as u64))?;
            let chosen = sampler.sample(&mut logits)?;
            if vocabulary.is_end(chosen.token) {
                break FinishReason::Stop;
            }
            generated += 1;
            if self.send(answer.push(&chosen)) {
                return Ok((FinishReason::Stop, generated));
            }
            if generated < limit {
                logits = sequence.forward(&[chosen.token])?;
            }
        };
        let stopped = self.send(answer.finish());
        Ok((if stopped { FinishReason::Stop } else { reason }, generated))
    }

    /// True if the answer ended in a stop string.
    fn send(&self, piece: Piece) -> bool {
        if let Some(delta) = piece.delta {
            self.job.events.send(Ok(delta));
        }
        piece.stopped
    }

    fn expected(&self, limit: usize) -> u64 {
        self.shared.meter.expected_completion().min(limit as u64)
    }

    /// Before every forward pass: reports, looks after those who wait, and checks.
    fn step(&self, kv_tokens: usize, prefill: usize, decode: u64) -> Result<(), Ended> {
        self.shared.meter.set_running(1, Work { prefill: prefill as u64, decode }, kv_tokens);
        self.shared.queue.sweep(&self.shared.meter);
        self.check()
    }

    fn check(&self) -> Result<(), Ended> {
        if self.job.events.is_cancelled() {
            return Err(Ended::Cancelled);
        }
        if self.shared.stopping.load(Relaxed) {
            return Err(Ended::Failed(TierError::ShuttingDown));
        }
        if self.job.request.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(Ended::Failed(TierError::DeadlineExceeded));
        }
        Ok(())
    }
}

fn invalid(message: String) -> Ended {
    Ended::Failed(TierError::InvalidRequest { param: "messages", message })
}

fn count(tokens: usize) -> u32 {
    u32::try_from(tokens).unwrap_or(u32::MAX)
}
