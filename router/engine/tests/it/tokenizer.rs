//! Token ids against llama.cpp's, on texts of real requests and on made hard ones.

use std::path::Path;

use reprise_engine::{Vocabulary, inspect::Gguf};
use serde_json::Value;

use super::common;

#[expect(clippy::expect_used, reason = "helper of tests")]
fn compare(model: &Path, name: &str) {
    let vocabulary = Vocabulary::from_gguf(&Gguf::open(model).expect("opens")).expect("known vocabulary");
    let fixture = include_str!("../data/token_ids.jsonl");
    let mut seen = 0;
    for line in fixture.lines() {
        let row: Value = serde_json::from_str(line).expect("JSON");
        let text = row["text"].as_str().expect("text");
        let ids = |kind: &str| -> Option<Vec<u32>> {
            row[name].get(kind).map(|ids| serde_json::from_value(ids.clone()).expect("ids"))
        };
        let plain = ids("plain").expect("plain");
        assert_eq!(vocabulary.encode(text).expect("encodes"), plain, "plain {text:?}");
        let special = ids("special").unwrap_or_else(|| plain.clone());
        assert_eq!(vocabulary.encode_with_controls(text).expect("encodes"), special, "special {text:?}");
        let bytes: Vec<u8> = plain.iter().flat_map(|id| vocabulary.bytes(*id)).copied().collect();
        assert_eq!(String::from_utf8_lossy(&bytes), text, "back");
        seen += 1;
    }
    assert!(seen >= 200, "{seen} texts");
}

#[test]
fn smollm2_ids_equal_llama_cpp() {
    compare(&common::model(common::SMALL), "smollm2");
}

#[test]
#[ignore = "needs the large model's file, which CI does not pull"]
fn qwen2_ids_equal_llama_cpp() {
    compare(&common::model(common::LARGE), "qwen2");
}
