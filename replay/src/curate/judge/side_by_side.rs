//! A model reads two answers and names the better one, twice, with the answers in either order: a judge that prefers a
//! place instead of an answer contradicts itself, and that is a tie.

use std::time::Duration;

use async_trait::async_trait;
use thiserror::Error;

use super::agreement::medoid;
use super::{Case, Judge, JudgeError, Ruling};
use crate::curate::author::{Author, Written};
use crate::gateway::admin::TierInfo;
use crate::gateway::chat::{CacheUse, Caller, Chat, Priority};
use crate::gateway::{Gateway, GatewayError};

/// A model that could judge. It cannot be asked about answers: [`Impartial`] can.
#[derive(Debug, Clone)]
pub struct Referee {
    gateway: Gateway,
    model: String,
    author: Author,
    caller: Caller,
    timeout: Duration,
}

/// A referee that wrote neither of two answers. The only way to have one is [`Referee::appoint`], which looks.
#[derive(Debug)]
pub struct Impartial<'a> {
    referee: &'a Referee,
    request: &'a str,
    first: &'a Written,
    second: &'a Written,
}

#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0} wrote one of the answers")]
pub struct Conflict(pub String);

/// What one reading said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Preference {
    A,
    B,
    Tie,
}

impl Referee {
    /// A tier of the gateway, asked as the operator.
    #[must_use]
    pub fn tier(gateway: Gateway, tier: &TierInfo, timeout: Duration) -> Self {
        Self { gateway, model: tier.name.clone(), author: Author::tier(tier), caller: Caller::Admin, timeout }
    }

    /// A model behind any OpenAI-compatible address.
    #[must_use]
    pub fn remote(server: Gateway, model: &str, timeout: Duration) -> Self {
        let author = Author { name: model.to_owned(), model: Some(model.to_owned()) };
        Self { gateway: server, model: model.to_owned(), author, caller: Caller::Tenant, timeout }
    }

    pub fn appoint<'a>(
        &'a self,
        request: &'a str,
        first: &'a Written,
        second: &'a Written,
    ) -> Result<Impartial<'a>, Conflict> {
        match [first, second].into_iter().find(|answer| answer.author.same_as(&self.author)) {
            Some(_) => Err(Conflict(self.author.name.clone())),
            None => Ok(Impartial { referee: self, request, first, second }),
        }
    }
}

impl Impartial<'_> {
    /// Points of the second answer out of 2 (a win 1, a tie 1/2), and the tokens it took.
    async fn points_of_second(&self) -> Result<(f32, u64), GatewayError> {
        let (one, tokens_one) = self.read(&self.first.text, &self.second.text).await?;
        let (two, tokens_two) = self.read(&self.second.text, &self.first.text).await?;
        let points = |preference, wanted| match preference {
            Preference::Tie => 0.5,
            other if other == wanted => 1.0,
            _ => 0.0,
        };
        Ok((points(one, Preference::B) + points(two, Preference::A), tokens_one + tokens_two))
    }

    async fn read(&self, a: &str, b: &str) -> Result<(Preference, u64), GatewayError> {
        let prompt = format!(
            "Two assistants answered the same request. Decide which answer is more correct and more helpful. \
             Length and style do not count.\n\n[Request]\n{}\n\n[Answer A]\n{a}\n\n[Answer B]\n{b}\n\n\
             Reply with one word: A, B or TIE.",
            self.request
        );
        let chat = Chat {
            model: &self.referee.model,
            prompt: &prompt,
            earlier: &[],
            temperature: 0.0,
            seed: Some(0),
            max_tokens: 8,
            cache: CacheUse::Off,
            exact_reuse: false,
            priority: Priority::Batch,
            caller: self.referee.caller,
            timeout: self.referee.timeout,
        };
        let answer = self.referee.gateway.chat(&chat).await?;
        Ok((verdict(&answer.text), answer.tokens()))
    }
}

/// The first word that is a verdict; a model that says none has no preference.
fn verdict(text: &str) -> Preference {
    text.split(|c: char| !c.is_alphanumeric())
        .find_map(|word| match word {
            "A" => Some(Preference::A),
            "B" => Some(Preference::B),
            _ if word.eq_ignore_ascii_case("tie") => Some(Preference::Tie),
            _ => None,
        })
        .unwrap_or(Preference::Tie)
}

const NOBODY: &str = "every model that could judge wrote one of the answers";

/// Judges the medoid of the new answers against the stored one.
#[derive(Debug, Clone)]
pub enum SideBySide {
    /// A tier of the pool that wrote neither answer and costs no less than the one that wrote the stored answer: the
    /// dearest such. The pool is looked up for each case.
    Tier { gateway: Gateway, timeout: Duration },
    /// One model elsewhere.
    Remote(Referee),
}

