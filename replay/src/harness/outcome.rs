//! One outcome a request, tier and arm: what simulation and training read. Derived from the table of runs, so that it can be
//! written again when a metric changes.

use std::path::Path;

use anyhow::Context;
use reprise_router::TaskFlags;
use serde::{Deserialize, Serialize};

use super::table::Key;
use crate::score::Metric;

/// File names in a table's folder.
pub const RUNS: &str = "runs.jsonl";
pub const VECTORS: &str = "vectors.jsonl";
pub const OUTCOMES: &str = "outcomes.jsonl";
/// The split that is reported.
pub const TEST: &str = "test";
/// The pool of references.
pub const REFERENCES: &str = "references";

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Of the request in the data.
    pub id: String,
    pub set: String,
    pub source: String,
    pub task: String,
    pub metric: Metric,
    pub tier: String,
    pub model: String,
    /// Relative cost of a token on the tier, in [0, 1].
    pub cost: f64,
    pub strength: f32,
    /// Part of the data that the request is from: what is learned from never shares one with what is reported.
    #[serde(default = "test_split")]
    pub split: String,
    /// Name of the pool that the examples are from.
    #[serde(default = "references")]
    pub pool: String,
    pub arm: String,
    pub run: Key,
    /// Embedding of the request in the table of vectors.
    pub vector: Key,
    pub request_bytes: usize,
    pub flags: TaskFlags,
    /// In the prompt's order.
    pub examples: Vec<ShownExample>,
    /// Of the nearest example that could have been shown.
    pub nearest: f32,
    /// Score of that example's answer, handed out as it is.
    #[serde(default)]
    pub reused: Option<f64>,
    /// In [0, 1].
    pub score: f64,
    pub prompt_tokens: u32,
    /// Of them, those that the tier found in its KV memory when it answered.
    #[serde(default)]
    pub cached_tokens: u32,
    pub completion_tokens: u32,
    pub prefill_s: Option<f64>,
    pub decode_s: Option<f64>,
}

fn test_split() -> String {
    TEST.to_owned()
}

/// The pool of a table that was made before pools had names.
fn references() -> String {
    REFERENCES.to_owned()
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShownExample {
    /// Embedding of its request in the table of vectors.
    pub vector: Key,
    pub similarity: f32,
    pub utility: f32,
    pub quality: Option<f32>,
    pub bytes: usize,
}

/// # Errors
/// The file cannot be read, or a line is no outcome.
pub fn read(folder: &Path) -> anyhow::Result<Vec<Outcome>> {
    let path = folder.join(OUTCOMES);
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let row = |(number, line): (usize, &str)| {
        serde_json::from_str(line).with_context(|| format!("{}:{}", path.display(), number + 1))
    };
    text.lines().enumerate().map(row).collect()
}

/// Puts the outcomes of these requests, tiers, pools and arms in the place of older ones of the same, and keeps the others.
///
/// # Errors
/// The file cannot be read or written.
pub fn merge(folder: &Path, new: Vec<Outcome>) -> anyhow::Result<usize> {
    let old = if folder.join(OUTCOMES).exists() { read(folder)? } else { Vec::new() };
    let name = |outcome: &Outcome| {
        (outcome.id.clone(), outcome.tier.clone(), outcome.pool.clone(), outcome.arm.clone())
    };
    let mut rows: std::collections::BTreeMap<_, Outcome> =
        old.into_iter().map(|row| (name(&row), row)).collect();
    rows.extend(new.into_iter().map(|row| (name(&row), row)));
    let mut text = Vec::new();
    for row in rows.values() {
        serde_json::to_writer(&mut text, row)?;
        text.push(b'\n');
    }
    let (path, part) = (folder.join(OUTCOMES), folder.join("outcomes.part"));
    std::fs::write(&part, text).with_context(|| format!("write {}", part.display()))?;
    std::fs::rename(&part, &path).with_context(|| format!("rename to {}", path.display()))?;
    Ok(rows.len())
}
