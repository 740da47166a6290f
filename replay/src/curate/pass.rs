use std::collections::{BTreeMap, HashSet};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::ask::{self, AskError};
use super::author::{Author, Written};
use super::journal::{Event, Journal, OpenPass, Outcome};
use super::judge::{Case, JudgeError, Ruling};
use super::lease::Lease;
use super::report::{Improvement, RunReport, Stop};
use super::worth::{Worth, worth};
use super::{CurateError, Curation, Judge, idle};
use crate::gateway::admin::{Example, ExamplePatch, TierInfo};
use crate::gateway::{Gateway, GatewayError};

/// Failed examples in a row after which the gateway is taken to be down.
const FAILURES: u32 = 3;
const PAGE: usize = 100;

/// An example that may be replayed, and whether that pays.
#[derive(Debug, Clone)]
pub struct Planned {
    pub tenant: String,
    pub example: Example,
    pub worth: Worth,
}

/// What a run did, and the journal to close it with.
#[derive(Debug)]
pub(super) struct Work {
    pub report: RunReport,
    pub journal: Journal,
}

struct Pass<'a> {
    gateway: &'a Gateway,
    curation: &'a Curation,
    judge: &'a dyn Judge,
    journal: Journal,
    report: RunReport,
}

/// What became of one example.
enum Step {
    Done(Outcome, u64),
    Stop(Stop),
    /// Nothing is known about it; it may be asked again. Tokens that were spent on it count all the same.
    Failed(GatewayError),
}

/// The examples of all tenants that could be replayed, most tokens saved for each token spent first, and how many were
/// left out for which reason. Asks no model.
pub async fn plan(
    gateway: &Gateway,
    curation: &Curation,
    judge: &dyn Judge,
    done: &HashSet<(String, String)>,
) -> Result<(Vec<Planned>, BTreeMap<String, usize>), GatewayError> {
    let tiers = gateway.pool().await?.tiers;
    let now_ms = jiff::Timestamp::now().as_millisecond();
    let (mut planned, mut skipped) = (Vec::new(), BTreeMap::new());
    for tenant in &curation.tenants {
        for example in candidates(gateway, tenant, curation.max_candidates).await? {
            if done.contains(&(tenant.clone(), example.id.clone())) {
                *skipped.entry("done earlier in this pass".to_owned()).or_default() += 1;
            } else if let Some(reason) = unfit(&example, curation, judge, &tiers) {
                *skipped.entry(reason.to_owned()).or_default() += 1;
            } else {
                let worth =
                    worth(&example, curation.samples + 1, judge.exchanges(), curation.horizon_h, now_ms);
                planned.push(Planned { tenant: tenant.clone(), example, worth });
            }
        }
    }
    // Equal ratios keep the gateway's order, by gain.
    planned.sort_by(|a, b| b.worth.ratio().total_cmp(&a.worth.ratio()));
    Ok((planned, skipped))
}

async fn candidates(gateway: &Gateway, tenant: &str, most: usize) -> Result<Vec<Example>, GatewayError> {
    let mut found: Vec<Example> = Vec::new();
    while found.len() < most {
        let after = found.last().map(|example| example.id.clone());
        let page = gateway.examples_by_gain(tenant, PAGE.min(most - found.len()), after.as_deref()).await?;
        let none = page.data.is_empty();
        found.extend(page.data);
        if none || !page.has_more {
            break;
        }
    }
    Ok(found)
}

fn unfit(
    example: &Example,
    curation: &Curation,
    judge: &dyn Judge,
    tiers: &[TierInfo],
) -> Option<&'static str> {
    let imported = !Author::of_example(&example.source_tier, tiers).is_tier();
    if example.replays >= curation.max_replays {
        Some("replayed often enough")
    } else if !example.context_free {
        Some("its answer needs what was said before it")
    } else if imported && !curation.replace_imported && !judge.may_replace_imported() {
        Some("no tier wrote its answer")
    } else {
        None
    }
}

pub(super) async fn run(
    gateway: &Gateway,
    curation: &Curation,
    judge: &dyn Judge,
    lease: &Lease,
    cancel: &CancellationToken,
) -> Result<Work, CurateError> {
    let begin = Instant::now();
    let (journal, open) = Journal::open(&curation.state_dir, gateway.base())?;
    let now = jiff::Timestamp::now();
    let report = RunReport {
        started: now,
        finished: now,
        holder: curation.holder.clone(),
        judge: judge.name().to_owned(),
        considered: 0,
        replayed: 0,
        kept: 0,
        improved: Vec::new(),
        improved_omitted: 0,
        skipped: BTreeMap::new(),
        tokens_spent: 0,
        expected_tokens_saved: 0,
        stopped_because: Stop::NoCandidateLeft,
        duration_s: 0.0,
        resumed: open.started,
    };
    let mut pass = Pass { gateway, curation, judge, journal, report };
    pass.report.stopped_because = pass.walk(open, lease.lost(), cancel).await?;
    pass.report.finished = jiff::Timestamp::now();
    pass.report.duration_s = begin.elapsed().as_secs_f64();
    Ok(Work { report: pass.report, journal: pass.journal })
}

