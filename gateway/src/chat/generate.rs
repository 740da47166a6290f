//! Stage 7: a tier answers. The first words are looked at before anything is promised to the client: until then another
//! tier can take over.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use reprise_cache::TenantId;
use reprise_cache::selection::Chosen;
use reprise_tier::{
    Event, Finish, GenerateRequest, Generation, SharedTier, TierError, TokenLogprob, ToolCallPiece,
};
use sha2::{Digest, Sha256};

use super::compose::compose;
use super::directives::Directives;
use super::parse::Ask;
use super::recall::used;
use super::route::Plan;
use super::trail::Trail;
use crate::error::{ApiError, tier_error_label};

/// A tier ends each generation by its deadline; this is for one that does not.
const GRACE: Duration = Duration::from_secs(5);

/// What can still be tried for one request.
#[derive(Debug)]
pub struct Attempts<'a> {
    ask: &'a Ask,
    directives: &'a Directives,
    examples: &'a [Chosen],
    deadline: Instant,
    next: Option<Attempt>,
    tried: Vec<usize>,
}

#[derive(Debug, Clone, Copy)]
struct Attempt {
    tier: usize,
    examples: bool,
}

/// A generation for each choice, of which the first words have come. Dropping it cancels all.
#[derive(Debug)]
pub struct Running {
    pub tier: SharedTier,
    /// `None` once it has ended.
    generations: Vec<Option<Generation>>,
    /// Who was heard last: the others are asked first, so that none waits for good.
    heard: usize,
    /// Events that were taken to have a look.
    peeked: VecDeque<(usize, Event)>,
    until: tokio::time::Instant,
}

/// The next step of one of the choices.
#[derive(Debug)]
pub struct Step {
    pub choice: usize,
    pub what: What,
}

#[derive(Debug)]
pub enum What {
    /// One of the two may be empty, not both.
    Piece {
        text: String,
        logprobs: Vec<TokenLogprob>,
    },
    ToolCall {
        index: usize,
        piece: ToolCallPiece,
    },
    End(Finish),
}

impl<'a> Attempts<'a> {
    pub fn new(trail: &Trail, ask: &'a Ask, directives: &'a Directives, plan: &'a Plan) -> Self {
        Self {
            ask,
            directives,
            examples: &plan.examples,
            deadline: trail.begun() + trail.state.config.server.request_timeout,
            next: Some(Attempt { tier: plan.tier, examples: !plan.examples.is_empty() }),
            tried: Vec::new(),
        }
    }

    /// Starts on a tier, or on the next that will have it.
    ///
    /// # Errors
    /// None would; the error is the last one's.
    pub async fn start(&mut self, trail: &mut Trail) -> Result<Running, ApiError> {
        let mut last = None;
        while let Some(attempt) = self.next.take() {
            match self.attempt(trail, attempt).await {
                Ok(running) => {
                    self.next = None;
                    let info = running.tier.info();
                    let examples = if attempt.examples { self.examples } else { &[] };
                    trail.answering(&info.name, &info.model, examples.iter().map(used).collect());
                    self.tried.push(attempt.tier);
                    return Ok(running);
                }
                Err(error) => {
                    self.after(trail, attempt, &error);
                    last = Some(error);
                }
            }
        }
        Err(last.as_ref().map_or_else(ApiError::internal, ApiError::from))
    }

    /// A generation broke off before anything of it was sent: true if another tier can be tried.
    pub fn broke_off(&mut self, trail: &Trail, running: &Running, error: &TierError) -> bool {
        let failed = trail.state.pool.get(&running.tier.info().name).map(|(index, _)| index);
        if let Some(tier) = failed {
            self.after(trail, Attempt { tier, examples: false }, error);
        }
        self.next.is_some()
    }

    async fn attempt(&self, trail: &mut Trail, attempt: Attempt) -> Result<Running, TierError> {
        trail.wait_begins();
        let first = self.first_words(trail, attempt).await;
        trail.wait_ends();
        first
    }

    async fn first_words(&self, trail: &Trail, attempt: Attempt) -> Result<Running, TierError> {
        let tier = trail.state.pool.tier(attempt.tier).cloned();
        let tier = tier.ok_or_else(|| TierError::Internal { message: "no such tier".to_owned() })?;
        let request = self.request(trail, attempt);
        let generations = (0..self.ask.generations()).map(|index| {
            let mut request = request.clone();
            let (text, choice) = (index / self.ask.choices, index % self.ask.choices);
            request.text = self.ask.texts.get(text as usize).cloned();
            request.sampling.seed = request.sampling.seed.map(|seed| seed_of(seed, choice));
            tier.submit(request).map(Some)
        });
        let generations = generations.collect::<Result<Vec<_>, _>>()?;
        let until = (self.deadline + GRACE).into();
        let mut running = Running { tier, generations, heard: 0, peeked: VecDeque::new(), until };
        loop {
            let (choice, event) = running.event().await?;
            let speaks = !matches!(&event, Event::Started { .. });
            running.peeked.push_back((choice, event));
            if speaks {
                return Ok(running);
            }
        }
    }

