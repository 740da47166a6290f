//! A local tier without the gateway, under closed loops of clients: what `cuda/bench/clients.py` measures through it, and in its columns.
//!
//! ```text
//! bench_closed_loop GGUF PROMPTS.jsonl [--device cuda:0] [--clients 1,16,64,256] [--seconds 10] [--generate 64] [--sequences 256] [--kv-tokens N]
//! ```
//!
//! Each client sends its next request when the last has ended. PROMPTS: `{"prompt"}`.

use std::{
    error::Error,
    num::NonZeroUsize,
    sync::Arc,
    time::{Duration, Instant},
};

use reprise_engine::{DeviceKind, LocalConfig, LocalTier};
use reprise_tier::{Event, GenerateRequest, Message, Role, Sampling, Tier, TierState};
use serde::Deserialize;

type Failure = Box<dyn Error + Send + Sync>;
type Result<T> = std::result::Result<T, Failure>;

#[derive(Deserialize)]
struct Prompt {
    prompt: String,
}

struct Arguments {
    gguf: String,
    prompts: String,
    device: DeviceKind,
    clients: Vec<usize>,
    seconds: f64,
    generate: u32,
    sequences: Option<NonZeroUsize>,
    kv_tokens: Option<NonZeroUsize>,
}

/// Milliseconds to the first text and between texts, and counts.
#[derive(Default)]
struct Found {
    first: Vec<f64>,
    between: Vec<f64>,
    requests: usize,
    tokens: u64,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse()?;
    let text = std::fs::read_to_string(&arguments.prompts)?;
    let prompts: Vec<Prompt> =
        text.lines().map(serde_json::from_str).collect::<std::result::Result<_, _>>()?;
    let prompts: Arc<[Prompt]> = prompts.into();
    let tier = Arc::new(load(&arguments).await?);
    println!("clients,requests,tokens_per_second,first_p50_ms,first_p99_ms,between_p50_ms,between_p99_ms");
    for clients in &arguments.clients {
        let begun = Instant::now();
        let until = begun + Duration::from_secs_f64(arguments.seconds);
        let mut running = tokio::task::JoinSet::new();
        for client in 0..*clients {
            running.spawn(ask(Arc::clone(&tier), Arc::clone(&prompts), client, arguments.generate, until));
        }
        let mut all = Found::default();
        while let Some(found) = running.join_next().await {
            let found = found??;
            all.first.extend(found.first);
            all.between.extend(found.between);
            all.requests += found.requests;
            all.tokens += found.tokens;
        }
        let rate = all.tokens as f64 / begun.elapsed().as_secs_f64();
        let [first, between] = [&mut all.first, &mut all.between].map(|values| {
            values.sort_by(f64::total_cmp);
            format!("{:.2},{:.2}", quantile(values, 0.5), quantile(values, 0.99))
        });
        println!("{clients},{},{rate:.0},{first},{between}", all.requests);
    }
    Ok(())
}

async fn load(arguments: &Arguments) -> Result<LocalTier> {
    let tier = LocalTier::load(LocalConfig {
        name: "tier".into(),
        model_id: "tier".into(),
        gguf: arguments.gguf.clone().into(),
        threads: None,
        queue_capacity: NonZeroUsize::new(1024).ok_or("no queue")?,
        cost: 0.0,
        device: arguments.device,
        context_length: None,
        max_sequences: arguments.sequences.unwrap_or(LocalConfig::default_max_sequences(arguments.device)),
        kv_tokens: arguments.kv_tokens,
        prefill_chunk: LocalConfig::default_prefill_chunk(arguments.device),
        spread: None,
    });
    loop {
        match tier.state() {
            TierState::Ready => return Ok(tier),
            TierState::Loading => tokio::time::sleep(Duration::from_millis(20)).await,
            TierState::Failed { reason } => return Err(reason.into()),
        }
    }
}

async fn ask(
    tier: Arc<LocalTier>,
    prompts: Arc<[Prompt]>,
    client: usize,
    generate: u32,
    until: Instant,
) -> Result<Found> {
    let mut found = Found::default();
    let mut at = client * 31;
    while Instant::now() < until {
        let content = format!("{} ({at})", prompts[at % prompts.len()].prompt);
        at += 1009;
        let begun = Instant::now();
        let mut generation = tier.submit(GenerateRequest {
            id: format!("client-{client}-{at}").into(),
            messages: vec![Message::new(Role::User, content)],
            sampling: Sampling { temperature: 0.0, ..Sampling::default() },
            max_tokens: Some(generate),
            ..GenerateRequest::default()
        })?;
        let mut last: Option<Instant> = None;
        while let Some(event) = generation.next().await {
            match event? {
                Event::Delta { .. } => {
                    let now = Instant::now();
                    let times = if last.is_some() { &mut found.between } else { &mut found.first };
                    times.push(1e3 * (now - last.unwrap_or(begun)).as_secs_f64());
                    last = Some(now);
                    found.tokens += 1;
                }
                Event::Finished(_) => break,
                Event::Started { .. } | Event::ToolCall { .. } => {}
            }
        }
        found.requests += 1;
    }
    Ok(found)
}

fn quantile(values: &[f64], share: f64) -> f64 {
    let at = ((share * values.len() as f64) as usize).min(values.len().saturating_sub(1));
    values.get(at).copied().unwrap_or(f64::NAN)
}

impl Arguments {
    fn parse() -> Result<Self> {
        const USAGE: &str = "usage: bench_closed_loop GGUF PROMPTS.jsonl [--device D] [--clients N,N] [--seconds S] [--generate N] \
                             [--sequences N] [--kv-tokens N]";
        let mut given = std::env::args().skip(1);
        let (gguf, prompts) = (given.next().ok_or(USAGE)?, given.next().ok_or(USAGE)?);
        let mut arguments = Self {
            gguf,
            prompts,
            device: DeviceKind::Cpu,
            clients: vec![1, 16, 64, 256],
            seconds: 10.0,
            generate: 64,
            sequences: None,
            kv_tokens: None,
        };
        while let Some(name) = given.next() {
            let value = given.next().ok_or(USAGE)?;
            match name.as_str() {
                "--device" => arguments.device = value.parse()?,
                "--clients" => {
                    arguments.clients =
                        value.split(',').map(str::parse).collect::<std::result::Result<_, _>>()?;
                }
                "--seconds" => arguments.seconds = value.parse()?,
                "--generate" => arguments.generate = value.parse()?,
                "--sequences" => arguments.sequences = Some(value.parse()?),
                "--kv-tokens" => arguments.kv_tokens = Some(value.parse()?),
                _ => return Err(USAGE.into()),
            }
        }
        Ok(arguments)
    }
}
