//! What happened to one request, from its head to the last byte of its answer.
//!
//! Dropping a trail that was not ended means that the client went away: it is filed as such, whatever stage it was in.

mod computed;
mod traced;

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::StatusCode;
use reprise_accounts::Outcome;
use reprise_openai::Usage;
use reprise_router::{ArmKey, Decision, Exclusion};
use reprise_tier::Finish;
use tokio::sync::OwnedSemaphorePermit;

use super::recall::Recalled;
use crate::auth::Caller;
use crate::charge::Charge;
use crate::decisions::{CacheStatus, DecisionRecord, News, Timings, UsedExample};
use crate::error::ApiError;
use crate::http::{Facts, RequestInfo};
use crate::state::SharedState;
use crate::telemetry::{Ended, Trace};

/// nginx's status for a client that went away before it was answered; no client ever sees it.
const CLIENT_CLOSED: u16 = 499;

/// A stage that has a timing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Parse,
    Exact,
    Embed,
    Retrieve,
    Select,
    Route,
}

#[derive(Debug)]
pub struct Trail {
    pub state: SharedState,
    pub caller: Caller,
    /// What it may use and used.
    pub charge: Charge,
    info: RequestInfo,
    /// The label of the route.
    endpoint: &'static str,
    record: DecisionRecord,
    waited: Duration,
    waiting_since: Option<Instant>,
    /// Set when the headers are made: what comes later is not on the way to them.
    overhead: Option<Duration>,
    example_tokens: u32,
    pinned: bool,
    ended: bool,
    /// Held until the answer has ended.
    slot: Option<OwnedSemaphorePermit>,
    /// Of a request that is recorded for a collector.
    trace: Option<Box<Trace>>,
}

impl Trail {
    #[must_use]
    pub fn begin(state: SharedState, info: RequestInfo, caller: Caller, endpoint: &'static str) -> Self {
        let record = DecisionRecord {
            request_id: Arc::clone(&info.id),
            created: info.at,
            tenant: caller.tenant.clone(),
            tier: None,
            model: None,
            cache: CacheStatus::Bypass,
            status: 0,
            error: None,
            examples: Vec::new(),
            similarity: None,
            decision: None,
            arm: None,
            straight: false,
            timings: Timings::default(),
            usage: None,
            finish_reason: None,
            rating: None,
            embedding: None,
            request_bytes: 0,
            admitted: None,
        };
        state.decisions.tell(|| News::Begun {
            request_id: Arc::clone(&info.id),
            created: info.at,
            tenant: caller.tenant.clone(),
            endpoint,
        });
        let recorded = info.place.filter(|place| place.recorded);
        let trace = recorded
            .map(|place| Box::new(Trace::new(state.telemetry.clone(), place, endpoint, info.begun, info.at)));
        Self {
            charge: Charge::new(&state, &caller),
            state,
            caller,
            info,
            endpoint,
            record,
            waited: Duration::ZERO,
            waiting_since: None,
            overhead: None,
            example_tokens: 0,
            pinned: false,
            ended: false,
            slot: None,
            trace,
        }
    }

    /// Takes one of the slots that bound how much is under way.
    ///
    /// # Errors
    /// 429 if all are taken, 503 once shutdown has begun.
    pub fn take_slot(&mut self) -> Result<(), ApiError> {
        if self.state.shutdown.is_cancelled() {
            return Err(ApiError::shutting_down());
        }
        let slot = Arc::clone(&self.state.slots).try_acquire_owned().map_err(|_| ApiError::busy())?;
        self.slot = Some(slot);
        Ok(())
    }

    #[must_use]
    pub fn id(&self) -> &Arc<str> {
        &self.info.id
    }

    #[must_use]
    pub fn begun(&self) -> Instant {
        self.info.begun
    }

    #[must_use]
    pub fn created_second(&self) -> i64 {
        self.info.at.as_second()
    }

