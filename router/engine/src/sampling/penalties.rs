use std::collections::HashMap;

use reprise_tier::Sampling;

/// Makes tokens of the answer so far less likely (or more, with a negative penalty). The window is the whole answer: all
/// tokens generated for this request, none of the prompt.
///
/// For a token that stands in it `c` > 0 times, with logit `l`, in this order:
/// - repetition (CTRL, arXiv 1909.05858, in the form of HF transformers): `l / r` if `l > 0`, else `l r`;
/// - frequency and presence (OpenAI): `l - c frequency - presence`.
#[derive(Debug)]
pub(super) struct Penalties {
    frequency: f32,
    presence: f32,
    repetition: f32,
    /// How often each token was generated.
    counts: HashMap<u32, u32>,
}

impl Penalties {
    /// `None` if all of them are neutral: then nothing is counted.
    pub(super) fn new(sampling: &Sampling) -> Option<Self> {
        let neutral = sampling.frequency_penalty == 0.0
            && sampling.presence_penalty == 0.0
            && sampling.repetition_penalty == 1.0;
        (!neutral).then(|| Self {
            frequency: sampling.frequency_penalty,
            presence: sampling.presence_penalty,
            repetition: sampling.repetition_penalty,
            counts: HashMap::new(),
        })
    }

    pub(super) fn accept(&mut self, token: u32) {
        *self.counts.entry(token).or_default() += 1;
    }

    pub(super) fn tokens(&self) -> impl Iterator<Item = u32> {
        self.counts.keys().copied()
    }

    pub(super) fn apply(&self, logits: &mut [f32]) {
        for (token, count) in &self.counts {
            let Some(logit) = logits.get_mut(*token as usize) else { continue };
            *logit = if *logit > 0.0 { *logit / self.repetition } else { *logit * self.repetition };
            *logit -= *count as f32 * self.frequency + self.presence;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neutral_penalties_are_none() {
        assert!(Penalties::new(&Sampling::default()).is_none());
    }

    #[test]
    fn counts_matter_to_frequency_only() {
        let sampling = Sampling { frequency_penalty: 0.5, presence_penalty: 0.25, ..Sampling::default() };
        let mut penalties = Penalties::new(&sampling).expect("not neutral");
        [2, 0, 2, 2, 9].into_iter().for_each(|token| penalties.accept(token));
        let mut logits = [1.0; 4];
        penalties.apply(&mut logits);
        assert_eq!(logits, [1.0 - 0.5 - 0.25, 1.0, 1.0 - 3.0 * 0.5 - 0.25, 1.0]);
    }

    #[test]
    fn repetition_moves_both_signs_down() {
        let sampling = Sampling { repetition_penalty: 2.0, ..Sampling::default() };
        let mut penalties = Penalties::new(&sampling).expect("not neutral");
        [0, 1, 1, 3].into_iter().for_each(|token| penalties.accept(token));
        let mut logits = [4.0, -4.0, 4.0, f32::NEG_INFINITY];
        penalties.apply(&mut logits);
        assert_eq!(logits, [2.0, -8.0, 4.0, f32::NEG_INFINITY]);
    }
}
