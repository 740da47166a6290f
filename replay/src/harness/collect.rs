//! Asks a gateway for what the table lacks: each distinct prompt once, pinned to a tier, past the cache.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use reprise_cache::UnitVector;
use reprise_cache::selection::{Utility, UtilityModel};
use reprise_router::TaskFlags;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::arm::{Arm, Makings, Shown};
use super::library::{Library, Seeker};
use super::outcome::{self, Outcome, RUNS, ShownExample, VECTORS};
use super::table::{Asked, Key, Run, Table, Vector};
use crate::data::pairs::Pair;
use crate::data::requests::Request;
use crate::gateway::admin::TierInfo;
use crate::gateway::chat::{CacheUse, Caller, Chat, Priority};
use crate::gateway::{Gateway, GatewayError};
use crate::score::NumberRule;

/// What is to be known.
#[derive(Debug)]
pub struct Collection {
    /// Of the table.
    pub folder: PathBuf,
    pub tier: String,
    /// SHA-256 of the tier's model file.
    pub model_hash: String,
    pub embedder: String,
    pub requests: Vec<Request>,
    pub pairs: Vec<Pair>,
    pub arms: Vec<Arm>,
    pub model: Option<UtilityModel>,
    pub max_tokens: u32,
    pub seed: u64,
    /// Requests in flight.
    pub concurrency: usize,
    pub timeout: Duration,
}

/// What a collection did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collected {
    pub generated: usize,
    /// Already in the table.
    pub known: usize,
    pub failed: usize,
    /// Times that the leakage guard kept an example out.
    pub leaked: usize,
    /// Outcomes in the table's folder now.
    pub outcomes: usize,
    pub interrupted: bool,
}

/// Texts embedded in one call.
const EMBEDDED: usize = 64;
/// Calls of a busy embedder before giving up.
const EMBED_TRIES: u32 = 20;

struct Prompt {
    request: usize,
    arm: usize,
    key: Key,
    shown: Vec<Shown>,
    nearest: f32,
}

/// # Errors
/// The gateway or the table's files fail. What was generated before is in the table.
pub async fn collect(
    gateway: &Gateway,
    collection: &Collection,
    cancel: &CancellationToken,
) -> anyhow::Result<Collected> {
    std::fs::create_dir_all(&collection.folder)
        .with_context(|| format!("create {}", collection.folder.display()))?;
    let missing = collection.arms.iter().find(|arm| arm.needs_model() && collection.model.is_none());
    ensure!(missing.is_none(), "an arm is chosen by a model, but none was given");
    let mut vectors: Table<Vector> = Table::open(&collection.folder.join(VECTORS))?;
    let mut runs: Table<Run> = Table::open(&collection.folder.join(RUNS))?;
    let tiers = gateway.pool().await?.tiers;
    let tier = tiers.iter().find(|tier| tier.name == collection.tier).context("the pool has no such tier")?;
    let strength = strength(tier, &tiers);

    let embedder = collection.embedder.as_str();
    let asked: Vec<&str> = collection.requests.iter().map(|request| request.prompt.as_str()).collect();
    let known: Vec<&str> = collection.pairs.iter().map(|pair| pair.request.as_str()).collect();
    let library = embed(gateway, embedder, &known, &mut vectors).await?;
    let library = Library::new(collection.pairs.clone(), library)?;
    let seekers: Vec<Seeker> = embed(gateway, embedder, &asked, &mut vectors)
        .await?
        .into_iter()
        .zip(&collection.requests)
        .map(|(vector, request)| Seeker::new(request, vector))
        .collect();

    let mut collected = Collected::default();
    let prompts = prompts(collection, &library, &seekers, strength, &mut collected);
    generate(gateway, collection, &prompts, &mut runs, &mut collected, cancel).await?;
    let rows = prompts
        .iter()
        .filter_map(|prompt| {
            outcome_of(collection, tier, strength, prompt, runs.get(&prompt.key)?, &seekers, embedder)
        })
        .collect();
    collected.outcomes = outcome::merge(&collection.folder, rows)?;
    Ok(collected)
}

