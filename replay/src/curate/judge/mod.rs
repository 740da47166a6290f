//! Judges: which of the answers is the best one, and by how much.
//!
//! No judge is the model that wrote an answer. `reference` and `agreement` ask no model at all; the side-by-side judge
//! can only be asked through [`side_by_side::Impartial`], which cannot be made for an author of either answer. With two
//! tiers, a stored answer by the small one and a new one by the large one, neither may judge: that is why `agreement` is
//! the default.

mod agreement;
mod reference;
mod side_by_side;

use async_trait::async_trait;
use thiserror::Error;

use super::author::{Author, Written};
use crate::gateway::GatewayError;
use crate::gateway::admin::TierInfo;

pub use agreement::Agreement;
pub use reference::{Reference, References};
pub use side_by_side::{Conflict, Impartial, Referee, SideBySide};

/// A stored answer and new ones to the same request.
#[derive(Debug, Clone, Copy)]
pub struct Case<'a> {
    pub request: &'a str,
    pub stored: &'a Written,
    /// Of the best tier; the one at temperature 0 first, where there is one.
    pub fresh: &'a [Written],
    /// The pool's tiers, for judges that need one.
    pub tiers: &'a [TierInfo],
}

/// What a judge found.
#[derive(Debug, Clone, PartialEq)]
pub struct Ruling {
    /// Position in `fresh` of an answer that is strictly better than the stored one.
    pub better: Option<usize>,
    /// Quality of the best new answer in [0, 1], on this judge's scale.
    pub new_quality: f32,
    /// Quality of the stored answer on the same scale.
    pub old_quality: f32,
    /// False if the qualities say nothing beyond this one comparison.
    pub comparable: bool,
    pub tokens: u64,
    pub why: String,
}

#[derive(Debug, Error)]
pub enum JudgeError {
    /// This judge has nothing to say about the case. The reason is one of few, so that they can be counted.
    #[error("{0}")]
    CannotSay(&'static str),
    #[error(transparent)]
    Gateway(#[from] GatewayError),
}

#[async_trait]
pub trait Judge: Send + Sync + std::fmt::Debug {
    fn name(&self) -> &'static str;

    /// About how many exchanges' worth of tokens a ruling costs.
    fn exchanges(&self) -> f64 {
        0.0
    }

    /// Whether an answer that no tier wrote (a reference, a correction) may be replaced on this judge's word.
    fn may_replace_imported(&self) -> bool {
        false
    }

    /// Looked at before anything is asked (`case.fresh` is empty, `best` will write it): a case that cannot be ruled
    /// on must not cost answers.
    fn can_rule(&self, _case: &Case<'_>, _best: &Author) -> Result<(), &'static str> {
        Ok(())
    }

    async fn rule(&self, case: Case<'_>) -> Result<Ruling, JudgeError>;
}
