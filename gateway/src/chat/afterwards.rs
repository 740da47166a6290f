//! After the answer, off its path: what is learned from it.
//!
//! At most so many at once as `state.afterwards` allows; over that an answer is not learned from, and counted. A queue
//! would only put off the loss and hold its memory.

use std::sync::Arc;
use std::time::Instant;

use reprise_cache::selection::Chosen;
use reprise_cache::{
    Admission, CacheError, ExampleId, Instructions, NewExample, Outcome, StoredAnswer, TenantId, UnitVector,
};
use reprise_openai::Usage;
use tokio::task::spawn_blocking;

use super::directives::Directives;
use super::exact::{self, ExactKey};
use super::flight::Flight;
use super::parse::Ask;
use super::recall::embedded_text;
use super::route::Plan;
use super::shadow::Shadow;
use super::trail::Trail;
use crate::decisions::News;
use crate::state::{Memory, SharedState, now_ms};
use crate::telemetry::Later;

/// What an answer may teach, put together before it is known.
#[derive(Debug)]
pub struct Lesson {
    state: SharedState,
    request_id: Arc<str>,
    tenant: TenantId,
    /// Where a deterministic answer is stored.
    key: Option<ExactKey>,
    /// The question, if the answer may become an example.
    question: Option<String>,
    instructions: Instructions,
    embedding: Option<UnitVector>,
    examples: Vec<Chosen>,
    held_back: Vec<ExampleId>,
    pinned: bool,
    shadow: Option<Shadow>,
    /// Those who asked the same wait for it.
    flight: Option<Flight>,
    /// Where the request is recorded.
    trace: Option<Later>,
}

/// An answer that is whole.
#[derive(Debug, Clone)]
pub struct Whole {
    pub text: String,
    pub finish_reason: &'static str,
    pub usage: Usage,
    pub tier: String,
    pub model: String,
    /// The examples were in its prompt.
    pub with_examples: bool,
}

impl Lesson {
    pub fn new(
        trail: &Trail,
        ask: &Ask,
        directives: &Directives,
        plan: &Plan,
        key: Option<ExactKey>,
        flight: Option<Flight>,
    ) -> Self {
        let remembers = directives.write && trail.state.config().cache.admit;
        // Of several answers none is the one to learn from; a biased one is bent to the client's purpose; what is answered
        // where tools were at hand is no pattern for where there are none.
        let exemplary = ask.is_context_free()
            && ask.remote_only.is_none()
            && ask.choices == 1
            && ask.tools.is_none()
            && ask.sampling.logit_bias.is_empty();
        let question = ask.question().filter(|_| remembers && exemplary);
        Self {
            state: Arc::clone(&trail.state),
            request_id: Arc::clone(trail.id()),
            tenant: trail.caller.tenant.clone(),
            key: key.filter(|_| remembers),
            question: question.map(str::to_owned),
            instructions: ask.instructions(),
            embedding: plan.embedding.clone(),
            examples: plan.examples.clone(),
            held_back: plan.held_back.clone(),
            pinned: ask.pinned.is_some(),
            shadow: Shadow::wanted(trail, ask, directives),
            flight,
            trace: trail.later(),
        }
    }

    /// Before the end of the answer is told: the same request right after it is to find it.
    pub async fn store(&mut self, answer: &Whole) {
        let Some(key) = self.key.take().filter(|_| answer.finish_reason == "stop") else { return };
        let stored = StoredAnswer {
            text: answer.text.clone(),
            finish_reason: answer.finish_reason.to_owned(),
            prompt_tokens: answer.usage.prompt_tokens,
            completion_tokens: answer.usage.completion_tokens,
            tier: answer.tier.clone(),
            model: answer.model.clone(),
            created_at_ms: now_ms(),
        };
        exact::store(key, stored).await;
        self.flight = None;
    }

