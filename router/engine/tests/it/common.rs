//! Where the tests find model files, and a tier on the small one.
#![expect(clippy::expect_used, clippy::panic, reason = "helpers of tests")]

use std::{
    num::NonZeroUsize,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use reprise_engine::{DeviceKind, LocalConfig, LocalTier};
use reprise_tier::{
    Event, Finish, GenerateRequest, Generation, Message, Role, Sampling, Tier, TierError, TierState,
};

pub const SMALL: (&str, &str) = ("smollm2-135m-instruct-q4_1", "SmolLM2-135M-Instruct.Q4_1.gguf");
pub const LARGE: (&str, &str) =
    ("qwen2.5-coder-1.5b-instruct-q4_k_m", "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf");

pub fn model((name, file): (&str, &str)) -> PathBuf {
    let variable = |name| std::env::var_os(name).map(PathBuf::from);
    let folder = variable("REPRISE_MODELS_DIR")
        .or_else(|| Some(variable("XDG_CACHE_HOME")?.join("reprise/models")))
        .or_else(|| Some(variable("HOME")?.join(".cache/reprise/models")))
        .expect("one of REPRISE_MODELS_DIR, XDG_CACHE_HOME, HOME");
    let path = folder.join(name).join(file);
    assert!(path.is_file(), "{} is missing: run `reprise models pull {name}` first", path.display());
    path
}

pub fn config(context_length: Option<u32>, queue: usize) -> LocalConfig {
    LocalConfig {
        name: "small".into(),
        model_id: SMALL.0.into(),
        gguf: model(SMALL),
        threads: None,
        queue_capacity: NonZeroUsize::new(queue).expect("not zero"),
        cost: 0.1,
        device: DeviceKind::Cpu,
        context_length,
        max_sequences: LocalConfig::MAX_SEQUENCES,
        kv_tokens: None,
        prefill_chunk: LocalConfig::PREFILL_CHUNK,
        spread: None,
    }
}

/// One sequence at a time: a second request waits.
pub fn single(context_length: Option<u32>, queue: usize) -> LocalConfig {
    LocalConfig { max_sequences: NonZeroUsize::MIN, ..config(context_length, queue) }
}

/// Waits until the tier is no longer loading.
pub async fn settled(tier: &LocalTier) -> TierState {
    let begun = Instant::now();
    while tier.state() == TierState::Loading {
        assert!(begun.elapsed() < Duration::from_secs(240), "still loading");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tier.state()
}

pub async fn ready(config: LocalConfig) -> Arc<LocalTier> {
    let tier = LocalTier::load(config);
    assert_eq!(settled(&tier).await, TierState::Ready);
    Arc::new(tier)
}

pub fn request(text: &str, max_tokens: u32) -> GenerateRequest {
    GenerateRequest {
        id: "test".into(),
        messages: vec![Message::new(Role::User, text)],
        sampling: Sampling { temperature: 0.0, ..Sampling::default() },
        max_tokens: Some(max_tokens),
        ..GenerateRequest::default()
    }
}

/// A request that runs until it is told not to: several thousand tokens.
pub fn endless(max_tokens: u32) -> GenerateRequest {
    GenerateRequest {
        sampling: Sampling { temperature: 2.0, seed: Some(5), ..Sampling::default() },
        ..request("Write a very long story about a lighthouse.", max_tokens)
    }
}

pub async fn collect(mut generation: Generation) -> Result<(String, Finish), TierError> {
    let (mut text, mut finish) = (String::new(), None);
    while let Some(event) = generation.next().await {
        assert!(finish.is_none(), "an event after the last");
        match event? {
            Event::Started { .. } => assert!(text.is_empty()),
            Event::Delta { text: delta, .. } => text.push_str(&delta),
            Event::ToolCall { .. } => panic!("a tool call"),
            Event::Finished(end) => finish = Some(end),
        }
    }
    Ok((text, finish.expect("every generation ends")))
}
