//! Many clients of one local tier at once, beside one client alone, through [`Tier::submit`]: is anyone starved, and what is gained?
//!
//! ```text
//! bench_clients GGUF OUT.csv [--clients 64] [--threads 2] [--generate 64] [--alone 8]
//! ```
//!
//! Runs `--alone` of the requests one after the other, then all of them at once, then as many alone again. The tier's options are
//! the gateway's defaults. OUT gets a line for each request: seconds from its submission to its first text and to its end, the
//! longest wait between two texts, its tokens. Standard output gets the summary as Markdown.

use std::{
    error::Error,
    fmt::Write as _,
    num::NonZeroUsize,
    path::PathBuf,
    time::{Duration, Instant},
};

use reprise_engine::{DeviceKind, LocalConfig, LocalTier};
use reprise_tier::{Event, GenerateRequest, Generation, Message, Role, Sampling, Tier, TierState};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const TOPICS: [&str; 8] =
    ["the sea", "a small town", "winter", "bread", "an old clock", "railways", "bees", "a bridge"];
const FORMS: [&str; 8] =
    ["a story", "a letter", "a speech", "a dialogue", "a lesson", "a report", "a diary page", "a fable"];

struct Arguments {
    gguf: PathBuf,
    out: PathBuf,
    clients: usize,
    threads: NonZeroUsize,
    generate: u32,
    alone: usize,
}

/// Of one request; times in seconds since it was submitted.
struct Answer {
    phase: &'static str,
    client: usize,
    first: f64,
    end: f64,
    longest_gap: f64,
    tokens: u32,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments = Arguments::parse()?;
    let tier = load(&arguments).await?;
    read("warm", 0, submit(&tier, 0, &arguments)?).await?;
    let mut answers = Vec::new();
    let mut alone = one_by_one("alone before", &tier, &arguments, &mut answers).await?;
    let begun = Instant::now();
    let mut readers = tokio::task::JoinSet::new();
    for client in 0..arguments.clients {
        readers.spawn(read("together", client, submit(&tier, client, &arguments)?));
    }
    while let Some(answer) = readers.join_next().await {
        answers.push(answer??);
    }
    let together = begun.elapsed();
    alone += one_by_one("alone after", &tier, &arguments, &mut answers).await?;
    answers.sort_by_key(|answer| (answer.phase, answer.client));
    std::fs::write(&arguments.out, csv(&answers)?)?;
    print!("{}", summary(&answers, alone, together)?);
    Ok(())
}

