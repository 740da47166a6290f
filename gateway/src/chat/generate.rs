//! Stage 7: a tier answers. The first words are looked at before anything is promised to the client: until then another
//! tier can take over.

use std::pin::pin;
use std::time::{Duration, Instant};

use rand::Rng;
use reprise_cache::TenantId;
use reprise_cache::selection::Chosen;
use reprise_tier::{GenerateRequest, Generation, TierError};
use sha2::{Digest, Sha256};

use super::compose::compose;
use super::directives::Directives;
use super::parse::Ask;
use super::recall::used;
use super::route::Plan;
use super::running::{Running, speaks_against_the_tier};
use super::trail::Trail;
use crate::error::{ApiError, tier_error_label};

/// A tier ends each generation by its deadline; this is for one that does not.
const GRACE: Duration = Duration::from_secs(5);
/// An upstream that asks for a longer pause is not asked again.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// What can still be tried for one request.
#[derive(Debug)]
pub struct Attempts<'a> {
    ask: &'a Ask,
    directives: &'a Directives,
    examples: &'a [Chosen],
    deadline: Instant,
    next: Option<Attempt>,
    tried: Vec<usize>,
    /// How often a tier was asked again.
    retries: u32,
}

#[derive(Debug, Clone, Copy)]
struct Attempt {
    tier: usize,
    examples: bool,
    /// Before it.
    pause: Duration,
}

impl<'a> Attempts<'a> {
    pub fn new(trail: &Trail, ask: &'a Ask, directives: &'a Directives, plan: &'a Plan) -> Self {
        trail.state.retries.earn();
        trail.state.hedges.earn();
        let (tier, examples) = (plan.tier, !plan.examples.is_empty());
        Self {
            ask,
            directives,
            examples: &plan.examples,
            deadline: trail.begun() + trail.state.config().server.request_timeout,
            next: Some(Attempt { tier, examples, pause: Duration::ZERO }),
            tried: Vec::new(),
            retries: 0,
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
                    // The tier has counted the prompt by now.
                    trail.charge.cover(running.meter.prompt_tokens(), self.ask.most_tokens().unwrap_or(0))?;
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
            self.after(trail, Attempt { tier, examples: false, pause: Duration::ZERO }, error);
        }
        self.next.is_some()
    }

    async fn attempt(&self, trail: &mut Trail, attempt: Attempt) -> Result<Running, TierError> {
        trail.wait_begins();
        if let Some(tier) = trail.state.pool.tier(attempt.tier).cloned() {
            trail.attempt(tier.info());
        }
        if !attempt.pause.is_zero() {
            tokio::time::sleep(attempt.pause).await;
        }
        let first = self.guarded(trail, attempt).await;
        trail.wait_ends();
        if let Err(error) = &first {
            trail.attempt_failed(tier_error_label(error), &error.to_string());
        }
        first
    }

    /// Behind the tier's circuit breaker.
    async fn guarded(&self, trail: &mut Trail, attempt: Attempt) -> Result<Running, TierError> {
        let pass = trail.state.pool.enter(attempt.tier, Instant::now());
        let broken =
            || TierError::NotReady { reason: "it failed often and is left alone for a while".to_owned() };
        let pass = pass.ok_or_else(broken)?;
        match self.first_words(trail, attempt).await {
            Ok(mut running) => {
                running.judge(pass);
                trail.charge.watch(running.meter.clone(), &running.tier.info().name);
                Ok(running)
            }
            Err(error) => {
                if speaks_against_the_tier(&error) {
                    pass.failed(Instant::now());
                }
                Err(error)
            }
        }
    }

    /// Of one request, or, where the first says nothing for long, of two: whichever speaks first.
    async fn first_words(&self, trail: &mut Trail, attempt: Attempt) -> Result<Running, TierError> {
        let first = self.submit(trail, attempt)?;
        let name = first.tier.info().name.clone();
        trail.charge.watch(first.meter.clone(), &name);
        let hedge_after = trail
            .state
            .config()
            .tiers
            .iter()
            .find(|tier| tier.name() == name)
            .and_then(|tier| tier.hedge_after());
        let mut first = pin!(first.speaking());
        let Some(hedge_after) = hedge_after else { return first.await };
        tokio::select! {
            biased;
            spoken = &mut first => return spoken,
            () = tokio::time::sleep(hedge_after) => {}
        }
        if !trail.state.hedges.take() {
            return first.await;
        }
        let Ok(second) = self.submit(trail, attempt) else { return first.await };
        let mut second = pin!(second.speaking());
        let (spoken, by_first) = tokio::select! {
            biased;
            spoken = &mut first => match spoken {
                Ok(running) => (Ok(running), true),
                Err(_) => (second.await, false),
            },
            spoken = &mut second => match spoken {
                Ok(running) => (Ok(running), false),
                Err(_) => (first.await, true),
            },
        };
        let label = if by_first { "true" } else { "false" };
        trail.state.metrics.tier_hedges.with_label_values(&[name.as_str(), label]).inc();
        spoken
    }