/// As the gateway's pool counts it.
fn strength(tier: &TierInfo, tiers: &[TierInfo]) -> f32 {
    let costs = || tiers.iter().map(|tier| tier.cost);
    let (low, high) = (costs().fold(f64::MAX, f64::min), costs().fold(f64::MIN, f64::max));
    if high > low { ((tier.cost - low) / (high - low)) as f32 } else { 0.5 }
}

fn prompts(
    collection: &Collection,
    library: &Library,
    seekers: &[Seeker],
    strength: f32,
    collected: &mut Collected,
) -> Vec<Prompt> {
    let model = collection.model.as_ref().map(|model| model as &dyn Utility);
    let makings = Makings { library, model, strength, seed: collection.seed };
    let mut prompts = Vec::new();
    for (request, seeker) in seekers.iter().enumerate() {
        let nearest = library.nearest(seeker, 1).0.first().map_or(0.0, |found| found.similarity);
        for (arm, how) in collection.arms.iter().enumerate() {
            let (shown, leaked) = how.examples(seeker, &makings);
            collected.leaked += leaked;
            let key = Key::of_run(&asked(collection, request, &turns(&shown)));
            prompts.push(Prompt { request, arm, key, shown, nearest });
        }
    }
    prompts
}

fn turns(shown: &[Shown]) -> Vec<(&str, &str)> {
    shown
        .iter()
        .map(|shown| (shown.candidate.example.request.as_str(), shown.candidate.example.answer.as_str()))
        .collect()
}

fn asked<'a>(collection: &'a Collection, request: usize, earlier: &'a [(&'a str, &'a str)]) -> Asked<'a> {
    Asked {
        model_hash: &collection.model_hash,
        earlier,
        prompt: &collection.requests[request].prompt,
        max_tokens: collection.max_tokens,
    }
}

async fn generate(
    gateway: &Gateway,
    collection: &Collection,
    prompts: &[Prompt],
    runs: &mut Table<Run>,
    collected: &mut Collected,
    cancel: &CancellationToken,
) -> anyhow::Result<()> {
    let mut under_way: JoinSet<Result<Run, GatewayError>> = JoinSet::new();
    let mut wanted = std::collections::HashSet::new();
    let mut take =
        |ended: Result<Result<Run, GatewayError>, _>, collected: &mut Collected| -> anyhow::Result<()> {
            match ended? {
                Ok(run) => {
                    runs.append(run)?;
                    collected.generated += 1;
                    if collected.generated.is_multiple_of(50) {
                        info!(generated = collected.generated, known = collected.known, "progress");
                    }
                }
                Err(error) => {
                    warn!(%error, "a prompt was not answered");
                    collected.failed += 1;
                }
            }
            Ok(())
        };
    let lacking: Vec<&Prompt> = {
        let known: std::collections::HashSet<Key> = known_keys(collection)?;
        prompts.iter().filter(|prompt| wanted.insert(&prompt.key) && !known.contains(&prompt.key)).collect()
    };
    collected.known = wanted.len() - lacking.len();
    for prompt in lacking {
        while under_way.len() >= collection.concurrency.max(1) {
            if let Some(ended) = under_way.join_next().await {
                take(ended, collected)?;
            }
        }
        if cancel.is_cancelled() {
            collected.interrupted = true;
            break;
        }
        let owned: Vec<(String, String)> =
            turns(&prompt.shown).into_iter().map(|(a, b)| (a.to_owned(), b.to_owned())).collect();
        let (gateway, key) = (gateway.clone(), prompt.key.clone());
        let (tier, timeout) = (collection.tier.clone(), collection.timeout);
        let (text, max_tokens) = (collection.requests[prompt.request].prompt.clone(), collection.max_tokens);
        under_way.spawn(async move { ask(&gateway, &tier, &text, &owned, max_tokens, timeout, key).await });
    }
    while let Some(ended) = under_way.join_next().await {
        take(ended, collected)?;
    }
    Ok(())
}

fn known_keys(collection: &Collection) -> anyhow::Result<std::collections::HashSet<Key>> {
    let runs: Table<Run> = Table::open(&collection.folder.join(RUNS))?;
    Ok(runs.iter().map(|run| run.key.clone()).collect())
}

