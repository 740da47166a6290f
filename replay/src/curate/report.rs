use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::journal::Outcome;

/// Why a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stop {
    /// Every candidate was replayed.
    NoCandidateLeft,
    /// The next replay would cost more than it is expected to save.
    SavingBelowCost,
    Budget,
    PoolBusy,
    BestTierNotReady,
    LeaseLost,
    Interrupted,
    /// Several asks in a row failed.
    GatewayFails,
}

impl Stop {
    /// The walk down the ranking is over; the next run starts a new one.
    #[must_use]
    pub fn ends_the_pass(self) -> bool {
        matches!(self, Self::NoCandidateLeft | Self::SavingBelowCost)
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoCandidateLeft => "every candidate was replayed",
            Self::SavingBelowCost => "the next replay would cost more than it is expected to save",
            Self::Budget => "the budget is spent",
            Self::PoolBusy => "the pool is busy",
            Self::BestTierNotReady => "the best tier is not ready",
            Self::LeaseLost => "the lease was lost",
            Self::Interrupted => "a signal came",
            Self::GatewayFails => "the gateway failed several times in a row",
        })
    }
}

/// An answer that was replaced.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Improvement {
    pub id: String,
    pub tenant: String,
    /// What was asked.
    #[serde(default)]
    pub request: String,
    /// As the judge sees the stored answer, else as measured before.
    pub old_quality: Option<f32>,
    pub new_quality: Option<f32>,
    /// G(e) when it was replayed.
    pub gain: f64,
    pub old_answer: String,
    pub new_answer: String,
    /// The judge's reason.
    pub why: String,
}

/// What a run did, as the gateway keeps it and `--json` prints it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunReport {
    pub started: jiff::Timestamp,
    pub finished: jiff::Timestamp,
    pub holder: String,
    pub judge: String,
    /// Candidates on the ranking when the run began.
    pub considered: usize,
    /// Examples asked again.
    pub replayed: usize,
    /// Of these, those whose stored answer stood.
    #[serde(default)]
    pub kept: usize,
    pub improved: Vec<Improvement>,
    /// Improvements left out of this copy for size.
    #[serde(default)]
    pub improved_omitted: usize,
    /// Reason and number of examples passed over.
    pub skipped: BTreeMap<String, usize>,
    pub tokens_spent: u64,
    /// Of the improved examples, in tokens of the best tier over the horizon.
    pub expected_tokens_saved: u64,
    pub stopped_because: Stop,
    pub duration_s: f64,
    /// True if it continued a pass that an earlier run left open.
    pub resumed: bool,
}

/// The gateway keeps reports of at most 64 KiB.
const REPORT_BYTES: usize = 56 << 10;
const ANSWER_CHARS: usize = 600;

/// Replays that are taken to have found a better answer before the first one: a few that did not end no run.
const BELIEVED: f64 = 4.0;

impl RunReport {
    /// Share of this run's replays that found a better answer. It makes a run end where the best tier has little to add, however much its examples
    /// are used.
    pub(super) fn hits(&self) -> f64 {
        (self.improved.len() as f64 + BELIEVED) / (self.replayed as f64 + BELIEVED)
    }

    pub(super) fn add(&mut self, outcome: Outcome, tokens: u64) {
        self.tokens_spent += tokens;
        match outcome {
            Outcome::Improved { improvement, expected_saving } => {
                self.replayed += 1;
                self.expected_tokens_saved += expected_saving.max(0.0) as u64;
                self.improved.push(improvement);
            }
            Outcome::Kept => {
                self.replayed += 1;
                self.kept += 1;
            }
            Outcome::Skipped { reason } => *self.skipped.entry(reason).or_default() += 1,
        }
    }

    /// The copy for the gateway: long answers cut, improvements beyond its size limit counted instead of told. The
    /// journal has them whole.
    #[must_use]
    pub fn for_gateway(&self) -> Self {
        let mut copy = self.clone();
        let mut size = 4096;
        let mut kept = Vec::new();
        for mut improvement in copy.improved {
            for text in [
                &mut improvement.request,
                &mut improvement.old_answer,
                &mut improvement.new_answer,
                &mut improvement.why,
            ] {
                *text = shortened(text);
            }
            size += serde_json::to_vec(&improvement).map_or(REPORT_BYTES, |bytes| bytes.len() + 1);
            if size > REPORT_BYTES {
                break;
            }
            kept.push(improvement);
        }
        copy.improved_omitted = self.improved.len() - kept.len();
        copy.improved = kept;
        copy
    }
}

/// For people.
impl fmt::Display for RunReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let resumed = if self.resumed { ", continuing an earlier pass" } else { "" };
        writeln!(
            f,
            "{} candidates, {} replayed{resumed}, judged by {}: {} improved, {} kept as they were",
            self.considered,
            self.replayed,
            self.judge,
            self.improved.len(),
            self.kept
        )?;
        for improvement in &self.improved {
            let quality = |value: Option<f32>| value.map_or("?".to_owned(), |value| format!("{value:.2}"));
            writeln!(
                f,
                "improved {} (tenant {}): quality {} to {}, G(e) {:.3}; {}",
                improvement.id,
                improvement.tenant,
                quality(improvement.old_quality),
                quality(improvement.new_quality),
                improvement.gain,
                improvement.why
            )?;
            writeln!(f, "  asked: {}", one_line(&improvement.request))?;
            writeln!(f, "  was: {}", one_line(&improvement.old_answer))?;
            writeln!(f, "  now: {}", one_line(&improvement.new_answer))?;
        }
        for (reason, count) in &self.skipped {
            writeln!(f, "skipped {count}: {reason}")?;
        }
        writeln!(
            f,
            "{} tokens spent, {} expected to be saved",
            self.tokens_spent, self.expected_tokens_saved
        )?;
        write!(f, "stopped: {}", self.stopped_because)
    }
}

fn shortened(text: &str) -> String {
    if text.chars().count() <= ANSWER_CHARS {
        return text.to_owned();
    }
    let kept: String = text.chars().take(ANSWER_CHARS).collect();
    format!("{kept}\u{2026}")
}

fn one_line(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= 160 {
        line
    } else {
        format!("{}\u{2026}", line.chars().take(159).collect::<String>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gateways_copy_fits_its_limit_and_counts_what_it_leaves_out() {
        let now = jiff::Timestamp::now();
        let improvement = Improvement {
            id: "e".into(),
            tenant: "t".into(),
            request: "r".into(),
            old_quality: None,
            new_quality: Some(0.5),
            gain: 0.1,
            old_answer: "\u{1}".repeat(5000),
            new_answer: "b".repeat(5000),
            why: "w".into(),
        };
        let report = RunReport {
            started: now,
            finished: now,
            holder: "h".into(),
            judge: "agreement".into(),
            considered: 500,
            replayed: 500,
            kept: 0,
            improved: vec![improvement; 500],
            improved_omitted: 0,
            skipped: BTreeMap::new(),
            tokens_spent: 0,
            expected_tokens_saved: 0,
            stopped_because: Stop::Budget,
            duration_s: 0.0,
            resumed: false,
        };
        let copy = report.for_gateway();
        assert!(serde_json::to_vec(&copy).unwrap().len() < 64 << 10);
        assert!(!copy.improved.is_empty());
        assert_eq!(copy.improved.len() + copy.improved_omitted, 500);
    }
}
