use std::sync::Arc;

use serde_json::Value;

/// JSON that an answer has to be.
#[derive(Debug, Clone, PartialEq)]
pub enum JsonForm {
    /// Any object.
    Object,
    /// What this JSON Schema admits.
    Schema(Arc<Value>),
}

/// Functions that the model may call instead of answering.
#[derive(Debug, Clone, PartialEq)]
pub struct Tools {
    /// At least one; no two of one name.
    pub functions: Vec<Function>,
    pub choice: ToolChoice,
    /// Several may be called in one turn.
    pub parallel: bool,
}

/// A function that the client can run.
#[derive(Debug, Clone, PartialEq)]
pub struct Function {
    /// ASCII letters, digits, `_` and `-`.
    pub name: String,
    pub description: Option<String>,
    /// A JSON Schema of its arguments, which are an object.
    pub parameters: Arc<Value>,
    /// Arguments that the schema does not admit are impossible. Otherwise keywords that a tier does not know only advise
    /// the model.
    pub strict: bool,
}

/// Whether functions are called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToolChoice {
    /// The model decides.
    Auto,
    /// At least one.
    Required,
    /// The one of this name.
    Named(String),
}
