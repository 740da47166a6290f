//! Which of the nearest examples are worth their tokens, and in which order they stand.
//!
//! Stage 2 of EchoLM / IC-Cache (arXiv 2501.12689, section 4.1): score each candidate, drop those under tau, choose a
//! varied combination under a token budget, most useful last, where a model attends most.
//!
//! ```text
//! next = argmax over the rest of  (1 - d) * u(e) - d * max over chosen c of cos(e, c)     (MMR)
//! ```
//!
//! Maximal marginal relevance: Carbonell and Goldstein 1998. A candidate whose tokens do not fit is passed over, so that
//! a cheaper one behind it may still fit. Pure: no clock, no randomness, no I/O.

mod scarcity;
pub mod utility;

use std::{collections::HashSet, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{Candidate, Example, ExampleId};

pub use utility::{Query, SimilarityPrior, Utility, UtilityModel};

/// How examples are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SelectionConfig {
    /// Stage 1: this many nearest are considered.
    pub top_k: usize,
    /// Least utility of an example that is shown.
    pub tau: f32,
    pub max_examples: usize,
    /// Of all chosen together, by the cost function.
    pub token_budget: u32,
    /// d, in [0, 1]: 0 chooses by utility alone.
    pub diversity: f32,
}

/// Measured on eight sets (`replay/bench/runs/2026-11-26-h100`), score of the small tier over all: examples 1, 3, 5: 0.27, 0.37,
/// 0.38; tau 0, 0.5, 0.6, 0.8: 0.39, 0.38, 0.37, 0.33, for 331, 290, 238, 117 tokens; diversity 0, 0.3, 0.6: 0.39, 0.38, 0.33,
/// where 0 is not shown to be better than 0.3 and would show twins. Not varied: top_k and the budget.
impl Default for SelectionConfig {
    fn default() -> Self {
        Self { top_k: 32, tau: 0.5, max_examples: 5, token_budget: 1024, diversity: 0.3 }
    }
}

/// An example that stands in the prompt.
#[derive(Debug, Clone)]
pub struct Chosen {
    pub example: Arc<Example>,
    pub similarity: f32,
    pub utility: f32,
    pub tokens: u32,
}

/// What was chosen, and what became of the rest.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// In the order of the prompt: most useful last, nearest the question.
    pub chosen: Vec<Chosen>,
    pub considered: usize,
    /// Left out by the caller's rule, or named twice.
    pub excluded: usize,
    /// Utility under tau.
    pub below_tau: usize,
    /// Useful, but the budget was spent or the count reached.
    pub passed_over: usize,
    /// The nearest of those under tau that have a poor measured answer and would be over it with a good one.
    pub held_back: Vec<ExampleId>,
}

impl Selection {
    #[must_use]
    pub fn tokens(&self) -> u32 {
        self.chosen.iter().map(|chosen| chosen.tokens).sum()
    }
}

/// Chooses among candidates. `cost` is an example's tokens in the prompt, template included.
pub fn select(
    query: &Query<'_>,
    candidates: &[Candidate],
    utility: &dyn Utility,
    cost: &dyn Fn(&Example) -> u32,
    config: &SelectionConfig,
) -> Selection {
    select_without(query, candidates, &|_| false, utility, cost, config)
}