    pub fn pin(&mut self) {
        self.pinned = true;
    }

    pub fn time(&mut self, stage: Stage, begun: Instant, took: Duration) {
        let timings = &mut self.record.timings;
        let (slot, label) = match stage {
            Stage::Parse => (&mut timings.parse_ms, "parse"),
            Stage::Exact => (&mut timings.exact_ms, "exact"),
            Stage::Embed => (&mut timings.embed_ms, "embed"),
            Stage::Retrieve => (&mut timings.retrieve_ms, "retrieve"),
            Stage::Select => (&mut timings.select_ms, "select"),
            Stage::Route => (&mut timings.route_ms, "route"),
        };
        *slot = Some(took.as_secs_f64() * 1e3);
        if let Some(trace) = &mut self.trace {
            trace.stage(label, begun, took);
        }
        self.state.metrics.stage_duration.with_label_values(&[label]).observe(took.as_secs_f64());
    }

    /// From here on the gateway waits for a tier: that time is not its own.
    pub fn wait_begins(&mut self) {
        self.waiting_since = Some(Instant::now());
    }

    pub fn wait_ends(&mut self) {
        self.waited += self.waiting_since.take().map_or(Duration::ZERO, |since| since.elapsed());
    }

    /// Time in the gateway less time waiting for a tier, up to now or to when the headers were made.
    fn overhead(&self) -> Duration {
        let waiting = self.waiting_since.map_or(Duration::ZERO, |since| since.elapsed());
        self.overhead.unwrap_or_else(|| self.info.begun.elapsed().saturating_sub(self.waited + waiting))
    }

    /// The headers are made now.
    pub fn commit(&mut self) -> Facts {
        self.overhead = Some(self.overhead());
        self.facts()
    }

    pub fn cache(&mut self, status: CacheStatus) {
        self.record.cache = status;
    }

    pub fn recalled(&mut self, recalled: &Recalled) {
        self.record.request_bytes = recalled.bytes;
        self.record.similarity = recalled.top_similarity;
        self.record.embedding = Some(recalled.embedding.clone());
        let metrics = &self.state.metrics;
        metrics.selection_examples.observe(recalled.chosen.len() as f64);
        if let Some(similarity) = recalled.top_similarity {
            metrics.selection_similarity.observe(f64::from(similarity));
        }
    }

    pub fn decided(&mut self, decision: Decision) {
        if !self.pinned {
            let examples = if decision.arm.examples { "true" } else { "false" };
            let labels = [decision.policy.as_str(), &*decision.key.tier, examples];
            self.state.metrics.router_decisions.with_label_values(&labels).inc();
            for excluded in decision.excluded.iter().filter(|excluded| excluded.reason == Exclusion::Harmful)
            {
                if let Some(tier) = self.state.pool.tier(excluded.arm.tier) {
                    self.state.metrics.guard_withheld.with_label_values(&[&tier.info().name]).inc();
                }
            }
        }
        self.record.decision = Some(decision);
    }

    pub fn decision(&self) -> Option<&Decision> {
        self.record.decision.as_ref()
    }

    pub fn went_straight(&mut self, reason: &'static str) {
        self.record.straight = true;
        self.state.metrics.router_straight.with_label_values(&[reason]).inc();
    }

    /// A tier has begun to answer, with these examples in its prompt.
    pub fn answering(&mut self, tier: &str, model: &str, examples: Vec<UsedExample>) {
        let (metrics, took) = (&self.state.metrics, self.info.begun.elapsed());
        metrics.time_to_first_token.with_label_values(&[tier]).observe(took.as_secs_f64());
        self.record.timings.ttft_ms = Some(took.as_secs_f64() * 1e3);
        self.served_by(tier, model);
        self.record.arm =
            Some(ArmKey { tier: tier.into(), model: model.into(), examples: !examples.is_empty() });
        self.example_tokens = examples.iter().map(|example| example.tokens).sum();
        if !examples.is_empty() {
            self.record.cache = CacheStatus::Examples;
        } else if self.record.cache == CacheStatus::Examples {
            self.record.cache = CacheStatus::Miss;
        }
        self.record.examples = examples;
        self.state.decisions.tell(|| News::Answering {
            request_id: Arc::clone(&self.info.id),
            tier: tier.into(),
            examples: self.record.examples.len(),
        });
    }

