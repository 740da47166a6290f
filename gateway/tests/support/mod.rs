//! What the black-box tests share: the real binary on a port of its own, a scripted upstream, and the shapes that
//! every answer must have. Each test file uses a part of it.
#![expect(dead_code, reason = "every test file is a crate of its own and uses a part of this module")]

pub mod faults;
pub mod gateway;
pub mod metrics;
pub mod reply;
pub mod setup;
pub mod upstream;
pub mod wait;

pub use gateway::Gateway;
pub use setup::Setup;

/// A question that the small model answers in one short sentence, and so to its end.
pub const CAPITAL: &str = "What is the capital of Germany?";
/// The same question in other words: near, and not the same.
pub const CAPITAL_AGAIN: &str = "What's the capital of Germany, please?";

/// A request at temperature 0 with one user message.
pub fn ask(model: &str, question: &str) -> serde_json::Value {
    serde_json::json!({
        "model": model,
        "messages": [{"role": "user", "content": question}],
        "temperature": 0,
        "max_tokens": 64,
    })
}

/// The same with `stream` and usage in the last chunk.
pub fn ask_streamed(model: &str, question: &str) -> serde_json::Value {
    let mut body = ask(model, question);
    body["stream"] = true.into();
    body["stream_options"] = serde_json::json!({"include_usage": true});
    body
}

/// A request that keeps the small model busy for long: it writes until `max_tokens`.
pub fn ask_for_long(model: &str) -> serde_json::Value {
    serde_json::json!({
        "model": model,
        "messages": [{"role": "user", "content": "Write a very long story about a ship. Describe every day of its voyage."}],
        "temperature": 1.3,
        "max_tokens": 4000,
    })
}
