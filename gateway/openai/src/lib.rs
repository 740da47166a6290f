//! OpenAI's wire types, as a server and as a client need them.
//!
//! Reading is tolerant: a field that is not known here is kept in `extra` and can be passed on, and a field that is
//! null counts as absent. Why not a published crate of these types: those are strict where a gateway must be tolerant
//! (unknown fields, roles, parts), so that every new field of OpenAI's would be an outage.

pub mod chat;
pub mod completions;
mod embeddings;
mod error;
mod model;
pub mod responses;
pub mod sse;
mod usage;

pub use embeddings::{
    Embedding, EmbeddingInput, EmbeddingRequest, EmbeddingResponse, EmbeddingUsage, EmbeddingVector,
};
pub use error::{ErrorBody, ErrorResponse, FieldError, kind};
pub use model::{Model, ModelList};
pub use usage::{PromptTokensDetails, Usage};