    /// After it: the examples get their credit, the answer becomes one.
    pub fn learn(mut self, answer: Whole) {
        self.shadow(&answer);
        let Some(memory) = self.state.memory().cloned() else { return };
        let credits = answer.with_examples && !self.examples.is_empty();
        let admits =
            self.question.is_some() && answer.finish_reason == "stop" && !answer.text.trim().is_empty();
        if !credits && !admits && self.held_back.is_empty() {
            return;
        }
        let Ok(slot) = Arc::clone(&self.state.afterwards).try_acquire_owned() else {
            self.state.metrics.afterwards_dropped.inc();
            return;
        };
        let state = Arc::clone(&self.state);
        state.tasks.spawn(async move {
            if credits || !self.held_back.is_empty() {
                self.credit(&memory, &answer, credits).await;
            }
            if admits {
                self.admit(memory, answer).await;
            }
            drop(slot);
        });
    }

    /// In a task of its own: it may wait long for an idle tier, and must not keep a place from those who do not.
    fn shadow(&mut self, answer: &Whole) {
        let Some(shadow) = self.shadow.take() else { return };
        let (state, answer) = (Arc::clone(&self.state), answer.clone());
        let abort = state.shutdown.clone();
        self.state.tasks.spawn(async move {
            tokio::select! {
                () = abort.cancelled() => {}
                () = shadow.run(&state, &answer) => {}
            }
        });
    }

    async fn credit(&self, memory: &Memory, answer: &Whole, shown: bool) {
        let shown = if shown { self.examples.as_slice() } else { &[] };
        let ids: Vec<ExampleId> = shown.iter().map(|chosen| chosen.example.id).collect();
        let held_back = self.held_back.clone();
        let pool = &self.state.pool;
        let served = pool.get(&answer.tier).map(|(index, tier)| (index, tier.info().cost));
        let (index, cost) = served.unwrap_or((0, 1.0));
        let offloaded = !self.pinned && index + 1 < pool.iter().len();
        let outcome = Outcome { quality: None, cost: cost as f32, offloaded };
        let (cache, tenant) = (Arc::clone(&memory.cache), self.tenant.clone());
        let credited = spawn_blocking(move || {
            let tenant = cache.tenant(&tenant);
            tenant.credit(&ids, &outcome, now_ms());
            tenant.missed(&held_back, outcome.cost);
        });
        if credited.await.is_err() {
            tracing::error!("crediting examples ended in a panic");
        }
    }

    async fn admit(self, memory: Memory, answer: Whole) {
        let metrics = &self.state.metrics;
        let begun = Instant::now();
        let counted = |result: &str| {
            metrics.cache_admissions.with_label_values(&[result]).inc();
            if let Some(trace) = &self.trace {
                trace.admitted(begun, begun.elapsed(), result);
            }
        };
        let Some(request) = self.question else { return };
        let embedding = match self.embedding {
            Some(embedding) => embedding,
            None => match memory.embedder.embed(&embedded_text(&request)).await {
                Ok(embedding) => embedding,
                Err(error) => {
                    tracing::warn!(%error, "an answer was not admitted");
                    return counted("failed");
                }
            },
        };
        let example = NewExample {
            request,
            answer: answer.text,
            instructions: self.instructions,
            embedding,
            source: answer.tier,
            quality: None,
        };
        let begun = Instant::now();
        let (cache, tenant, told) = (memory.cache, self.tenant.clone(), self.tenant);
        let admitted = spawn_blocking(move || cache.tenant(&tenant).admit(&example, now_ms())).await;
        metrics.stage_duration.with_label_values(&["admit"]).observe(begun.elapsed().as_secs_f64());
        let id = match admitted {
            Ok(Ok(Admission::Inserted(id))) => {
                counted("inserted");
                Some(id)
            }
            Ok(Ok(Admission::Merged(id))) => {
                counted("merged");
                Some(id)
            }
            Ok(Err(CacheError::Refused(_))) => {
                counted("refused");
                None
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "an answer was not admitted");
                counted("failed");
                None
            }
            Err(_) => None,
        };
        if let Some(id) = id {
            self.state.decisions.update(&told, &self.request_id, |record| record.admitted = Some(id));
        }
        let request_id = self.request_id;
        self.state.decisions.tell(|| News::Remembered { request_id, example: id });
    }
}
