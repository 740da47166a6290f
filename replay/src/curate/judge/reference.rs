use std::collections::HashMap;
use std::path::PathBuf;

use async_trait::async_trait;

use super::{Case, Judge, JudgeError, Ruling};
use crate::curate::author::Author;
use crate::data::DataError;
use crate::data::requests::Request;
use crate::pool::fold;
use crate::score::NumberRule;

/// Known right answers, found by the request's text.
#[derive(Debug, Clone, Default)]
pub struct References(HashMap<String, Request>);

impl References {
    /// Reads files of requests with references (the format `trace` reads).
    pub fn read(paths: &[PathBuf]) -> Result<Self, DataError> {
        let mut known = HashMap::new();
        for path in paths {
            for request in Request::read(path)? {
                for text in std::iter::once(&request.prompt).chain(&request.text) {
                    known.insert(fold(text), request.clone());
                }
            }
        }
        Ok(Self(known))
    }

    #[must_use]
    pub fn from_requests(requests: Vec<Request>) -> Self {
        Self(requests.into_iter().map(|request| (fold(&request.prompt), request)).collect())
    }
}

/// Scores answers by the metric the data names: the judge to trust where a reference is known.
#[derive(Debug, Clone)]
pub struct Reference(pub References);

const UNKNOWN: &str = "no reference is known";

impl Reference {
    fn known(&self, request: &str) -> Option<&Request> {
        self.0.0.get(&fold(request))
    }
}

#[async_trait]
impl Judge for Reference {
    fn name(&self) -> &'static str {
        "reference"
    }

    fn may_replace_imported(&self) -> bool {
        true
    }

    fn can_rule(&self, case: &Case<'_>, _best: &Author) -> Result<(), &'static str> {
        self.known(case.request).map(drop).ok_or(UNKNOWN)
    }

    async fn rule(&self, case: Case<'_>) -> Result<Ruling, JudgeError> {
        let known = self.known(case.request).ok_or(JudgeError::CannotSay(UNKNOWN))?;
        let score =
            |text: &str| known.metric.score(text, &known.references, NumberRule::for_source(&known.source));
        let Some(stored) = score(&case.stored.text) else {
            return Err(JudgeError::CannotSay("the reference has no metric"));
        };
        let mut best: Option<(usize, f64)> = None;
        for (index, answer) in case.fresh.iter().enumerate() {
            if let Some(score) = score(&answer.text)
                && best.is_none_or(|(_, most)| score > most)
            {
                best = Some((index, score));
            }
        }
        let Some((index, fresh)) = best else {
            return Err(JudgeError::CannotSay("no new answer was whole"));
        };
        Ok(Ruling {
            better: (fresh > stored).then_some(index),
            new_quality: fresh as f32,
            old_quality: stored as f32,
            comparable: true,
            tokens: 0,
            why: format!("{} against the reference: {fresh:.2}, stored {stored:.2}", known.metric),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::curate::author::Written;
    use crate::score::Metric;

    fn written(text: &str) -> Written {
        Written { text: text.into(), author: Author { name: "large".into(), model: None } }
    }

    #[tokio::test]
    async fn the_best_scoring_answer_wins_only_if_better() {
        let known = Request {
            id: "a".into(),
            set: "s".into(),
            source: "gsm8k".into(),
            task: "t".into(),
            prompt: "How many?".into(),
            text: None,
            references: vec!["18".into()],
            metric: Metric::Contains,
            solution: None,
        };
        let judge = Reference(References::from_requests(vec![known]));
        let fresh = [written("it is 17"), written("9 and 9 make 18")];
        let ruling = |request: &'static str, stored: &'static str| {
            let (judge, fresh) = (judge.clone(), fresh.clone());
            async move { judge.rule(Case { request, stored: &written(stored), fresh: &fresh, tiers: &[] }).await }
        };
        assert_eq!(ruling("how  many?", "17").await.unwrap().better, Some(1));
        assert_eq!(ruling("How many?", "18").await.unwrap().better, None);
        assert!(matches!(ruling("What?", "18").await, Err(JudgeError::CannotSay(_))));
    }
}
