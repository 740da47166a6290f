//! Asks a gateway for what the table lacks: each distinct prompt once, pinned to a tier, past the cache.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use futures::stream::{self, TryStreamExt as _};
use reprise_cache::selection::{Utility, UtilityModel};
use reprise_cache::{Candidate, UnitVector};
use reprise_router::TaskFlags;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::arm::{Arm, Makings, Shown, TOP_K};
use super::library::{Library, Seeker};
use super::outcome::{self, Outcome, RUNS, ShownExample, VECTORS};
use super::table::{Asked, Key, Run, Sampling, Table, Vector};
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
    /// Name of the part of the data that is asked.
    pub split: String,
    /// Name of the pool, and what is in it.
    pub pool: String,
    pub pairs: Vec<Pair>,
    pub arms: Vec<Arm>,
    pub model: Option<UtilityModel>,
    pub max_tokens: Limits,
    pub seed: u64,
    /// Requests in flight.
    pub concurrency: usize,
    pub timeout: Duration,
}

/// Tokens of an answer at most.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    pub default: u32,
    /// By set of the data.
    pub of: BTreeMap<String, u32>,
}

impl Limits {
    #[must_use]
    pub fn of(&self, set: &str) -> u32 {
        self.of.get(set).copied().unwrap_or(self.default)
    }
}

/// What a collection did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collected {
    pub generated: usize,
    /// Already in the table.
    pub known: usize,
    pub failed: usize,
    /// Examples that the leakage guard kept out, of the nearest of each request.
    pub leaked: usize,
    /// Outcomes in the table's folder now.
    pub outcomes: usize,
    pub interrupted: bool,
}

/// Texts embedded in one call.
const EMBEDDED: usize = 64;
/// Calls of the embedder under way: it must not wait for the network between two.
const EMBEDDING: usize = 4;
/// Calls of a busy embedder before giving up.
const EMBED_TRIES: u32 = 20;

struct Prompt {
    request: usize,
    arm: usize,
    key: Key,
    shown: Vec<Shown>,
}

/// The nearest examples of each request, nearest first; none where no arm shows any.
type Found = Vec<(Vec<Candidate>, usize)>;

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

    let (prompts, found) = if collection.arms.iter().any(Arm::needs_library) {
        let (library, seekers) = embedded(gateway, collection, &mut vectors).await?;
        let found = library.nearest_of_all(&seekers, TOP_K);
        (prompts(collection, &library, &seekers, &found, strength), found)
    } else {
        (plain_prompts(collection), vec![Default::default(); collection.requests.len()])
    };
    let mut collected =
        Collected { leaked: found.iter().map(|(_, leaked)| leaked).sum(), ..Collected::default() };
    generate(gateway, collection, &prompts, &mut runs, &mut collected, cancel).await?;
    let rows = prompts
        .iter()
        .filter_map(|prompt| outcome_of(collection, tier, strength, prompt, runs.get(&prompt.key)?, &found))
        .collect();
    collected.outcomes = outcome::merge(&collection.folder, rows)?;
    Ok(collected)
}

async fn embedded(
    gateway: &Gateway,
    collection: &Collection,
    vectors: &mut Table<Vector>,
) -> anyhow::Result<(Library, Vec<Seeker>)> {
    let embedder = collection.embedder.as_str();
    let asked: Vec<&str> = collection.requests.iter().map(|request| request.prompt.as_str()).collect();
    let known: Vec<&str> = collection.pairs.iter().map(|pair| pair.request.as_str()).collect();
    let library = embed(gateway, embedder, &known, vectors).await?;
    let library = Library::new(collection.pairs.clone(), library)?;
    let asked = embed(gateway, embedder, &asked, vectors).await?;
    let seeker = |(vector, request)| Seeker::new(request, vector);
    Ok((library, asked.into_iter().zip(&collection.requests).map(seeker).collect()))
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
    found: &Found,
    strength: f32,
) -> Vec<Prompt> {
    let model = collection.model.as_ref().map(|model| model as &dyn Utility);
    let makings = Makings { library, model, strength, seed: collection.seed };
    let mut prompts = Vec::new();
    for (request, (seeker, (found, _))) in seekers.iter().zip(found).enumerate() {
        for (arm, how) in collection.arms.iter().enumerate() {
            prompts.push(prompt(collection, request, arm, how.examples(seeker, found, &makings)));
        }
    }
    prompts
}

/// Where no arm shows an example.
fn plain_prompts(collection: &Collection) -> Vec<Prompt> {
    let arms = 0..collection.arms.len();
    let each = |request| arms.clone().map(move |arm| prompt(collection, request, arm, Vec::new()));
    (0..collection.requests.len()).flat_map(each).collect()
}

fn prompt(collection: &Collection, request: usize, arm: usize, shown: Vec<Shown>) -> Prompt {
    let asked = &collection.requests[request];
    let key = Key::of_run(&Asked {
        model_hash: &collection.model_hash,
        earlier: &turns(&shown),
        prompt: &asked.prompt,
        max_tokens: collection.max_tokens.of(&asked.set),
        sampling: collection.arms[arm].sampling(),
    });
    Prompt { request, arm, key, shown }
}

