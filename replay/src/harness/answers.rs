//! A tier's own answers as a pool: what a gateway that only ever asked that tier would remember, and what curation makes of
//! it. The judges are those of `curate`; an answer that was cut off at its limit is not remembered, as in the gateway.

use std::collections::HashMap;

use serde::Serialize;

use super::arm::Arm;
use super::outcome::Outcome;
use super::table::{Run, Table};
use crate::curate::author::{Author, Written};
use crate::curate::judge::{Case, Judge, JudgeError, Ruling};
use crate::data::pairs::Pair;
use crate::data::requests::Request;
use crate::score::NumberRule;

/// Which answers.
#[derive(Debug)]
pub struct Wanted<'a> {
    pub tier: &'a str,
    /// Whose requests are remembered: never those that are asked of the pool.
    pub split: &'a str,
    pub arm: &'a Arm,
    /// Other answers to the same request, of which the judge may take one.
    pub better: &'a [Arm],
    pub judge: &'a dyn Judge,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Counts {
    pub remembered: usize,
    /// Of them, those that the judge replaced.
    pub replaced: usize,
    /// Cut off or empty, and so not remembered.
    pub unfinished: usize,
    /// Tokens of all answers that were looked at and their prompts.
    pub tokens: u64,
    /// Mean score of the remembered answers against the references.
    pub quality: f64,
}

/// Pairs in the order of the requests, each with the quality that the judge gave it, or none where it could not say.
///
/// # Errors
/// The judge cannot be asked.
pub async fn answers(
    requests: &[Request],
    outcomes: &[Outcome],
    runs: &Table<Run>,
    wanted: &Wanted<'_>,
) -> Result<(Vec<Pair>, Counts), JudgeError> {
    let known: HashMap<(&str, &str), &Run> = outcomes
        .iter()
        .filter(|outcome| outcome.tier == wanted.tier && outcome.split == wanted.split)
        .filter_map(|outcome| Some(((outcome.id.as_str(), outcome.arm.as_str()), runs.get(&outcome.run)?)))
        .collect();
    let mut counts = Counts::default();
    let (mut pairs, mut sum) = (Vec::new(), 0.0);
    for request in requests {
        let run = |arm: &Arm| known.get(&(request.id.as_str(), arm.name())).copied();
        let Some(first) = run(wanted.arm) else { continue };
        let drawn: Vec<&Run> = wanted.better.iter().filter_map(run).collect();
        counts.tokens += std::iter::once(&first).chain(&drawn).map(|run| tokens(run)).sum::<u64>();
        let Some(stored) = written(first, wanted.tier) else {
            counts.unfinished += 1;
            continue;
        };
        let fresh: Vec<Written> =
            std::iter::once(first).chain(drawn).filter_map(|run| written(run, wanted.tier)).collect();
        let ruling = rule(request, &stored, &fresh, wanted.judge).await?;
        let better = ruling.as_ref().and_then(|ruling| ruling.better);
        counts.replaced += usize::from(better.is_some());
        let answer = better.map_or(stored.text.as_str(), |index| fresh[index].text.as_str());
        let numbers = NumberRule::for_source(&request.source);
        let Some(score) = request.metric.score(answer, &request.references, numbers) else { continue };
        sum += score;
        pairs.push(Pair {
            request: request.prompt.clone(),
            answer: answer.to_owned(),
            instructions: None,
            quality: ruling.map(|r| if better.is_some() { r.new_quality } else { r.old_quality }),
            source: Some(wanted.tier.to_owned()),
        });
    }
    counts.remembered = pairs.len();
    counts.quality = if pairs.is_empty() { 0.0 } else { sum / pairs.len() as f64 };
    Ok((pairs, counts))
}

/// `None` where the judge has nothing to say.
async fn rule(
    request: &Request,
    stored: &Written,
    fresh: &[Written],
    judge: &dyn Judge,
) -> Result<Option<Ruling>, JudgeError> {
    let case = Case { request: &request.prompt, stored, fresh, tiers: &[] };
    match judge.rule(case).await {
        Ok(ruling) => Ok(Some(ruling)),
        Err(JudgeError::CannotSay(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

fn written(run: &Run, tier: &str) -> Option<Written> {
    let text = run.text.trim();
    let whole = run.finish_reason.as_deref() == Some("stop") && !text.is_empty();
    let author = Author { name: tier.to_owned(), model: Some(run.model.clone()) };
    whole.then(|| Written { text: text.to_owned(), author })
}

fn tokens(run: &Run) -> u64 {
    u64::from(run.prompt_tokens) + u64::from(run.completion_tokens)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::curate::judge::{Reference, References};
    use crate::harness::testing::outcome;
    use crate::score::Metric;

    fn request(id: &str) -> Request {
        Request {
            id: id.into(),
            set: "s".into(),
            source: "s".into(),
            task: "t".into(),
            prompt: format!("what is {id}"),
            text: None,
            references: vec!["right".into()],
            metric: Metric::ExactMatch,
            solution: None,
        }
    }

    fn said(id: &str, arm: &str, text: &str, finish: &str) -> (Outcome, Run) {
        let split = if id == "asked" { "test" } else { "train" };
        let outcome = Outcome { split: split.into(), ..outcome(id, "large", arm, 0.0) };
        let run = Run {
            key: outcome.run.clone(),
            model: "m".into(),
            text: text.into(),
            finish_reason: Some(finish.into()),
            prompt_tokens: 10,
            completion_tokens: 2,
            cached_tokens: None,
            prefill_s: None,
            decode_s: None,
        };
        (outcome, run)
    }

    #[tokio::test]
    async fn whole_answers_are_remembered_and_better_ones_take_their_place() {
        let dir = tempfile::tempdir().unwrap();
        let mut runs = Table::open(&dir.path().join("runs.jsonl")).unwrap();
        let said = [
            said("a", "plain", "wrong", "stop"),
            said("a", "sample-1", "right", "stop"),
            said("b", "plain", "right", "stop"),
            said("b", "sample-1", "wrong", "stop"),
            said("c", "plain", "right, and then", "length"),
            said("d", "plain", "wrong", "stop"),
            said("d", "sample-1", "right", "length"),
            said("asked", "plain", "right", "stop"),
        ];
        let mut outcomes = Vec::new();
        for (outcome, run) in said {
            outcomes.push(outcome);
            runs.append(run).unwrap();
        }
        let requests: Vec<Request> = ["a", "b", "c", "d", "asked", "never asked"].map(request).to_vec();
        let judge = Reference(References::from_requests(requests.clone()));
        let (plain, sample): (Arm, Arm) = ("plain".parse().unwrap(), "sample-1".parse().unwrap());
        let better = [sample];
        let wanted = Wanted { tier: "large", split: "train", arm: &plain, better: &better, judge: &judge };
        let (pairs, counts) = answers(&requests, &outcomes, &runs, &wanted).await.unwrap();
        let kept: Vec<_> = pairs.iter().map(|pair| (pair.answer.as_str(), pair.quality)).collect();
        assert_eq!(kept, [("right", Some(1.0)), ("right", Some(1.0)), ("wrong", Some(0.0))]);
        assert_eq!((counts.remembered, counts.replaced, counts.unfinished, counts.tokens), (3, 1, 1, 84));
        let as_it_is = Wanted { better: &[], ..wanted };
        let (pairs, counts) = answers(&requests, &outcomes, &runs, &as_it_is).await.unwrap();
        assert_eq!((pairs[0].answer.as_str(), counts.replaced), ("wrong", 0));
        assert!((counts.quality - 1.0 / 3.0).abs() < 1e-9);
    }
}
