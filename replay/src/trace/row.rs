use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use crate::data::requests::Request;
use crate::gateway::GatewayError;
use crate::gateway::chat::Answer;
use crate::score::Metric;

/// A request that was sent, and what came back.
#[derive(Debug)]
pub(super) struct Asked {
    pub request: Request,
    pub answer: Result<Answer, GatewayError>,
    pub score: Option<f64>,
    pub example_tokens: Option<u32>,
    pub lateness: Duration,
}

impl Asked {
    pub fn failed(&self) -> bool {
        self.answer.is_err()
    }
}

/// One row of rows.csv. Times in seconds unless the name says otherwise; empty where not measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The run's label.
    pub run: String,
    pub policy: String,
    pub pass: u32,
    /// The row's id in the data.
    pub id: String,
    /// The gateway's id of this request.
    pub request_id: Option<String>,
    pub set: String,
    pub source: String,
    pub task: String,
    pub metric: Metric,
    pub score: Option<f64>,
    /// To the first content delta.
    pub ttft_s: Option<f64>,
    /// To the end of the stream.
    pub e2e_s: Option<f64>,
    /// Mean gap between content deltas.
    pub itl_s: Option<f64>,
    /// How long after its planned time it was sent.
    pub lateness_s: f64,
    pub tier: Option<String>,
    pub cache: Option<String>,
    pub examples: Option<u32>,
    pub similarity: Option<f64>,
    pub overhead_ms: Option<f64>,
    pub example_tokens: Option<u32>,
    pub prompt_tokens: Option<u32>,
    pub completion_tokens: Option<u32>,
    pub finish_reason: Option<String>,
    /// HTTP status; empty if there was no answer at all.
    pub status: Option<u16>,
    pub error: Option<String>,
}

/// One line of answers.jsonl, beside the row with the same run, pass and id.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AnswerRow {
    pub run: String,
    pub pass: u32,
    pub id: String,
    pub answer: String,
}

impl Row {
    fn new(run: &str, policy: &str, pass: u32, asked: &Asked) -> Self {
        let answer = asked.answer.as_ref().ok();
        let seconds = |time: Duration| (time.as_secs_f64() * 1e6).round() / 1e6;
        let request = &asked.request;
        Self {
            run: run.into(),
            policy: policy.into(),
            pass,
            id: request.id.clone(),
            request_id: answer.and_then(|answer| answer.request_id.clone()),
            set: request.set.clone(),
            source: request.source.clone(),
            task: request.task.clone(),
            metric: request.metric,
            score: asked.score,
            ttft_s: answer.and_then(|answer| answer.ttft).map(seconds),
            e2e_s: answer.map(|answer| seconds(answer.e2e)),
            itl_s: answer.and_then(|answer| answer.inter_token).map(seconds),
            lateness_s: seconds(asked.lateness),
            tier: answer.and_then(|answer| answer.tier.clone()),
            cache: answer.and_then(|answer| answer.cache.clone()),
            examples: answer.and_then(|answer| answer.examples),
            similarity: answer.and_then(|answer| answer.similarity),
            overhead_ms: answer.and_then(|answer| answer.overhead_ms),
            example_tokens: asked.example_tokens,
            prompt_tokens: answer.and_then(|answer| answer.prompt_tokens),
            completion_tokens: answer.and_then(|answer| answer.completion_tokens),
            finish_reason: answer.and_then(|answer| answer.finish_reason.clone()),
            status: match &asked.answer {
                Ok(_) => Some(200),
                Err(error) => error.status(),
            },
            error: asked.answer.as_ref().err().map(ToString::to_string),
        }
    }
}

/// Appends to rows.csv and answers.jsonl of one run; every row reaches the file before the next is taken.
#[derive(Debug)]
pub struct RowWriter {
    rows: csv::Writer<File>,
    answers: BufWriter<File>,
}

impl RowWriter {
    /// Refuses a folder that already holds a run: measurements are never overwritten.
    pub fn create(out: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(out).with_context(|| format!("create {}", out.display()))?;
        let open = |name: &str| {
            let path = out.join(name);
            match File::options().write(true).create_new(true).open(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                    bail!("{} already holds a run: choose another --out", out.display())
                }
                other => other.with_context(|| format!("create {}", path.display())),
            }
        };
        Ok(Self {
            rows: csv::Writer::from_writer(open("rows.csv")?),
            answers: BufWriter::new(open("answers.jsonl")?),
        })
    }

    /// A row that was not asked for but computed.
    pub(crate) fn simulated(&mut self, row: &Row) -> anyhow::Result<()> {
        self.rows.serialize(row)?;
        Ok(self.rows.flush()?)
    }

    pub(super) fn write(&mut self, run: &str, policy: &str, pass: u32, asked: &Asked) -> anyhow::Result<()> {
        self.rows.serialize(Row::new(run, policy, pass, asked))?;
        self.rows.flush()?;
        if let Ok(answer) = &asked.answer {
            let row = AnswerRow {
                run: run.into(),
                pass,
                id: asked.request.id.clone(),
                answer: answer.text.clone(),
            };
            serde_json::to_writer(&mut self.answers, &row)?;
            self.answers.write_all(b"\n")?;
            self.answers.flush()?;
        }
        Ok(())
    }
}
