//! Rated answers of a gateway as outcomes in a table: live traffic teaches as a collection does.

use anyhow::Context;

use crate::gateway::admin::LiveOutcome;
use crate::harness::outcome::{Outcome, ShownExample};
use crate::harness::table::{Key, Table, Vector};
use crate::score::Metric;

/// Name of their arm: whatever the gateway chose.
const LIVE: &str = "live";
const LIVE_PLAIN: &str = "live-plain";

/// Appends vectors that the table lacks, and returns the rows as outcomes. A request that was rated twice is one row.
///
/// # Errors
/// The table cannot be written.
pub fn outcomes(rows: &[LiveOutcome], vectors: &mut Table<Vector>) -> anyhow::Result<Vec<Outcome>> {
    rows.iter()
        .map(|row| outcome(row, vectors).with_context(|| format!("request {}", row.request_id)))
        .collect()
}

fn outcome(row: &LiveOutcome, vectors: &mut Table<Vector>) -> anyhow::Result<Outcome> {
    let mut keep = |values: &[f32]| -> anyhow::Result<Key> {
        // By content: the text is not known here.
        let bytes: Vec<String> = values.iter().map(|value| format!("{:08x}", value.to_bits())).collect();
        let key = Key::of(&["vector", &bytes.concat()]);
        if vectors.get(&key).is_none() {
            vectors.append(Vector { key: key.clone(), values: values.to_vec() })?;
        }
        Ok(key)
    };
    let examples = row.examples.iter().map(|shown| {
        Ok(ShownExample {
            vector: keep(&shown.embedding)?,
            similarity: shown.similarity,
            utility: shown.utility,
            quality: shown.quality,
            bytes: shown.bytes,
        })
    });
    let examples: Vec<ShownExample> = examples.collect::<anyhow::Result<_>>()?;
    Ok(Outcome {
        id: row.request_id.clone(),
        set: LIVE.to_owned(),
        source: LIVE.to_owned(),
        task: String::new(),
        metric: Metric::None,
        tier: row.tier.clone(),
        model: row.model.clone(),
        cost: row.cost,
        strength: row.strength as f32,
        split: crate::harness::outcome::TEST.to_owned(),
        pool: crate::harness::outcome::REFERENCES.to_owned(),
        arm: if examples.is_empty() { LIVE_PLAIN } else { LIVE }.to_owned(),
        run: Key::of(&["live", &row.request_id]),
        vector: keep(&row.embedding)?,
        request_bytes: row.request_bytes,
        flags: reprise_router::TaskFlags::default(),
        examples,
        nearest: row.nearest,
        reused: None,
        score: f64::from(row.quality),
        prompt_tokens: row.prompt_tokens,
        cached_tokens: 0,
        completion_tokens: row.completion_tokens,
        prefill_s: None,
        decode_s: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rated_answer_becomes_an_outcome_with_its_vectors() {
        let dir = tempfile::tempdir().unwrap();
        let mut vectors = Table::open(&dir.path().join("v.jsonl")).unwrap();
        let text = r#"{"request_id": "r1", "tier": "small", "model": "m", "cost": 0.1, "strength": 0.0, "quality": 0.25,
            "embedding": [0.6, 0.8], "request_bytes": 9, "nearest": 0.9, "prompt_tokens": 40, "completion_tokens": 3,
            "examples": [{"embedding": [1.0, 0.0], "similarity": 0.6, "utility": 0.5, "quality": null, "bytes": 20}]}"#;
        let row: LiveOutcome = serde_json::from_str(text).unwrap();
        let found = outcomes(&[row.clone(), row], &mut vectors).unwrap();
        assert_eq!(vectors.len(), 2);
        assert_eq!((found[0].score, found[0].arm.as_str()), (0.25, "live"));
        assert_eq!(vectors.get(&found[0].vector).unwrap().values, [0.6, 0.8]);
    }
}
