//! Stage 3: what was answered before that may help with this question.
//!
//! The question, and in a conversation also where it stands ([`conversation`](super::conversation)), is embedded on the embedder's own threads; search and selection run on a blocking thread, so many at
//! once as `state.searches` allows.

use std::sync::Arc;
use std::time::{Duration, Instant};

use reprise_cache::selection::{Chosen, Query, SelectionConfig, select};
use reprise_cache::{Cache, Candidate, EmbedError, ExampleId, Instructions, TenantId, UnitVector, scrub};
use reprise_tier::SharedTier;
use tokio::task::spawn_blocking;

use super::compose::Pair;
use super::conversation::queries;
use super::directives::Directives;
use super::parse::Ask;
use super::trail::{Stage, Trail};
use crate::decisions::UsedExample;
use crate::state::Memory;

/// What the cache knows of a question.
#[derive(Debug)]
pub struct Recalled {
    pub embedding: UnitVector,
    /// Of the question.
    pub bytes: usize,
    /// Most useful last.
    pub chosen: Vec<Chosen>,
    /// The nearest example as it is, whether it was chosen or not.
    pub nearest: Option<Chosen>,
    pub top_similarity: Option<f32>,
    /// Near ones that a better answer would have made useful.
    pub held_back: Vec<ExampleId>,
}

