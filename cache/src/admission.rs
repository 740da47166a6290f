//! What enters the memory: scrubbed first, refused with a reason, or merged into what says the same.

use std::sync::Arc;

use serde::Serialize;
use thiserror::Error;

use crate::{
    CacheError, Example, ExampleId, NewExample, TenantCache, guard, orders::gives_orders, scrub,
    scrub::is_only_marks,
};

/// What became of a new example.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "admission", content = "id", rename_all = "snake_case")]
pub enum Admission {
    Inserted(ExampleId),
    /// It is a near-duplicate of this one, which took over what of it was better.
    Merged(ExampleId),
}

/// Why an example is not taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Refusal {
    #[error("the request is empty")]
    EmptyRequest,
    #[error("the answer is empty")]
    EmptyAnswer,
    #[error("request and answer have {bytes} bytes together, but at most {limit} are taken")]
    TooLong { bytes: usize, limit: usize },
    #[error("nothing but personal data was in the request or the answer")]
    OnlyPrivate,
    /// See `cache/src/orders.rs`.
    #[error("the request or the answer gives orders for other requests")]
    GivesOrders,
    #[error("the quality is not between 0 and 1")]
    Quality,
}

/// Nearest examples in which a twin is looked for: several may be alike but for a number.
const LOOKED_AT: usize = 16;

impl TenantCache {
    /// Takes in a new example: scrubbed, and merged into a near-duplicate if there is one.
    ///
    /// # Errors
    /// [`CacheError::Refused`] says what is wrong with it; otherwise the store refused. Nothing changed.
    pub fn admit(&self, new: &NewExample, now_ms: i64) -> Result<Admission, CacheError> {
        let (request, answer) = (scrub(&new.request), scrub(&new.answer));
        self.acceptable(&request, &answer, new)?;
        let config = &self.shared.config;
        let mut registered = self.partition.writer.lock();
        let twin = self.twin(&request, new);
        let (example, admission) = match twin {
            Some(twin) => {
                let merged = merge(&twin, &answer, new, now_ms);
                (merged, Admission::Merged(twin.id))
            }
            None => {
                let id = ExampleId::generate();
                let scrubbed =
                    NewExample { request: request.into_owned(), answer: answer.into_owned(), ..new.clone() };
                let example = Example { value: config.initial_value, ..Example::new(id, scrubbed, now_ms) };
                (example, Admission::Inserted(id))
            }
        };
        self.keep(&mut registered, example)?;
        Ok(admission)
    }

    fn acceptable(&self, request: &str, answer: &str, new: &NewExample) -> Result<(), CacheError> {
        let expected = self.shared.dimensions;
        if new.embedding.dimensions() != expected {
            return Err(CacheError::Dimensions { expected, got: new.embedding.dimensions() });
        }
        if request.trim().is_empty() {
            return Err(Refusal::EmptyRequest.into());
        }
        if answer.trim().is_empty() {
            return Err(Refusal::EmptyAnswer.into());
        }
        if is_only_marks(request) || is_only_marks(answer) {
            return Err(Refusal::OnlyPrivate.into());
        }
        // As it came: a mark in the middle would break a pattern.
        if gives_orders(&new.request) || gives_orders(&new.answer) {
            return Err(Refusal::GivesOrders.into());
        }
        if new.quality.is_some_and(|quality| !(0.0..=1.0).contains(&quality)) {
            return Err(Refusal::Quality.into());
        }
        self.fits(request, answer)
    }

    pub(crate) fn fits(&self, request: &str, answer: &str) -> Result<(), CacheError> {
        let (bytes, limit) = (request.len() + answer.len(), self.shared.config.max_example_bytes);
        if bytes > limit { Err(Refusal::TooLong { bytes, limit }.into()) } else { Ok(()) }
    }

    /// An example under the same instructions that says the same, whatever an embedding cannot tell apart.
    fn twin(&self, request: &str, new: &NewExample) -> Option<Arc<Example>> {
        let floor = self.shared.config.duplicate_similarity;
        let near = self.partition.index.nearest(&new.embedding, LOOKED_AT, floor, new.instructions);
        let examples = self.partition.examples.read();
        let mut alike = near.into_iter().filter_map(|(id, _)| examples.get(&id));
        alike.find(|example| guard::may_be_the_same(&example.request, request)).cloned()
    }
}

/// A measured answer wins over an unmeasured one, and the better over the worse; among unmeasured ones the first stays.
fn merge(old: &Example, answer: &str, new: &NewExample, now_ms: i64) -> Example {
    let better = match (new.quality, old.quality) {
        (Some(new), Some(old)) => new > old,
        (Some(_), None) => true,
        (None, _) => false,
    };
    let mut merged = old.clone();
    merged.merged += 1;
    if better {
        answer.clone_into(&mut merged.answer);
        merged.source.clone_from(&new.source);
        merged.quality = new.quality;
        merged.replay_gain = 0.0;
        merged.updated_at_ms = now_ms;
    }
    merged
}