async fn ask(
    gateway: &Gateway,
    tier: &str,
    prompt: &str,
    earlier: &[(String, String)],
    max_tokens: u32,
    timeout: Duration,
    key: Key,
) -> Result<Run, GatewayError> {
    let earlier: Vec<(&str, &str)> = earlier.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    let chat = Chat {
        model: tier,
        prompt,
        earlier: &earlier,
        temperature: 0.0,
        seed: None,
        max_tokens,
        cache: CacheUse::Off,
        exact_reuse: false,
        priority: Priority::Batch,
        caller: Caller::Admin,
        timeout,
    };
    let answer = gateway.chat(&chat).await?;
    let timings = match &answer.request_id {
        Some(id) => gateway.decision(id).await.map(|record| record.timings).unwrap_or_default(),
        None => Default::default(),
    };
    Ok(Run {
        key,
        model: answer.model.unwrap_or_default(),
        text: answer.text,
        finish_reason: answer.finish_reason,
        prompt_tokens: answer.prompt_tokens.unwrap_or(0),
        completion_tokens: answer.completion_tokens.unwrap_or(0),
        prefill_s: timings.prefill_ms.map(|ms| ms / 1000.0),
        decode_s: timings.decode_ms.map(|ms| ms / 1000.0),
    })
}

/// `None` if the answer cannot be scored.
fn outcome_of(
    collection: &Collection,
    tier: &TierInfo,
    strength: f32,
    prompt: &Prompt,
    run: &Run,
    seekers: &[Seeker],
    embedder: &str,
) -> Option<Outcome> {
    let request = &collection.requests[prompt.request];
    let score =
        request.metric.score(&run.text, &request.references, NumberRule::for_source(&request.source))?;
    let example = |shown: &Shown| {
        let example = &shown.candidate.example;
        ShownExample {
            vector: Key::of_text(embedder, &example.request),
            similarity: shown.candidate.similarity,
            utility: shown.utility,
            quality: example.quality,
            bytes: example.request.len() + example.answer.len(),
        }
    };
    Some(Outcome {
        id: request.id.clone(),
        set: request.set.clone(),
        source: request.source.clone(),
        task: request.task.clone(),
        metric: request.metric,
        tier: tier.name.clone(),
        model: tier.model.clone(),
        cost: tier.cost,
        strength,
        arm: collection.arms[prompt.arm].name().to_owned(),
        run: prompt.key.clone(),
        vector: Key::of_text(embedder, &request.prompt),
        flags: TaskFlags::detect(&request.prompt),
        request_bytes: seekers.get(prompt.request)?.query(strength).bytes,
        examples: prompt.shown.iter().map(example).collect(),
        nearest: prompt.nearest,
        score,
        prompt_tokens: run.prompt_tokens,
        completion_tokens: run.completion_tokens,
        prefill_s: run.prefill_s,
        decode_s: run.decode_s,
    })
}

/// Vectors of all texts in their order; those that the table lacks are asked for.
async fn embed(
    gateway: &Gateway,
    embedder: &str,
    texts: &[&str],
    table: &mut Table<Vector>,
) -> anyhow::Result<Vec<UnitVector>> {
    let mut lacking: Vec<&str> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for text in texts {
        if table.get(&Key::of_text(embedder, text)).is_none() && seen.insert(*text) {
            lacking.push(*text);
        }
    }
    for batch in lacking.chunks(EMBEDDED) {
        let found = embed_batch(gateway, embedder, batch).await?;
        ensure!(found.len() == batch.len(), "the embedder answered {} of {} texts", found.len(), batch.len());
        for (text, values) in batch.iter().zip(found) {
            table.append(Vector { key: Key::of_text(embedder, text), values })?;
        }
    }
    let vector = |text: &&str| {
        let row = table.get(&Key::of_text(embedder, text)).context("a text was not embedded")?;
        Ok(UnitVector::try_new(row.values.clone())?)
    };
    texts.iter().map(vector).collect()
}

/// A full queue is waited for: embedding a pool takes longer than it holds.
async fn embed_batch(
    gateway: &Gateway,
    embedder: &str,
    batch: &[&str],
) -> Result<Vec<Vec<f32>>, GatewayError> {
    let mut tries = 0;
    loop {
        match gateway.embed(embedder, batch).await {
            Err(error) if tries < EMBED_TRIES && matches!(error.status(), Some(429 | 503)) => {
                tries += 1;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            other => return other,
        }
    }
}
