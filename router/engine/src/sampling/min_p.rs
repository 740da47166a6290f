/// The logit of a token that is `min_p` times as likely as the likeliest (arXiv 2407.01082), whose logit is `top`; less
/// likely ones are not drawn.
pub(super) fn floor(top: f32, temperature: f32, min_p: f32) -> f32 {
    if min_p > 0.0 { top + temperature * min_p.ln() } else { f32::NEG_INFINITY }
}