    fn request(&self, trail: &Trail, attempt: Attempt) -> GenerateRequest {
        let examples = if attempt.examples { self.examples } else { &[] };
        let ask = self.ask;
        GenerateRequest {
            id: trail.id().clone(),
            messages: compose(&ask.messages, examples),
            sampling: ask.sampling.clone(),
            max_tokens: ask.max_tokens,
            stop: ask.stop.clone(),
            form: ask.form.clone(),
            tools: ask.tools.clone(),
            priority: self.directives.priority,
            deadline: Some(self.deadline),
            scope: scope_of(&trail.caller.tenant),
            text: None,
            body: Some(ask.body.clone()),
        }
    }

    /// What to try after this failure.
    fn after(&mut self, trail: &Trail, failed: Attempt, error: &TierError) {
        let pool = &trail.state.pool;
        let name = pool.tier(failed.tier).map(|tier| tier.info().name.clone()).unwrap_or_default();
        if !error.is_clients_fault() {
            trail.state.metrics.tier_errors.with_label_values(&[&name, tier_error_label(error)]).inc();
            tracing::warn!(request = %trail.id(), tier = name, %error, "a tier failed");
        }
        let too_long = matches!(error, TierError::ContextExceeded { .. });
        if too_long && failed.examples {
            self.next = Some(Attempt { examples: false, ..failed });
            return;
        }
        self.tried.push(failed.tier);
        if self.ask.pinned.is_some() || !error.another_tier_may_help() {
            return;
        }
        let context = |tier: usize| pool.tier(tier).map_or(0, |tier| tier.info().context_length);
        let fits = |tier: &usize| !too_long || context(*tier) > context(failed.tier);
        let able = |tier: &usize| pool.tier(*tier).is_some_and(|tier| self.ask.suits(tier.info()));
        let fallbacks = pool.fallbacks(failed.tier).into_iter();
        let next = fallbacks.filter(|tier| !self.tried.contains(tier)).filter(fits).find(able);
        self.next = next.map(|tier| Attempt { tier, examples: failed.examples });
    }
}

/// The tenant as a number: the beginning of its SHA-256, so that nobody comes by another's number by a choice of names.
pub fn scope_of(tenant: &TenantId) -> u64 {
    let digest = Sha256::digest(tenant.as_str());
    digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

impl Running {
    #[must_use]
    pub fn choices(&self) -> usize {
        self.generations.len()
    }

    /// The next piece of a choice, or the end of one. Not to be called once all have ended.
    ///
    /// # Errors
    /// The tier's, or [`TierError::DeadlineExceeded`] if it does not keep its deadline. No choice goes on after it.
    pub async fn step(&mut self) -> Result<Step, TierError> {
        loop {
            let (choice, event) = match self.peeked.pop_front() {
                Some(peeked) => peeked,
                None => self.event().await?,
            };
            let what = match event {
                Event::Started { .. } => continue,
                Event::Delta { text, logprobs } if text.is_empty() && logprobs.is_empty() => continue,
                Event::Delta { text, logprobs } => What::Piece { text, logprobs },
                Event::ToolCall { index, piece } => What::ToolCall { index, piece },
                Event::Finished(finish) => What::End(finish),
            };
            return Ok(Step { choice, what });
        }
    }

    async fn event(&mut self) -> Result<(usize, Event), TierError> {
        let until = self.until;
        let next = poll_fn(|context| self.poll(context));
        tokio::time::timeout_at(until, next).await.unwrap_or(Err(TierError::DeadlineExceeded))
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<(usize, Event), TierError>> {
        let count = self.generations.len();
        let mut open = false;
        for choice in (1..=count).map(|ahead| (self.heard + ahead) % count) {
            let Some(place) = self.generations.get_mut(choice) else { continue };
            let Some(generation) = place else { continue };
            open = true;
            let Poll::Ready(event) = generation.poll_next(context) else { continue };
            self.heard = choice;
            return Poll::Ready(match event {
                Some(Ok(event)) => {
                    if matches!(event, Event::Finished(_)) {
                        *place = None;
                    }
                    Ok((choice, event))
                }
                Some(Err(error)) => Err(error),
                None => Err(no_end()),
            });
        }
        if open { Poll::Pending } else { Poll::Ready(Err(no_end())) }
    }
}

fn no_end() -> TierError {
    TierError::Internal { message: "the generation has no end".to_owned() }
}

/// The first choice is what the seed alone would give; the others draw otherwise, and the same again.
fn seed_of(seed: u64, choice: u32) -> u64 {
    // The golden ratio's fraction: seeds that follow one another do not meet in each other's choices.
    seed.wrapping_add(u64::from(choice).wrapping_mul(0x9E37_79B9_7F4A_7C15))
}