async fn load(arguments: &Arguments) -> Result<LocalTier> {
    let tier = LocalTier::load(LocalConfig {
        name: "small".into(),
        model_id: "small".into(),
        gguf: arguments.gguf.clone(),
        threads: Some(arguments.threads),
        queue_capacity: NonZeroUsize::new(arguments.clients).ok_or("no clients")?,
        cost: 0.0,
        device: DeviceKind::Cpu,
        context_length: None,
        max_sequences: LocalConfig::MAX_SEQUENCES,
        kv_tokens: None,
        prefill_chunk: LocalConfig::PREFILL_CHUNK,
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

/// Each client asks for something else: nothing of the prompts is shared but their beginning.
fn submit(tier: &LocalTier, client: usize, arguments: &Arguments) -> Result<Generation> {
    let (form, topic) = (FORMS[client / 8 % 8], TOPICS[client % 8]);
    let content = format!("Write {form} about {topic}, in number {client} of your series. Make it long.");
    let request = GenerateRequest {
        id: format!("client-{client}").into(),
        messages: vec![Message::new(Role::User, content)],
        sampling: Sampling { temperature: 0.0, ..Sampling::default() },
        max_tokens: Some(arguments.generate),
        scope: client as u64,
        ..GenerateRequest::default()
    };
    Ok(tier.submit(request)?)
}

async fn read(
    phase: &'static str,
    client: usize,
    mut generation: Generation,
) -> std::result::Result<Answer, String> {
    let begun = Instant::now();
    let (mut first, mut last, mut longest_gap) = (None, 0.0, 0.0_f64);
    while let Some(event) = generation.next().await {
        let now = begun.elapsed().as_secs_f64();
        match event.map_err(|error| format!("client {client}: {error}"))? {
            Event::Started { .. } => {}
            Event::ToolCall { .. } => {}
            Event::Delta { .. } => {
                if first.is_some() {
                    longest_gap = longest_gap.max(now - last);
                }
                first.get_or_insert(now);
                last = now;
            }
            Event::Finished(finish) => {
                let (first, tokens) = (first.unwrap_or(now), finish.usage.completion_tokens);
                return Ok(Answer { phase, client, first, end: now, longest_gap, tokens });
            }
        }
    }
    Err(format!("client {client}: no end"))
}

async fn one_by_one(
    phase: &'static str,
    tier: &LocalTier,
    arguments: &Arguments,
    answers: &mut Vec<Answer>,
) -> Result<Duration> {
    let begun = Instant::now();
    for client in 0..arguments.alone {
        answers.push(read(phase, client, submit(tier, client, arguments)?).await?);
    }
    Ok(begun.elapsed())
}

fn csv(answers: &[Answer]) -> Result<String> {
    let mut out = "phase,client,first_s,end_s,longest_gap_s,tokens\n".to_owned();
    for Answer { phase, client, first, end, longest_gap, tokens } in answers {
        writeln!(out, "{phase},{client},{first:.4},{end:.4},{longest_gap:.4},{tokens}")?;
    }
    Ok(out)
}

type Column = fn(&Answer) -> f64;

fn summary(answers: &[Answer], alone: Duration, together: Duration) -> Result<String> {
    let of = |together: bool| answers.iter().filter(move |answer| (answer.phase == "together") == together);
    let tokens = |together| of(together).map(|answer| f64::from(answer.tokens)).sum::<f64>();
    let (one, all) = (tokens(false) / alone.as_secs_f64(), tokens(true) / together.as_secs_f64());
    let mut out = format!(
        "{} clients got their answers. One alone: {one:.0} tokens/s; all together: {all:.0} tokens/s, {:.2} times as many.\n\n\
         | of the clients together, s | least | median | most |\n|---|---|---|---|\n",
        of(true).count(),
        all / one
    );
    let columns: [(&str, Column); 3] = [
        ("to the first text", |answer| answer.first),
        ("to the end", |answer| answer.end),
        ("longest wait between two texts", |answer| answer.longest_gap),
    ];
    for (name, value) in columns {
        let mut values: Vec<_> = of(true).map(value).collect();
        values.sort_by(f64::total_cmp);
        let at = |share: usize| values.get((values.len() - 1) * share / 2).copied().unwrap_or(f64::NAN);
        writeln!(out, "| {name} | {:.2} | {:.2} | {:.2} |", at(0), at(1), at(2))?;
    }
    Ok(out)
}

impl Arguments {
    fn parse() -> Result<Self> {
        const USAGE: &str =
            "usage: bench_clients GGUF OUT.csv [--clients N] [--threads N] [--generate N] [--alone N]";
        let mut given = std::env::args().skip(1);
        let (gguf, out) = (given.next().ok_or(USAGE)?.into(), given.next().ok_or(USAGE)?.into());
        let threads = NonZeroUsize::MIN.saturating_add(1);
        let mut arguments = Self { gguf, out, clients: 64, threads, generate: 64, alone: 8 };
        while let Some(name) = given.next() {
            let value = given.next().ok_or(USAGE)?;
            match name.as_str() {
                "--clients" => arguments.clients = value.parse()?,
                "--threads" => arguments.threads = value.parse()?,
                "--generate" => arguments.generate = value.parse()?,
                "--alone" => arguments.alone = value.parse()?,
                _ => return Err(USAGE.into()),
            }
        }
        Ok(arguments)
    }
}