impl Pass<'_> {
    async fn walk(
        &mut self,
        open: OpenPass,
        lost: &CancellationToken,
        cancel: &CancellationToken,
    ) -> Result<Stop, CurateError> {
        let mut done = open.finished;
        if !open.started {
            self.journal.append(&Event::PassStarted {
                at: jiff::Timestamp::now(),
                gateway: self.gateway.base().to_owned(),
                judge: self.judge.name().to_owned(),
            })?;
        }
        // A killed run spent these tokens without telling anyone; they are told now.
        for (outcome, tokens) in open.unreported {
            self.report.add(outcome, tokens);
        }
        if let Some((improvement, author, tokens)) = open.pending {
            let (tenant, id) = (improvement.tenant.clone(), improvement.id.clone());
            let outcome = self.write(improvement, author, 0.0).await?;
            self.finish(&tenant, &id, outcome, tokens)?;
            done.insert((tenant, id));
        }

        let (planned, skipped) = plan(self.gateway, self.curation, self.judge, &done).await?;
        for (reason, count) in skipped {
            *self.report.skipped.entry(reason).or_default() += count;
        }
        self.report.considered = planned.len();
        let paying = planned.iter().filter(|candidate| candidate.worth.pays(1.0)).count();
        info!(candidates = planned.len(), paying, "ranked");
        let before = self.report.tokens_spent;
        let mut failures = 0;
        for (number, candidate) in planned.into_iter().enumerate() {
            if cancel.is_cancelled() {
                return Ok(Stop::Interrupted);
            }
            if lost.is_cancelled() {
                return Ok(Stop::LeaseLost);
            }
            let hits = self.report.hits();
            if !candidate.worth.pays(hits) {
                let worth = candidate.worth;
                info!(
                    id = candidate.example.id,
                    expected_saving = (worth.expected_saving() * hits).round(),
                    replay_cost = worth.replay_cost.round(),
                    "the best of the rest would save fewer tokens than it costs"
                );
                return Ok(Stop::SavingBelowCost);
            }
            let spent = self.report.tokens_spent - before;
            if let Some(budget) = self.curation.budget_tokens
                && spent.saturating_add(candidate.worth.replay_cost as u64) > budget
            {
                return Ok(Stop::Budget);
            }
            match self.step(&candidate, lost, cancel).await? {
                Step::Done(outcome, tokens) => {
                    failures = 0;
                    info!(id = candidate.example.id, tokens, "{} of {paying}: {outcome}", number + 1);
                    self.finish(&candidate.tenant, &candidate.example.id, outcome, tokens)?;
                }
                Step::Stop(stop) => return Ok(stop),
                Step::Failed(error) => {
                    warn!(%error, "an example could not be replayed");
                    failures += 1;
                    *self.report.skipped.entry("asking or judging failed".to_owned()).or_default() += 1;
                    if failures >= FAILURES {
                        return Ok(Stop::GatewayFails);
                    }
                }
            }
        }
        Ok(Stop::NoCandidateLeft)
    }

    async fn step(
        &mut self,
        candidate: &Planned,
        lost: &CancellationToken,
        cancel: &CancellationToken,
    ) -> Result<Step, CurateError> {
        let Some(pool) = idle::wait(self.gateway, self.curation.idle_wait, cancel).await? else {
            return Ok(Step::Stop(if cancel.is_cancelled() { Stop::Interrupted } else { Stop::PoolBusy }));
        };
        let Some(best) = best(&pool.tiers) else { return Ok(Step::Stop(Stop::BestTierNotReady)) };
        let Planned { tenant, example, worth } = candidate;
        let stored = Written {
            text: example.answer.clone(),
            author: Author::of_example(&example.source_tier, &pool.tiers),
        };
        let case = |fresh| Case { request: &example.request, stored: &stored, fresh, tiers: &pool.tiers };
        if let Err(reason) = self.judge.can_rule(&case(&[]), &Author::tier(best)) {
            return Ok(Step::Done(Outcome::Skipped { reason: reason.to_owned() }, 0));
        }
        info!(id = example.id, tenant, gain = example.replay_gain, "replaying");
        let asked = match ask::ask(self.gateway, best, example, self.curation, (cancel, lost)).await {
            Ok(asked) => asked,
            Err(AskError::Stopped(stop)) => return Ok(Step::Stop(stop)),
            Err(AskError::Failed(error)) => return Ok(Step::Failed(error)),
        };
        let ruling = match self.judge.rule(case(&asked.answers)).await {
            Ok(ruling) => ruling,
            Err(JudgeError::CannotSay(reason)) => {
                let skipped = Outcome::Skipped { reason: reason.to_owned() };
                let outcome = self.keep(tenant, &example.id, skipped).await?;
                return Ok(Step::Done(outcome, asked.tokens));
            }
            Err(JudgeError::Gateway(error)) => {
                self.report.tokens_spent += asked.tokens;
                return Ok(Step::Failed(error));
            }
        };
        let tokens = asked.tokens + ruling.tokens;
        let Some(new) = replacing(&ruling, example.quality).and_then(|index| asked.answers.get(index)) else {
            let outcome = self.keep(tenant, &example.id, Outcome::Kept).await?;
            return Ok(Step::Done(outcome, tokens));
        };
        let improvement = Improvement {
            id: example.id.clone(),
            tenant: tenant.clone(),
            request: example.request.clone(),
            old_quality: Some(example.quality.unwrap_or(ruling.old_quality)),
            new_quality: Some(quality_to_store(&ruling, example.quality)),
            gain: example.replay_gain,
            old_answer: example.answer.clone(),
            new_answer: new.text.clone(),
            why: ruling.why,
        };
        let author = best.name.clone();
        self.journal.append(&Event::Decided {
            improvement: improvement.clone(),
            author: author.clone(),
            tokens,
        })?;
        let outcome = self.write(improvement, author, worth.saving).await?;
        Ok(Step::Done(outcome, tokens))
    }

    /// Sends a better answer, unless the example changed or went since it was read (feedback, eviction). Sending again
    /// what was sent before a crash changes nothing.
    async fn write(
        &self,
        improvement: Improvement,
        author: String,
        expected_saving: f64,
    ) -> Result<Outcome, CurateError> {
        let (tenant, id) = (improvement.tenant.as_str(), improvement.id.as_str());
        let now = match self.gateway.example(tenant, id).await {
            Ok(example) => example,
            Err(error) => return gone(error),
        };
        if now.answer != improvement.new_answer {
            if now.answer != improvement.old_answer {
                return Ok(Outcome::Skipped { reason: "it changed meanwhile".to_owned() });
            }
            let patch = ExamplePatch {
                answer: Some(improvement.new_answer.clone()),
                quality: improvement.new_quality,
                source_tier: Some(author),
                replayed: true,
            };
            if let Err(error) = self.gateway.patch_example(tenant, id, &patch).await {
                return gone(error);
            }
        }
        Ok(Outcome::Improved { improvement, expected_saving })
    }

    /// Counts a replay that changed nothing, so that the example is not asked for ever.
    async fn keep(&self, tenant: &str, id: &str, outcome: Outcome) -> Result<Outcome, CurateError> {
        let patch = ExamplePatch { replayed: true, ..ExamplePatch::default() };
        match self.gateway.patch_example(tenant, id, &patch).await {
            Ok(()) => Ok(outcome),
            Err(error) => gone(error),
        }
    }

    fn finish(&mut self, tenant: &str, id: &str, outcome: Outcome, tokens: u64) -> Result<(), CurateError> {
        self.journal.append(&Event::Finished {
            at: jiff::Timestamp::now(),
            tenant: tenant.to_owned(),
            id: id.to_owned(),
            outcome: outcome.clone(),
            tokens,
        })?;
        self.report.add(outcome, tokens);
        Ok(())
    }
}