    fn submit(&self, trail: &Trail, attempt: Attempt) -> Result<Running, TierError> {
        let tier = trail.state.pool.tier(attempt.tier).cloned();
        let tier = tier.ok_or_else(|| TierError::Internal { message: "no such tier".to_owned() })?;
        let request = self.request(trail, attempt);
        let generations = (0..self.ask.generations()).map(|index| {
            let mut request = request.clone();
            let (text, choice) = (index / self.ask.choices, index % self.ask.choices);
            request.text = self.ask.texts.get(text as usize).cloned();
            request.sampling.seed = request.sampling.seed.map(|seed| seed_of(seed, choice));
            tier.submit(request)
        });
        let generations = generations.collect::<Result<Vec<Generation>, _>>()?;
        Ok(Running::new(tier, generations, self.ask.choices, self.deadline + GRACE))
    }

    fn request(&self, trail: &Trail, attempt: Attempt) -> GenerateRequest {
        let examples = if attempt.examples { self.examples } else { &[] };
        let ask = self.ask;
        let local = trail.state.pool.tier(attempt.tier).is_some_and(|tier| !tier.info().remote);
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
            // Of no meaning to a remote tier, which keeps nothing between requests.
            scope: if local { scope_of(&trail.caller.tenant) } else { 0 },
            text: None,
            body: Some(ask.body.clone()),
            traceparent: trail.traceparent(),
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
        self.next =
            self.fallback(trail, failed, error, too_long).or_else(|| self.retry(trail, failed, error));
    }

    fn fallback(&self, trail: &Trail, failed: Attempt, error: &TierError, too_long: bool) -> Option<Attempt> {
        let pool = &trail.state.pool;
        if self.ask.pinned.is_some() || !error.another_tier_may_help() {
            return None;
        }
        let context = |tier: usize| pool.tier(tier).map_or(0, |tier| tier.info().context_length);
        let fits = |tier: &usize| !too_long || context(*tier) > context(failed.tier);
        let able = |tier: &usize| pool.tier(*tier).is_some_and(|tier| self.ask.suits(tier.info()));
        let fallbacks = pool.fallbacks(failed.tier).into_iter();
        let next = fallbacks.filter(|tier| !self.tried.contains(tier)).filter(fits).find(able);
        next.map(|tier| Attempt { tier, examples: failed.examples, pause: Duration::ZERO })
    }

    /// The same remote tier again, after a pause, if that is all that is left and a passing fault.
    fn retry(&mut self, trail: &Trail, failed: Attempt, error: &TierError) -> Option<Attempt> {
        let TierError::Upstream { status, retry_after, .. } = error else { return None };
        let passing = status.is_none_or(|status| status >= 500 || matches!(status, 408 | 429));
        let config = &trail.state.config().resilience;
        let tier = trail.state.pool.tier(failed.tier).filter(|tier| tier.info().remote)?;
        if !passing || self.retries >= config.retries || retry_after.is_some_and(|time| time > LONGEST_PAUSE)
        {
            return None;
        }
        let backoff = config.retry_backoff.mul_f64(2_f64.powi(self.retries.cast_signed()));
        let pause = backoff.mul_f64(rand::rng().random_range(0.5..1.5)).max(retry_after.unwrap_or_default());
        if Instant::now() + pause >= self.deadline || !trail.state.retries.take() {
            return None;
        }
        self.retries += 1;
        trail.state.metrics.tier_retries.with_label_values(&[&tier.info().name]).inc();
        Some(Attempt { pause, ..failed })
    }
}

/// The tenant as a number: the beginning of its SHA-256, so that nobody comes by another's number by a choice of names.
pub fn scope_of(tenant: &TenantId) -> u64 {
    let digest = Sha256::digest(tenant.as_str());
    digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// The first choice is what the seed alone would give; the others draw otherwise, and the same again.
fn seed_of(seed: u64, choice: u32) -> u64 {
    // The golden ratio's fraction: seeds that follow one another do not meet in each other's choices.
    seed.wrapping_add(u64::from(choice).wrapping_mul(0x9E37_79B9_7F4A_7C15))
}
