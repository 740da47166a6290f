use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `GET /v1/models/{id}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Model {
    pub id: String,
    pub object: String,
    /// Unix time in seconds.
    pub created: i64,
    pub owned_by: String,
}

/// `GET /v1/models`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ModelList {
    pub object: String,
    pub data: Vec<Model>,
}

impl Model {
    #[must_use]
    pub fn new(id: impl Into<String>, created: i64, owned_by: impl Into<String>) -> Self {
        Self { id: id.into(), object: "model".into(), created, owned_by: owned_by.into() }
    }
}

impl ModelList {
    #[must_use]
    pub fn new(data: Vec<Model>) -> Self {
        Self { object: "list".into(), data }
    }
}
