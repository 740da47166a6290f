use super::blocks::Maxima;

/// The first token with the largest logit; `None` if no logit is a number above minus infinity.
pub(super) fn greedy(logits: &[f32], maxima: &Maxima) -> Option<u32> {
    maxima.tokens_from(maxima.top(), logits).map(|(token, _)| token).next()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn odd_numbers_are_never_chosen_unless_infinitely_likely() {
        let choice = |logits: &[f32]| greedy(logits, &Maxima::of(logits));
        assert_eq!(choice(&[f32::NAN, -1.0, f32::NEG_INFINITY]), Some(1));
        assert_eq!(choice(&[0.0, f32::INFINITY, f32::INFINITY]), Some(1));
        assert_eq!(choice(&[f32::NAN, f32::NEG_INFINITY]), None);
        assert_eq!(choice(&[]), None);
    }

    proptest! {
        #[test]
        fn it_is_the_first_largest(logits in prop::collection::vec(-9i8..9, 1..400)) {
            let logits: Vec<f32> = logits.into_iter().map(f32::from).collect();
            let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let first = logits.iter().position(|logit| *logit == largest).map(|index| index as u32);
            prop_assert_eq!(greedy(&logits, &Maxima::of(&logits)), first);
        }
    }
}
