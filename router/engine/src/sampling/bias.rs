/// Adds OpenAI's `logit_bias`: -100 as good as forbids a token, 100 as good as forces it. Ids beyond the row are left
/// out; [`super::check`] refuses them before.
pub(super) fn apply(bias: &[(u32, f32)], logits: &mut [f32]) {
    for (token, bias) in bias {
        if let Some(logit) = logits.get_mut(*token as usize) {
            *logit += bias;
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_is_added() {
        let mut logits = [1.0, 2.0, 3.0];
        super::apply(&[(0, 100.0), (2, -0.5), (3, 1.0)], &mut logits);
        assert_eq!(logits, [101.0, 2.0, 2.5]);
    }
}
