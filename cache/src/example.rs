use std::{fmt, str::FromStr, sync::Arc};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Index, Instructions, UnitVector};

/// Names an example; ordered by the time of its making.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct ExampleId(Uuid);

impl ExampleId {
    pub(crate) fn generate() -> Self {
        Self(Uuid::now_v7())
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Uuid::from_slice(bytes).ok().map(Self)
    }

    pub(crate) fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

impl fmt::Display for ExampleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for ExampleId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        Uuid::parse_str(text).map(Self)
    }
}

/// One remembered request and its answer: one block of tokens in a prompt.
#[derive(Debug, Clone, Serialize)]
pub struct Example {
    pub id: ExampleId,
    /// The last user message, scrubbed.
    pub request: String,
    pub answer: String,
    /// It is shown under these alone.
    #[serde(skip)]
    pub instructions: Instructions,
    #[serde(skip)]
    pub embedding: UnitVector,
    /// Who wrote the answer: a tier's name, or what an import said.
    pub source: String,
    /// Measured quality of the answer, in [0, 1]; `None` until something measured it.
    pub quality: Option<f32>,
    pub created_at_ms: i64,
    pub updated_at_ms: i64,
    /// Decayed count of successful offloads, as of `valued_at_ms`.
    pub value: f64,
    pub valued_at_ms: i64,
    /// EMA of the replay gain G(e): what a better answer here would have been worth, a use.
    pub replay_gain: f64,
    /// Times it stood in a prompt.
    pub uses: u64,
    /// Times it would have stood in one if its answer were better.
    pub missed: u64,
    /// Times replay asked again for its answer.
    pub replays: u32,
    /// Near-duplicates that it took in.
    pub merged: u32,
    /// What it counts against the byte budget.
    pub bytes: usize,
}

/// What becomes an example. `embedding` is of the scrubbed request: see [`scrub`](crate::scrub).
#[derive(Debug, Clone)]
pub struct NewExample {
    pub request: String,
    pub answer: String,
    pub instructions: Instructions,
    pub embedding: UnitVector,
    pub source: String,
    pub quality: Option<f32>,
}

/// An example near a request.
#[derive(Debug, Clone)]
pub struct Candidate {
    pub example: Arc<Example>,
    /// Cosine similarity to the request, recomputed exactly.
    pub similarity: f32,
}

impl Example {
    /// As it is when it comes in: nothing is known of its worth.
    #[must_use]
    pub fn new(id: ExampleId, new: NewExample, now_ms: i64) -> Self {
        let NewExample { request, answer, instructions, embedding, source, quality } = new;
        Self {
            bytes: Self::count_bytes(&request, &answer, embedding.dimensions()),
            id,
            request,
            answer,
            instructions,
            embedding,
            source,
            quality,
            created_at_ms: now_ms,
            updated_at_ms: now_ms,
            value: 0.0,
            valued_at_ms: now_ms,
            replay_gain: 0.0,
            uses: 0,
            missed: 0,
            replays: 0,
            merged: 0,
        }
    }

    /// What an example takes beside its texts: its vector and what the cache notes of it.
    #[must_use]
    pub fn bytes_beside_texts(dimensions: usize) -> usize {
        const OVERHEAD: usize = 320;
        Index::bytes_per_vector(dimensions) + OVERHEAD
    }

    /// Text and vector, and what the index and maps hold beside them.
    pub(crate) fn count_bytes(request: &str, answer: &str, dimensions: usize) -> usize {
        request.len() + answer.len() + Self::bytes_beside_texts(dimensions)
    }
}
