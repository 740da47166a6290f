use std::time::{Duration, Instant};

use reprise_router::{Action, ArmState, RouteError, Router, Took};
use reprise_tier::Pressure;

use super::service::Service;
use crate::harness::outcome::Outcome;
use crate::learn::seeded;
use crate::simulate::machine::{TierSpeed, Work};
use crate::simulate::requests::{KnownTier, Logged};

/// How requests are played.
#[derive(Debug, Clone, Copy)]
pub struct Play<'a> {
    pub tiers: &'a [KnownTier],
    pub speeds: &'a [TierSpeed],
    /// Tells the router each answer's score.
    pub feedback: bool,
    /// Pressure that the router sees on every tier; 0: idle, 1: as much queued work as its configuration calls full.
    pub load: f64,
    /// Second in which the first request comes: later than all that the router has seen, or its load average stands still.
    pub from_s: usize,
    pub seed: u64,
}

/// What came of one request.
#[derive(Debug, Clone, PartialEq)]
pub struct Played {
    pub id: String,
    pub set: String,
    pub tier: usize,
    pub examples: bool,
    pub reused: bool,
    pub score: f64,
    /// Of the dearest tier without examples: what the answer is compared with.
    pub baseline: f64,
    /// The best score of any arm.
    pub best: f64,
    pub example_tokens: u32,
    pub service: Service,
}

/// Of every tier: nothing in the tables comes near it.
const CONTEXT_LENGTH: u32 = 8192;

impl Play<'_> {
    /// Each request in order; the router sees an idle pool.
    ///
    /// # Errors
    /// No arm can take a request.
    pub fn requests(&self, router: &Router, requests: &[Logged]) -> Result<Vec<Played>, RouteError> {
        let mut rng = seeded(self.seed);
        let queued_seconds = self.load * router.config().load.capacity_s;
        let pressure = Pressure { queued_seconds, ..Pressure::default() };
        let tiers = self.tiers.iter().enumerate();
        let arms: Vec<ArmState> =
            tiers.flat_map(|(index, tier)| tier.arms(index, CONTEXT_LENGTH, pressure)).collect();
        let begun = Instant::now();
        let mut played = Vec::with_capacity(requests.len());
        for (number, request) in requests.iter().enumerate() {
            // One a second: only differences count.
            let now = begun + Duration::from_secs((self.from_s + number) as u64);
            let decision = router.decide(&request.context(), &arms, now, &mut rng)?;
            let outcome = self.of(request, decision.arm.tier, decision.arm.examples);
            let reused = (decision.action == Action::Reuse).then_some(outcome.reused).flatten();
            if reused.is_none() {
                router.observe_speed(&outcome.tier, &took(outcome, &self.speeds[decision.arm.tier]));
            }
            if self.feedback && reused.is_none() {
                router.learn(&decision.experience(outcome.score));
            }
            played.push(self.played(request, decision.arm.tier, decision.arm.examples, reused));
        }
        Ok(played)
    }

    /// A request answered by an arm, or by the nearest answer as it is.
    #[must_use]
    pub fn played(&self, request: &Logged, tier: usize, examples: bool, reused: Option<f64>) -> Played {
        let outcome = self.of(request, tier, examples);
        let all = request.answers.iter().flat_map(|answers| [answers.plain.score, answers.examples.score]);
        let last = request.answers.len() - 1;
        Played {
            id: request.id.clone(),
            set: request.set.clone(),
            tier,
            examples: examples && !outcome.examples.is_empty(),
            reused: reused.is_some(),
            score: reused.unwrap_or(outcome.score),
            baseline: self.of(request, last, false).score,
            best: all.fold(0.0, f64::max),
            example_tokens: match reused {
                Some(_) => 0,
                None => outcome.prompt_tokens.saturating_sub(self.of(request, tier, false).prompt_tokens),
            },
            service: match reused {
                Some(_) => Service::default(),
                None => Service::of(outcome, &self.speeds[tier]),
            },
        }
    }

    fn of<'r>(&self, request: &'r Logged, tier: usize, examples: bool) -> &'r Outcome {
        let answers = &request.answers[tier];
        if examples { &answers.examples } else { &answers.plain }
    }
}

fn took(outcome: &Outcome, speed: &TierSpeed) -> Took {
    let all = Work::of(outcome);
    let prefill = speed.alone_s(Work { completion: 1, ..all });
    Took {
        prompt_tokens: all.prompt,
        completion_tokens: all.completion,
        prefill: Duration::from_secs_f64(prefill),
        decode: Duration::from_secs_f64((speed.alone_s(all) - prefill).max(0.0)),
    }
}