#[derive(Debug, thiserror::Error)]
pub enum RecallError {
    #[error(transparent)]
    Embed(#[from] EmbedError),
    #[error("the search died")]
    Died,
}

/// An embedder reads a few hundred tokens; more text would only cost time.
const EMBEDDED_BYTES: usize = 4096;
/// By so much something must be nearer to a question where it stands than to the question itself. Of 0, 0.02, 0.05 and 0.1 it found the right task and
/// label most often: `gateway/bench/runs/2026-11-26-2core/conversations/`.
const LEAD: f32 = 0.1;

/// `None` if there is no question that examples could help with.
///
/// # Errors
/// The embedder or the cache failed; the request is answered without them.
pub async fn recall(
    trail: &mut Trail,
    memory: &Memory,
    ask: &Ask,
    directives: &Directives,
) -> Result<Option<Recalled>, RecallError> {
    let Some(question) = ask.question().filter(|_| ask.takes_examples()) else { return Ok(None) };
    let begun = Instant::now();
    let queries = queries(memory.embedder.as_ref(), question, ask.first_question()).await?;
    trail.time(Stage::Embed, begun, begun.elapsed());
    let slot = Arc::clone(&trail.state.searches).acquire_owned().await.map_err(|_| RecallError::Died)?;
    let shown_to = shown_to(trail, ask);
    let search = Search {
        cache: Arc::clone(&memory.cache),
        tenant: trail.caller.tenant.clone(),
        queries,
        bytes: question.len(),
        instructions: ask.instructions(),
        config: selection_config(trail, directives),
        strength: shown_to.map_or(0.0, |tier| trail.state.pool.strength(tier)) as f32,
        tokenizer: shown_to.and_then(|tier| trail.state.pool.tier(tier)).cloned(),
    };
    let found = spawn_blocking(move || {
        let found = search.run();
        drop(slot);
        found
    });
    let Some((recalled, times)) = found.await.map_err(|_| RecallError::Died)? else { return Ok(None) };
    trail.time(Stage::Retrieve, times.begun, times.retrieve);
    trail.time(Stage::Select, times.begun + times.retrieve, times.select);
    trail.recalled(&recalled);
    Ok(Some(recalled))
}

/// What of a question is embedded: its beginning and its end, as the embedder itself cuts a text, without what must not
/// be stored. Lookup and admission take the same.
#[must_use]
pub fn embedded_text(question: &str) -> String {
    if question.len() <= EMBEDDED_BYTES {
        return scrub(question).into_owned();
    }
    let head = &question[..question.floor_char_boundary(EMBEDDED_BYTES / 2)];
    let tail = &question[question.ceil_char_boundary(question.len() - EMBEDDED_BYTES / 2)..];
    scrub(&format!("{head} {tail}")).into_owned()
}

struct Search {
    cache: Arc<Cache>,
    tenant: TenantId,
    queries: Vec<UnitVector>,
    /// Of the question.
    bytes: usize,
    instructions: Instructions,
    config: SelectionConfig,
    /// Of the tier that would be shown the examples.
    strength: f32,
    tokenizer: Option<SharedTier>,
}

struct Times {
    begun: Instant,
    retrieve: Duration,
    select: Duration,
}

impl Search {
    /// `None`: there is no query.
    fn run(self) -> Option<(Recalled, Times)> {
        let begun = Instant::now();
        let tenant = self.cache.tenant(&self.tenant);
        let near = |embedding| {
            let candidates = tenant.nearest(&embedding, self.config.top_k, self.instructions);
            (embedding, candidates)
        };
        let (embedding, candidates) = self.queries.into_iter().map(near).reduce(clearly_nearer)?;
        let retrieve = begun.elapsed();
        let tokens = |request: &str, answer: &str| match &self.tokenizer {
            Some(tier) => tier.block_tokens(request, answer),
            None => u32::try_from((request.len() + answer.len()) / 4 + 8).unwrap_or(u32::MAX),
        };
        let query = Query { embedding: &embedding, bytes: self.bytes, strength: self.strength };
        let utility = self.cache.utility().utility;
        let config = SelectionConfig { tau: utility.tau().unwrap_or(self.config.tau), ..self.config };
        // The pressure now, not at the request's start: the search may have waited.
        let kv_used = self.tokenizer.as_ref().map_or(0.0, |tier| tier.pressure().kv_used);
        let selection = select(
            &query,
            &candidates,
            utility.as_ref(),
            &|example| tokens(&example.request, &example.answer),
            &config.while_kv_used(kv_used),
        );
        let nearest = candidates.first().map(|first| Chosen {
            example: Arc::clone(&first.example),
            similarity: first.similarity,
            utility: first.similarity,
            tokens: 0,
        });
        let times = Times { begun, retrieve, select: begun.elapsed().saturating_sub(retrieve) };
        let recalled = Recalled {
            embedding,
            bytes: self.bytes,
            chosen: selection.chosen,
            held_back: selection.held_back,
            top_similarity: nearest.as_ref().map(|nearest| nearest.similarity),
            nearest,
        };
        Some((recalled, times))
    }
}

/// The query that finds something nearer, by a clear lead; else the first, which is the question itself.
fn clearly_nearer<Q>(first: (Q, Vec<Candidate>), other: (Q, Vec<Candidate>)) -> (Q, Vec<Candidate>) {
    let nearest = |(_, found): &(Q, Vec<Candidate>)| found.first().map(|nearest| nearest.similarity);
    match (nearest(&first), nearest(&other)) {
        (None, Some(_)) => other,
        (Some(question), Some(similarity)) if similarity > question + LEAD => other,
        _ => first,
    }
}

fn selection_config(trail: &Trail, directives: &Directives) -> SelectionConfig {
    let config = trail.state.config();
    let cache = &config.cache;
    let allowed = directives.max_examples.map_or(usize::MAX, |count| count as usize);
    SelectionConfig {
        top_k: cache.top_k,
        tau: cache.tau,
        max_examples: cache.max_examples.min(allowed),
        token_budget: cache.token_budget,
        diversity: cache.diversity,
    }
}

/// For whom examples are chosen, whose tokens they cost: the tier that is named, else the cheapest that is ready, which
/// is where examples matter most.
fn shown_to(trail: &Trail, ask: &Ask) -> Option<usize> {
    let pool = &trail.state.pool;
    let ready = |tier: &SharedTier| tier.state() == reprise_tier::TierState::Ready;
    match ask.pinned {
        Some(index) => pool.tier(index).is_some_and(ready).then_some(index),
        None => pool.iter().position(ready),
    }
}

impl Pair for Chosen {
    fn request(&self) -> &str {
        &self.example.request
    }

    fn answer(&self) -> &str {
        &self.example.answer
    }
}

/// How an example is shown beside a decision.
#[must_use]
pub fn used(chosen: &Chosen) -> UsedExample {
    UsedExample {
        id: chosen.example.id,
        similarity: chosen.similarity,
        utility: chosen.utility,
        tokens: chosen.tokens,
        request: chosen.example.request.clone(),
        answer: chosen.example.answer.clone(),
        source: chosen.example.source.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beginning_and_end_of_a_question_are_embedded_scrubbed() {
        assert_eq!(embedded_text("mail jane.roe@example.com"), "mail [EMAIL]");
        let long = embedded_text(&format!("task {} question", "\u{e9}".repeat(EMBEDDED_BYTES)));
        assert!(long.len() <= EMBEDDED_BYTES + 1 && long.starts_with("task") && long.ends_with("question"));
    }
}