/// The dearest tier, if it is ready: asking another one instead would replace answers by worse ones.
fn best(tiers: &[TierInfo]) -> Option<&TierInfo> {
    tiers.iter().max_by(|a, b| a.cost.total_cmp(&b.cost)).filter(|tier| tier.state == "ready")
}

/// A deleted example is no failure.
fn gone(error: GatewayError) -> Result<Outcome, CurateError> {
    match error.status() {
        Some(404) => Ok(Outcome::Skipped { reason: "it is gone".to_owned() }),
        _ => Err(error.into()),
    }
}

/// The answer to store, if it beats both the judge's comparison and the quality that was measured in use.
fn replacing(ruling: &Ruling, measured: Option<f32>) -> Option<usize> {
    let beats = match measured {
        Some(quality) if ruling.comparable => ruling.new_quality > quality,
        // A correction by a person has quality 1: no side-by-side reading overrules it.
        Some(quality) => quality < 1.0,
        None => true,
    };
    ruling.better.filter(|_| beats)
}

/// An answer that was preferred to one of known quality is worth no less.
fn quality_to_store(ruling: &Ruling, measured: Option<f32>) -> f32 {
    if ruling.comparable { ruling.new_quality } else { ruling.new_quality.max(measured.unwrap_or(0.0)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ruling(new_quality: f32, comparable: bool) -> Ruling {
        Ruling { better: Some(1), new_quality, old_quality: 0.2, comparable, tokens: 0, why: String::new() }
    }

    #[test]
    fn a_measured_quality_has_to_be_beaten() {
        assert_eq!(replacing(&ruling(0.8, true), None), Some(1));
        assert_eq!(replacing(&ruling(0.8, true), Some(0.7)), Some(1));
        assert_eq!(replacing(&ruling(0.8, true), Some(0.8)), None, "strictly better");
        assert_eq!(replacing(&ruling(1.0, true), Some(1.0)), None, "a correction stands");
        assert_eq!(replacing(&ruling(0.75, false), Some(0.9)), Some(1));
        assert_eq!(replacing(&ruling(0.75, false), Some(1.0)), None);
        assert!((quality_to_store(&ruling(0.75, false), Some(0.9)) - 0.9).abs() < 1e-6);
    }
}