    /// A stored answer is served that this tier once wrote.
    pub fn reused(&mut self, tier: &str, model: &str, similarity: f32, usage: Usage) {
        self.served_by(tier, model);
        self.record.cache = CacheStatus::Hit;
        self.record.similarity = Some(similarity);
        let saved = self.charge.price(tier, usage.prompt_tokens, usage.completion_tokens);
        self.state.metrics.tokens_saved.inc_by(u64::from(usage.completion_tokens));
        self.state.metrics.money_saved.with_label_values(&["hit"]).inc_by(saved);
    }

    fn served_by(&mut self, tier: &str, model: &str) {
        self.record.tier = Some(tier.to_owned());
        self.record.model = Some(model.to_owned());
    }

    /// What the headers say, as of now.
    #[must_use]
    pub fn facts(&self) -> Facts {
        Facts {
            tier: self.record.tier.clone(),
            cache: self.record.cache,
            examples: self.record.examples.len(),
            similarity: self.record.similarity,
            waited: self.waited,
            standing: self.charge.standing(),
            counts_itself: true,
        }
    }

    /// The answer is whole.
    pub fn finish(mut self, usage: Usage, reason: &'static str, finish: Option<&Finish>) {
        self.record.usage = Some(usage);
        self.record.finish_reason = Some(reason);
        match (&self.record.tier, finish) {
            (Some(tier), Some(_)) => self.charge.answered(tier, usage),
            _ => self.charge.hit(),
        }
        if let (Some(finish), Some(tier)) = (finish, self.record.tier.clone()) {
            self.computed(&tier, usage, finish);
        }
        self.end(StatusCode::OK.as_u16(), None);
    }

    /// There is no whole answer, and the client is told why.
    pub fn fail(mut self, status: StatusCode, message: String) {
        self.end(status.as_u16(), Some(message));
    }

    fn end(&mut self, status: u16, error: Option<String>) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        self.charge.ended(if status == CLIENT_CLOSED { Outcome::Cancelled } else { Outcome::Failed });
        let took = self.info.begun.elapsed();
        let cache = self.record.cache;
        // A hit was computed by no tier.
        let tier = match cache {
            CacheStatus::Hit => "",
            _ => self.record.tier.as_deref().unwrap_or_default(),
        };
        let metrics = &self.state.metrics;
        metrics.requests.with_label_values(&[self.endpoint, &status.to_string(), tier, cache.as_str()]).inc();
        metrics
            .request_duration
            .with_label_values(&[self.endpoint, tier, cache.as_str()])
            .observe(took.as_secs_f64());
        if status == StatusCode::OK.as_u16() {
            metrics.cache_lookups.with_label_values(&[cache.label()]).inc();
        }
        tracing::debug!(
            request = %self.info.id, tenant = %self.caller.tenant, status, tier, cache = cache.as_str(),
            examples = self.record.examples.len(), took_ms = took.as_millis(), error, "answered"
        );
        let overhead = self.overhead();
        let timings = &mut self.record.timings;
        timings.total_ms = took.as_secs_f64() * 1e3;
        timings.overhead_ms = overhead.as_secs_f64() * 1e3;
        self.record.status = status;
        self.record.error = error;
        if let Some(trace) = self.trace.take() {
            trace.end(Ended { record: &self.record, took });
        }
        self.state.decisions.add(self.record.clone());
    }
}

impl Drop for Trail {
    fn drop(&mut self) {
        self.end(CLIENT_CLOSED, Some("the client went away".to_owned()));
    }
}
