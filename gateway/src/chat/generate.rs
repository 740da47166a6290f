//! Stage 7: a tier answers. The first words are looked at before anything is promised to the client: until then another
//! tier can take over.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use reprise_cache::TenantId;
use reprise_cache::selection::Chosen;
use reprise_tier::{Event, Finish, GenerateRequest, Generation, SharedTier, TierError};
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

/// A generation that has brought its first words.
#[derive(Debug)]
pub struct Running {
    pub tier: SharedTier,
    generation: Generation,
    /// Events that were taken to have a look.
    peeked: VecDeque<Event>,
    until: tokio::time::Instant,
}

/// A generation's next step.
#[derive(Debug)]
pub enum Step {
    Text(String),
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
        let generation = tier.submit(self.request(trail, attempt))?;
        let until = (self.deadline + GRACE).into();
        let mut running = Running { tier, generation, peeked: VecDeque::new(), until };
        loop {
            let event = running.event().await?;
            let speaks = !matches!(&event, Event::Started { .. });
            running.peeked.push_back(event);
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
            priority: self.directives.priority,
            deadline: Some(self.deadline),
            scope: scope_of(&trail.caller.tenant),
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
        let able = |tier: &usize| {
            self.ask.remote_only.is_none() || pool.tier(*tier).is_some_and(|tier| tier.info().remote)
        };
        let fallbacks = pool.fallbacks(failed.tier).into_iter();
        let next = fallbacks.filter(|tier| !self.tried.contains(tier)).filter(fits).find(able);
        self.next = next.map(|tier| Attempt { tier, examples: failed.examples });
    }
}

/// The tenant as a number: the beginning of its SHA-256, so that nobody comes by another's number by a choice of names.
fn scope_of(tenant: &TenantId) -> u64 {
    let digest = Sha256::digest(tenant.as_str());
    digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

impl Running {
    /// The next piece of text, or the end.
    ///
    /// # Errors
    /// The tier's, or [`TierError::DeadlineExceeded`] if it does not keep its deadline.
    pub async fn step(&mut self) -> Result<Step, TierError> {
        loop {
            let event = match self.peeked.pop_front() {
                Some(event) => event,
                None => self.event().await?,
            };
            match event {
                Event::Started { .. } => {}
                Event::Delta { text, .. } if text.is_empty() => {}
                Event::Delta { text, .. } => return Ok(Step::Text(text)),
                Event::Finished(finish) => return Ok(Step::End(finish)),
            }
        }
    }

    async fn event(&mut self) -> Result<Event, TierError> {
        match tokio::time::timeout_at(self.until, self.generation.next()).await {
            Ok(Some(event)) => event,
            Ok(None) => Err(TierError::Internal { message: "the generation has no end".to_owned() }),
            Err(_) => Err(TierError::DeadlineExceeded),
        }
    }
}
