/// Says which tokens may come next: a grammar, a JSON schema. A sampler without one does no work for it.
pub trait TokenMask: Send + std::fmt::Debug {
    /// Allows in `mask`, which comes with all tokens forbidden, those that may come next. Where the text may end, the
    /// tokens that end a turn are among them; allowing none is an error of the generation.
    fn allow(&mut self, mask: &mut Mask);

    /// The token that was chosen; one of those allowed.
    fn accept(&mut self, token: u32);

    /// The text is whole and nothing can follow it.
    fn is_complete(&self) -> bool {
        false
    }

    /// Why nothing is allowed any more, if it is not the text's end.
    fn failure(&self) -> Option<&str> {
        None
    }
}

/// A set of tokens, one bit each: token `t` is bit `t % 32` of word `t / 32`, as llguidance lays it out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mask {
    words: Vec<u32>,
}

impl Mask {
    const BITS: usize = u32::BITS as usize;

    /// Forbids all of `vocabulary` tokens.
    #[must_use]
    pub fn new(vocabulary: usize) -> Self {
        Self { words: vec![0; vocabulary.div_ceil(Self::BITS)] }
    }

    /// Tokens beyond the vocabulary are left out.
    pub fn allow(&mut self, token: u32) {
        if let Some(word) = self.words.get_mut(token as usize / Self::BITS) {
            *word |= 1 << (token % u32::BITS);
        }
    }

    /// For a whole set at once.
    pub fn words_mut(&mut self) -> &mut [u32] {
        &mut self.words
    }

    /// Makes the logits of forbidden tokens minus infinity.
    pub(super) fn apply(&self, logits: &mut [f32]) {
        for (word, block) in self.words.iter().zip(logits.chunks_mut(Self::BITS)) {
            match *word {
                u32::MAX => {}
                0 => block.fill(f32::NEG_INFINITY),
                word => {
                    for (bit, logit) in block.iter_mut().enumerate() {
                        if word >> bit & 1 == 0 {
                            *logit = f32::NEG_INFINITY;
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_not_allowed_is_impossible(vocabulary in 1usize..200, allowed in prop::collection::vec(0u32..210, 0..120)) {
            let mut mask = Mask::new(vocabulary);
            allowed.iter().for_each(|token| mask.allow(*token));
            mask.words_mut()[0] |= 1;
            let mut logits = vec![1.5; vocabulary];
            mask.apply(&mut logits);
            for (token, logit) in (0u32..).zip(logits) {
                let open = token == 0 || allowed.contains(&token);
                prop_assert_eq!(logit, if open { 1.5 } else { f32::NEG_INFINITY });
            }
        }
    }
}