fn turns(shown: &[Shown]) -> Vec<(&str, &str)> {
    shown
        .iter()
        .map(|shown| (shown.candidate.example.request.as_str(), shown.candidate.example.answer.as_str()))
        .collect()
}

async fn generate(
    gateway: &Gateway,
    collection: &Collection,
    prompts: &[Prompt],
    runs: &mut Table<Run>,
    collected: &mut Collected,
    cancel: &CancellationToken,
) -> anyhow::Result<()> {
    let mut wanted = HashSet::new();
    let lacking: Vec<&Prompt> = prompts
        .iter()
        .filter(|prompt| wanted.insert(&prompt.key) && runs.get(&prompt.key).is_none())
        .collect();
    collected.known = wanted.len() - lacking.len();
    let mut under_way: JoinSet<Result<Run, GatewayError>> = JoinSet::new();
    let mut take =
        |ended: Result<Result<Run, GatewayError>, _>, collected: &mut Collected| -> anyhow::Result<()> {
            match ended? {
                Ok(run) => {
                    runs.append(run)?;
                    collected.generated += 1;
                    if collected.generated.is_multiple_of(500) {
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
        let request = &collection.requests[prompt.request];
        let question = Question {
            tier: collection.tier.clone(),
            earlier: owned,
            prompt: request.prompt.clone(),
            max_tokens: collection.max_tokens.of(&request.set),
            sampling: collection.arms[prompt.arm].sampling(),
            timeout: collection.timeout,
            key: prompt.key.clone(),
        };
        let gateway = gateway.clone();
        under_way.spawn(async move { question.ask(&gateway).await });
    }
    while let Some(ended) = under_way.join_next().await {
        take(ended, collected)?;
    }
    Ok(())
}

/// A prompt on its way, with all it needs.
struct Question {
    tier: String,
    earlier: Vec<(String, String)>,
    prompt: String,
    max_tokens: u32,
    sampling: Sampling,
    timeout: Duration,
    key: Key,
}

impl Question {
    async fn ask(self, gateway: &Gateway) -> Result<Run, GatewayError> {
        let earlier: Vec<(&str, &str)> = self.earlier.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        let (temperature, seed) = match self.sampling {
            Sampling::Greedy => (0.0, None),
            Sampling::Drawn { temperature, seed } => (temperature, Some(seed)),
        };
        let chat = Chat {
            model: &self.tier,
            prompt: &self.prompt,
            earlier: &earlier,
            temperature,
            seed,
            max_tokens: self.max_tokens,
            cache: CacheUse::Off,
            exact_reuse: false,
            priority: Priority::Batch,
            caller: Caller::Admin,
            timeout: self.timeout,
        };
        let answer = gateway.chat(&chat).await?;
        let timings = match &answer.request_id {
            Some(id) => gateway.decision(id).await.map(|record| record.timings).unwrap_or_default(),
            None => Default::default(),
        };
        Ok(Run {
            key: self.key,
            model: answer.model.unwrap_or_default(),
            text: answer.text,
            finish_reason: answer.finish_reason,
            prompt_tokens: answer.prompt_tokens.unwrap_or(0),
            completion_tokens: answer.completion_tokens.unwrap_or(0),
            cached_tokens: answer.cached_tokens,
            prefill_s: timings.prefill_ms.map(|ms| ms / 1000.0),
            decode_s: timings.decode_ms.map(|ms| ms / 1000.0),
        })
    }
}

/// `None` if the answer cannot be scored.
fn outcome_of(
    collection: &Collection,
    tier: &TierInfo,
    strength: f32,
    prompt: &Prompt,
    run: &Run,
    found: &Found,
) -> Option<Outcome> {
    let request = &collection.requests[prompt.request];
    let embedder = collection.embedder.as_str();
    let nearest = found[prompt.request].0.first();
    let rate =
        |text: &str| request.metric.score(text, &request.references, NumberRule::for_source(&request.source));
    let score = rate(&run.text)?;
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
        split: collection.split.clone(),
        pool: collection.pool.clone(),
        arm: collection.arms[prompt.arm].name().to_owned(),
        run: prompt.key.clone(),
        vector: Key::of_text(embedder, &request.prompt),
        flags: TaskFlags::detect(&request.prompt),
        request_bytes: request.prompt.len(),
        examples: prompt.shown.iter().map(example).collect(),
        nearest: nearest.map_or(0.0, |found| found.similarity),
        reused: nearest.and_then(|found| rate(&found.example.answer)),
        score,
        prompt_tokens: run.prompt_tokens,
        cached_tokens: run.cached_tokens.unwrap_or(0),
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
    let mut seen = HashSet::new();
    for text in texts {
        if table.get(&Key::of_text(embedder, text)).is_none() && seen.insert(*text) {
            lacking.push(*text);
        }
    }
    // Texts of like length share a batch: the longest decides what all of them cost.
    lacking.sort_by_key(|text| text.len());
    let batches = stream::iter(lacking.chunks(EMBEDDED).map(Ok::<_, anyhow::Error>));
    let call = |batch| async move { anyhow::Ok((batch, embed_batch(gateway, embedder, batch).await?)) };
    let mut done = std::pin::pin!(batches.map_ok(call).try_buffered(EMBEDDING));
    while let Some((batch, found)) = done.try_next().await? {
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