/// As [`select`], but never an example that `exclude` names: in an evaluation the one that holds the answer looked for
/// would otherwise leak it.
pub fn select_without(
    query: &Query<'_>,
    candidates: &[Candidate],
    exclude: &dyn Fn(&Example) -> bool,
    utility: &dyn Utility,
    cost: &dyn Fn(&Example) -> u32,
    config: &SelectionConfig,
) -> Selection {
    let considered = candidates.len().min(config.top_k);
    let mut seen = HashSet::with_capacity(considered);
    let allowed: Vec<&Candidate> = candidates[..considered]
        .iter()
        .filter(|candidate| seen.insert(candidate.example.id) && !exclude(&candidate.example))
        .collect();
    let excluded = considered - allowed.len();
    let utilities = utility.scores(query, &allowed);
    let mut rest: Vec<(&Candidate, f32)> =
        allowed.iter().copied().zip(utilities).filter(|(_, utility)| *utility >= config.tau).collect();
    let useful = rest.len();
    let held_back = held_back(&allowed, &rest, config.tau);
    let mut chosen: Vec<Chosen> = Vec::with_capacity(config.max_examples.min(useful));
    let mut room = config.token_budget;
    while chosen.len() < config.max_examples {
        let Some(next) = most_relevant(&rest, &chosen, config.diversity) else { break };
        let (candidate, utility) = rest.swap_remove(next);
        let tokens = cost(&candidate.example);
        if tokens <= room {
            room -= tokens;
            let Candidate { example, similarity } = candidate;
            chosen.push(Chosen { example: Arc::clone(example), similarity: *similarity, utility, tokens });
        }
    }
    // Ties by id, so that equal sets stand in equal order and share a prefix.
    chosen.sort_by(|a, b| a.utility.total_cmp(&b.utility).then(a.example.id.cmp(&b.example.id)));
    Selection {
        considered,
        excluded,
        below_tau: considered - excluded - useful,
        passed_over: useful - chosen.len(),
        chosen,
        held_back,
    }
}

/// What a poor answer is, and how many of them one request tells of.
const POOR: f32 = 0.5;
const HELD_BACK: usize = 3;

/// Near as they are, only their answers keep them from being shown: nothing but this tells that a better one is missed.
fn held_back(allowed: &[&Candidate], useful: &[(&Candidate, f32)], tau: f32) -> Vec<ExampleId> {
    let poor = |candidate: &&&Candidate| candidate.example.quality.is_some_and(|quality| quality < POOR);
    let would_be_useful =
        |candidate: &&&Candidate| SimilarityPrior::score(candidate.similarity, Some(1.0)) >= tau;
    let is_shown = |id: ExampleId| useful.iter().any(|(candidate, _)| candidate.example.id == id);
    let ids = allowed.iter().filter(poor).filter(would_be_useful).map(|candidate| candidate.example.id);
    ids.filter(|id| !is_shown(*id)).take(HELD_BACK).collect()
}