impl SideBySide {
    fn referees(&self, case: &Case<'_>) -> Vec<Referee> {
        match self {
            Self::Remote(referee) => vec![referee.clone()],
            Self::Tier { gateway, timeout } => {
                let is_writer = |tier: &&TierInfo| Author::tier(tier).same_as(&case.stored.author);
                let least = case.tiers.iter().find(is_writer).map_or(0.0, |tier| tier.cost);
                let mut tiers: Vec<&TierInfo> =
                    case.tiers.iter().filter(|tier| tier.state == "ready" && tier.cost >= least).collect();
                tiers.sort_by(|a, b| b.cost.total_cmp(&a.cost));
                tiers.into_iter().map(|tier| Referee::tier(gateway.clone(), tier, *timeout)).collect()
            }
        }
    }
}

#[async_trait]
impl Judge for SideBySide {
    fn name(&self) -> &'static str {
        match self {
            Self::Tier { .. } => "tier",
            Self::Remote(_) => "remote",
        }
    }

    /// Both orders, each with the request and two answers.
    fn exchanges(&self) -> f64 {
        4.0
    }

    fn can_rule(&self, case: &Case<'_>, best: &Author) -> Result<(), &'static str> {
        let new = Written { text: String::new(), author: best.clone() };
        let referees = self.referees(case);
        let anyone = referees.iter().any(|referee| referee.appoint(case.request, case.stored, &new).is_ok());
        if anyone { Ok(()) } else { Err(NOBODY) }
    }

    async fn rule(&self, case: Case<'_>) -> Result<Ruling, JudgeError> {
        let texts: Vec<&str> = case.fresh.iter().map(|answer| answer.text.as_str()).collect();
        let Some((best, _)) = medoid(&texts) else {
            return Err(JudgeError::CannotSay("no new answer was whole"));
        };
        let referees = self.referees(&case);
        let impartial = referees
            .iter()
            .find_map(|referee| referee.appoint(case.request, case.stored, &case.fresh[best]).ok())
            .ok_or(JudgeError::CannotSay(NOBODY))?;
        let (points, tokens) = impartial.points_of_second().await?;
        // Two readings are little: Laplace's rule, as if one more had gone either way.
        let quality = (points + 1.0) / 4.0;
        Ok(Ruling {
            better: (points > 1.0).then_some(best),
            new_quality: quality,
            old_quality: 1.0 - quality,
            comparable: false,
            tokens,
            why: format!("{} gave it {points} of 2 points side by side", impartial.referee.author.name),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::Keys;

    fn tier(name: &str, cost: f64) -> TierInfo {
        TierInfo {
            name: name.into(),
            model: format!("model-{name}"),
            state: "ready".into(),
            cost,
            context_length: None,
            remote: false,
        }
    }

    fn written(text: &str, by: &TierInfo) -> Written {
        Written { text: text.into(), author: Author::tier(by) }
    }

    fn nowhere() -> Gateway {
        Gateway::new("http://127.0.0.1:9", Keys::default()).unwrap()
    }

    #[test]
    fn nobody_is_appointed_over_their_own_answer() {
        let (small, large, third) = (tier("small", 0.1), tier("large", 1.0), tier("third", 0.5));
        let (old, new) = (written("x", &small), written("y", &large));
        for (referee, allowed) in [(&small, false), (&large, false), (&third, true)] {
            let referee = Referee::tier(nowhere(), referee, Duration::from_secs(1));
            assert_eq!(referee.appoint("r", &old, &new).is_ok(), allowed);
        }
        let disguised = Referee::remote(nowhere(), "org/MODEL-large", Duration::from_secs(1));
        assert_eq!(disguised.appoint("r", &old, &new).unwrap_err(), Conflict("org/MODEL-large".into()));
    }

    #[tokio::test]
    async fn with_two_tiers_neither_may_judge() {
        let tiers = [tier("small", 0.1), tier("large", 1.0)];
        let (old, new) = (written("x", &tiers[0]), [written("y", &tiers[1])]);
        let judge = SideBySide::Tier { gateway: nowhere(), timeout: Duration::from_secs(1) };
        let case = Case { request: "r", stored: &old, fresh: &new, tiers: &tiers };
        // Nothing is asked: the address answers nobody, and the reason is not that.
        assert!(matches!(judge.rule(case).await, Err(JudgeError::CannotSay(_))));
    }

    #[tokio::test]
    async fn a_weaker_tier_does_not_judge_a_stronger_one() {
        let tiers = [tier("small", 0.1), tier("large", 1.0)];
        let (old, new) = (written("x", &tiers[1]), [written("y", &tiers[1])]);
        let judge = SideBySide::Tier { gateway: nowhere(), timeout: Duration::from_secs(1) };
        let case = Case { request: "r", stored: &old, fresh: &new, tiers: &tiers };
        assert!(matches!(judge.rule(case).await, Err(JudgeError::CannotSay(_))));
    }

    #[test]
    fn verdicts_are_read_from_chatter() {
        assert_eq!(verdict("B"), Preference::B);
        assert_eq!(verdict("**A**."), Preference::A);
        assert_eq!(verdict("It's a tie"), Preference::Tie);
        assert_eq!(verdict("neither"), Preference::Tie);
    }
}
