//! From a row of logits to the next token, one idea a file, in this order: [`bias`], [`penalties`], [`mask`], then
//! [`greedy`], or [`min_p`] and [`top_k`] and [`top_p`] over what these leave, and the [`draw`].
//!
//! All of it is linear in the vocabulary, nothing sorts it, and what is not asked for costs nothing. NaN counts as
//! impossible.

mod bias;
mod blocks;
mod candidates;
mod draw;
mod greedy;
mod logprobs;
mod mask;
mod min_p;
mod penalties;
mod seed;
#[cfg(test)]
mod tests;
mod top_k;
mod top_p;

use reprise_tier::{Sampling, TierError};

use blocks::{Maxima, mass};
pub use logprobs::Logprobs;
use logprobs::RawRow;
pub use mask::{Mask, TokenMask};
use penalties::Penalties;
use seed::Draws;

/// Below it the likeliest token has all of the probability, unless another's logit is the same to 1e-3.
const GREEDY_BELOW: f32 = 1e-5;

/// Chooses the tokens of one sequence and remembers what it needs of them. Its choices depend on the sampling fields and
/// on the rows that it is given alone, so it stays with its sequence when that is preempted and computed anew.
#[derive(Debug)]
pub struct Sampler {
    temperature: f32,
    top_k: Option<usize>,
    top_p: f32,
    min_p: f32,
    bias: Vec<(u32, f32)>,
    logprobs: Option<u8>,
    penalties: Option<Penalties>,
    mask: Option<Box<dyn TokenMask>>,
    draws: Draws,
    /// Tokens chosen so far.
    step: u64,
}

/// A token and, where the request asks for them, its log probabilities.
#[derive(Debug, Clone, PartialEq)]
pub struct Chosen {
    pub token: u32,
    pub logprobs: Option<Logprobs>,
}

/// No token can follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SamplingError {
    #[error("no logit of the model is a number")]
    NoNumber,
    #[error("no token is allowed that the model knows")]
    NothingAllowed,
    #[error("the mask failed")]
    MaskFailed,
}

impl Sampler {
    #[must_use]
    pub fn new(sampling: &Sampling) -> Self {
        Self {
            temperature: sampling.temperature,
            top_k: sampling.top_k.map(|k| k.get() as usize),
            top_p: sampling.top_p,
            min_p: sampling.min_p,
            bias: sampling.logit_bias.clone(),
            logprobs: sampling.logprobs,
            penalties: Penalties::new(sampling),
            mask: None,
            draws: Draws::new(sampling.seed),
            step: 0,
        }
    }

    /// From now on only tokens that `mask` allows are chosen.
    #[must_use]
    pub fn with_mask(mut self, mask: Box<dyn TokenMask>) -> Self {
        self.mask = Some(mask);
        self
    }

    /// The mask lets nothing follow.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.mask.as_ref().is_some_and(|mask| mask.is_complete())
    }

    /// True if each next token is that of the largest logit and nothing else of the logits matters: then whoever has them may choose, and
    /// tell by [`Self::accept_greedy`].
    #[must_use]
    pub fn is_greedy(&self) -> bool {
        self.temperature < GREEDY_BELOW
            && self.bias.is_empty()
            && self.logprobs.is_none()
            && self.penalties.is_none()
            && self.mask.is_none()
    }

    /// The token that was chosen for this sampler; none: no logit was a number.
    ///
    /// # Errors
    /// There is no token.
    pub fn accept_greedy(&mut self, token: Option<u32>) -> Result<Chosen, SamplingError> {
        let token = token.ok_or(SamplingError::NoNumber)?;
        self.step += 1;
        Ok(Chosen { token, logprobs: None })
    }

    /// The next token. `logits`, one for each token of the vocabulary, are left changed.
    ///
    /// # Errors
    /// If no token can be chosen; then nothing was, and the sequence has to end.
    pub fn sample(&mut self, logits: &mut [f32]) -> Result<Chosen, SamplingError> {
        let raw = self
            .logprobs
            .map(|count| RawRow::of(logits, &Maxima::of(logits), count.into(), self.tokens_to_change()));
        self.change(logits);
        let token = self.choose(logits).ok_or(match &self.mask {
            Some(mask) if mask.failure().is_some() => SamplingError::MaskFailed,
            Some(_) => SamplingError::NothingAllowed,
            None => SamplingError::NoNumber,
        })?;
        self.step += 1;
        if let Some(penalties) = &mut self.penalties {
            penalties.accept(token);
        }
        if let Some(mask) = &mut self.mask {
            mask.accept(token);
        }
        Ok(Chosen { token, logprobs: raw.map(|raw| raw.of_choice(token, logits)) })
    }

    /// Those whose logits bias and penalties change.
    fn tokens_to_change(&self) -> impl Iterator<Item = u32> {
        let biased = self.bias.iter().map(|(token, _)| *token);
        biased.chain(self.penalties.iter().flat_map(Penalties::tokens))
    }

    fn change(&mut self, logits: &mut [f32]) {
        bias::apply(&self.bias, logits);
        if let Some(penalties) = &self.penalties {
            penalties.apply(logits);
        }
        if let Some(allowing) = &mut self.mask {
            let mut mask = Mask::new(logits.len());
            allowing.allow(&mut mask);
            mask.apply(logits);
        }
    }

    fn choose(&mut self, logits: &[f32]) -> Option<u32> {
        let maxima = Maxima::of(logits);
        let top = maxima.top();
        if self.temperature < GREEDY_BELOW || !top.is_finite() {
            return greedy::greedy(logits, &maxima);
        }
        let uniform = self.draws.at(self.step);
        let scale = self.temperature.recip();
        let narrowed = self.top_k.is_some() || self.min_p > 0.0;
        if !narrowed && self.top_p >= 1.0 {
            return draw::from_row(logits, top, scale, uniform);
        }
        let least = min_p::floor(top, self.temperature, self.min_p);
        let (mut candidates, total) = if narrowed {
            let reached = self.top_k.map_or(f32::NEG_INFINITY, |k| maxima.reached_by(k));
            let mut candidates = candidates::candidates(logits, &maxima, least.max(reached), scale);
            if let Some(k) = self.top_k {
                top_k::keep(&mut candidates, k);
            }
            let total = candidates::total(&candidates);
            (candidates, total)
        } else {
            let total = mass(logits, top, scale);
            (top_p::reaching(logits, &maxima, self.temperature, self.top_p, total), total)
        };
        if self.top_p < 1.0 {
            top_p::keep(&mut candidates, self.top_p, total);
        }
        draw::from_candidates(&candidates, uniform)
    }
}

/// What only the tier that answers can check.
///
/// # Errors
/// [`TierError::InvalidRequest`] if `logit_bias` names a token that the vocabulary does not have.
pub fn check(sampling: &Sampling, vocabulary: usize) -> Result<(), TierError> {
    let unknown = sampling.logit_bias.iter().find(|(token, _)| *token as usize >= vocabulary);
    unknown.map_or(Ok(()), |(token, _)| {
        let message = format!(
            "Invalid 'logit_bias': this model has the tokens 0 to {}, not {token}.",
            vocabulary.saturating_sub(1)
        );
        Err(TierError::InvalidRequest { param: "logit_bias".into(), message })
    })
}