fn most_relevant(rest: &[(&Candidate, f32)], chosen: &[Chosen], diversity: f32) -> Option<usize> {
    let relevance = |(candidate, utility): &(&Candidate, f32)| {
        let likeness = chosen
            .iter()
            .map(|chosen| candidate.example.embedding.dot(&chosen.example.embedding))
            .fold(0.0_f32, f32::max);
        (1.0 - diversity) * utility - diversity * likeness
    };
    let relevances: Vec<f32> = rest.iter().map(relevance).collect();
    (0..rest.len()).max_by(|a, b| {
        let by_id = || rest[*b].0.example.id.cmp(&rest[*a].0.example.id);
        relevances[*a].total_cmp(&relevances[*b]).then_with(by_id)
    })
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use proptest::prelude::*;

    use super::*;
    use crate::{ExampleId, Instructions, NewExample, UnitVector};

    fn candidate(direction: Vec<f32>, similarity: f32, quality: Option<f32>) -> Candidate {
        let embedding = UnitVector::try_new(direction).unwrap();
        let new = NewExample {
            request: "r".repeat(1 + (similarity * 50.0).abs() as usize),
            answer: "a".into(),
            instructions: Instructions::NONE,
            embedding,
            source: "large".into(),
            quality,
        };
        let example = Example::new(ExampleId::generate(), new, 0);
        Candidate { example: Arc::new(example), similarity }
    }

    fn query() -> Query<'static> {
        static ASKED: OnceLock<UnitVector> = OnceLock::new();
        let embedding = ASKED.get_or_init(|| UnitVector::try_new(vec![1.0, 0.0]).unwrap());
        Query { embedding, bytes: 20, strength: 0.0 }
    }

    fn cost(example: &Example) -> u32 {
        example.request.len() as u32
    }

    #[test]
    fn the_most_useful_stands_last_and_twins_give_way() {
        let candidates = [
            candidate(vec![1.0, 0.0, 0.0], 0.95, Some(1.0)),
            candidate(vec![1.0, 0.01, 0.0], 0.94, Some(1.0)),
            candidate(vec![0.0, 1.0, 0.0], 0.80, Some(1.0)),
            candidate(vec![0.0, 0.0, 1.0], 0.20, Some(1.0)),
        ];
        let config = SelectionConfig { max_examples: 2, ..SelectionConfig::default() };
        let selection = select(&query(), &candidates, &SimilarityPrior, &cost, &config);
        let similarities: Vec<f32> = selection.chosen.iter().map(|chosen| chosen.similarity).collect();
        assert_eq!(similarities, [0.80, 0.95]);
        assert_eq!((selection.below_tau, selection.passed_over), (1, 1));
    }

    #[test]
    fn one_that_does_not_fit_leaves_room_for_another() {
        let candidates =
            [candidate(vec![1.0, 0.0], 0.9, Some(1.0)), candidate(vec![0.0, 1.0], 0.7, Some(1.0))];
        let config = SelectionConfig { token_budget: 40, ..SelectionConfig::default() };
        let selection = select(&query(), &candidates, &SimilarityPrior, &cost, &config);
        assert_eq!(selection.chosen.len(), 1);
        assert!(selection.chosen[0].similarity < 0.8);
    }

    #[test]
    fn a_near_example_with_a_poor_answer_is_told_of() {
        let candidates = [
            candidate(vec![1.0, 0.0], 0.9, Some(0.1)),
            candidate(vec![0.0, 1.0], 0.9, Some(1.0)),
            candidate(vec![0.5, 1.0], 0.3, Some(0.1)),
            candidate(vec![0.6, 1.0], 0.6, None),
        ];
        let selection = select(&query(), &candidates, &SimilarityPrior, &cost, &SelectionConfig::default());
        assert_eq!(selection.held_back, [candidates[0].example.id]);
        assert_eq!(selection.chosen.len(), 1);
    }

    proptest! {
        #[test]
        fn a_selection_is_a_subset_within_its_limits_in_order(
            seeds in prop::collection::vec((prop::collection::vec(0.1_f32..1.0, 4), 0.0_f32..1.0, prop::option::of(0.0_f32..1.0)), 0..40),
            token_budget in 0_u32..400,
            max_examples in 0_usize..8,
            diversity in 0.0_f32..=1.0,
            tau in 0.0_f32..0.9,
            doubled in 0_usize..4,
        ) {
            let mut candidates: Vec<Candidate> =
                seeds.into_iter().map(|(direction, similarity, quality)| candidate(direction, similarity, quality)).collect();
            candidates.extend(candidates.iter().take(doubled).cloned().collect::<Vec<_>>());
            let exclude = |example: &Example| example.request.len().is_multiple_of(7);
            let config = SelectionConfig { top_k: 32, tau, max_examples, token_budget, diversity };
            let selection = select_without(&query(), &candidates, &exclude, &SimilarityPrior, &cost, &config);
            prop_assert!(selection.chosen.iter().all(|chosen| !exclude(&chosen.example)));
            prop_assert!(selection.chosen.iter().all(|chosen| candidates.iter().any(|c| c.example.id == chosen.example.id)));
            prop_assert!(selection.tokens() <= token_budget);
            prop_assert!(selection.chosen.len() <= max_examples);
            prop_assert!(selection.chosen.windows(2).all(|pair| pair[0].utility <= pair[1].utility));
            prop_assert!(selection.chosen.iter().all(|chosen| chosen.utility >= tau));
            let mut ids: Vec<_> = selection.chosen.iter().map(|chosen| chosen.example.id).collect();
            ids.sort();
            ids.dedup();
            prop_assert_eq!(ids.len(), selection.chosen.len());
            let told = selection.excluded + selection.below_tau + selection.passed_over + selection.chosen.len();
            prop_assert_eq!(selection.considered, told);
        }
    }
}
