//! The real model against a reference that shares no code with it. Fetch it with `reprise models pull all-minilm-l6-v2`.
#![expect(clippy::unwrap_used, reason = "a test that cannot read its data has failed")]

use std::{env, path::PathBuf, sync::Arc};

use reprise_cache::{EmbedError, Embedder, UnitVector};
use reprise_embedder::{EmbedderConfig, MiniLm};
use serde_json::Value;

fn folder() -> PathBuf {
    let set = |name: &str| env::var_os(name).map(PathBuf::from);
    let models = set("REPRISE_MODELS_DIR").unwrap_or_else(|| {
        set("XDG_CACHE_HOME").unwrap_or_else(|| set("HOME").unwrap().join(".cache")).join("reprise/models")
    });
    let folder = models.join("all-minilm-l6-v2");
    assert!(folder.exists(), "{} is missing: run `reprise models pull all-minilm-l6-v2`", folder.display());
    folder
}

fn load(config: &EmbedderConfig) -> MiniLm {
    MiniLm::load(&folder(), config).unwrap()
}

fn reference() -> Vec<(String, UnitVector)> {
    let rows: Vec<Value> = serde_json::from_str(include_str!("data/reference.json")).unwrap();
    let number = |value: &Value| value.as_f64().unwrap() as f32;
    rows.iter()
        .map(|row| {
            let vector = row["embedding"].as_array().unwrap().iter().map(number).collect();
            (row["text"].as_str().unwrap().to_owned(), UnitVector::try_new(vector).unwrap())
        })
        .collect()
}

#[tokio::test]
async fn each_text_points_where_the_reference_does() {
    let embedder = load(&EmbedderConfig::default());
    assert_eq!(embedder.dimensions(), 384);
    for (text, expected) in reference() {
        let found = embedder.embed(&text).await.unwrap();
        assert!(found.dot(&expected) > 1.0 - 1e-5, "{text}: {}", found.dot(&expected));
    }
}

#[tokio::test]
async fn a_batch_of_mixed_lengths_gives_what_each_text_gives_alone() {
    let embedder = Arc::new(load(&EmbedderConfig::default()));
    let tasks: Vec<_> = reference()
        .into_iter()
        .map(|(text, expected)| {
            let embedder = Arc::clone(&embedder);
            tokio::spawn(async move { (embedder.embed(&text).await.unwrap(), expected) })
        })
        .collect();
    for task in tasks {
        let (found, expected) = task.await.unwrap();
        assert!(found.dot(&expected) > 1.0 - 1e-5);
    }
}

#[tokio::test]
async fn empty_and_endless_texts_have_a_direction() {
    let embedder = load(&EmbedderConfig::default());
    for text in ["", "   ", &"lorem ipsum ".repeat(20_000)] {
        embedder.embed(text).await.unwrap();
    }
}

#[tokio::test]
async fn a_full_queue_refuses_at_once_and_abandoned_work_makes_room() {
    let config = EmbedderConfig { queue_capacity: 2, max_batch: 1, ..EmbedderConfig::default() };
    let embedder = Arc::new(load(&config));
    let tasks: Vec<_> = (0..64)
        .map(|_| {
            let embedder = Arc::clone(&embedder);
            tokio::spawn(async move { embedder.embed(&"some text ".repeat(60)).await })
        })
        .collect();
    let mut refused = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(_) => {}
            Err(EmbedError::Overloaded) => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(refused > 0, "64 texts at once fit a queue of 2");
    embedder.embed("free again").await.unwrap();
}

#[test]
fn a_missing_file_is_named() {
    let empty = env::temp_dir().join(format!("reprise-embedder-{}", std::process::id()));
    std::fs::create_dir_all(&empty).unwrap();
    let error = MiniLm::load(&empty, &EmbedderConfig::default()).unwrap_err();
    assert!(error.to_string().contains("config.json"), "{error}");
}
