//! What a tier's whole answer counts for: tokens, speed, money.

use reprise_openai::Usage;
use reprise_router::Took;
use reprise_tier::Finish;

use super::Trail;

impl Trail {
    pub(super) fn computed(&mut self, tier: &str, usage: Usage, finish: &Finish) {
        let timings = &mut self.record.timings;
        timings.queued_ms = Some(finish.timings.queued.as_secs_f64() * 1e3);
        timings.prefill_ms = Some(finish.timings.prefill.as_secs_f64() * 1e3);
        timings.decode_ms = Some(finish.timings.decode.as_secs_f64() * 1e3);
        let metrics = &self.state.metrics;
        for (kind, count) in [
            ("prompt", usage.prompt_tokens),
            ("completion", usage.completion_tokens),
            ("example", self.example_tokens),
        ] {
            metrics.tokens.with_label_values(&[tier, kind]).inc_by(u64::from(count));
        }
        self.state.router.observe_speed(
            tier,
            &Took {
                prompt_tokens: usage.prompt_tokens,
                completion_tokens: usage.completion_tokens,
                prefill: finish.timings.prefill,
                decode: finish.timings.decode,
            },
        );
        let gaps = usage.completion_tokens.saturating_sub(1);
        let decode = finish.timings.decode;
        if gaps > 0 && !decode.is_zero() {
            metrics.inter_token.with_label_values(&[tier]).observe(decode.as_secs_f64() / f64::from(gaps));
        }
        let spent = self.charge.price(tier, usage.prompt_tokens, usage.completion_tokens);
        metrics.money_spent.with_label_values(&[tier]).inc_by(spent);
        let dearest = self.state.pool.iter().last().map(|last| last.info().name.as_str());
        if let Some(dearest) = dearest.filter(|dearest| !self.pinned && *dearest != tier) {
            metrics.offloaded.inc();
            // It would have been asked without the examples.
            let prompt = usage.prompt_tokens.saturating_sub(self.example_tokens);
            let saved = self.charge.price(dearest, prompt, usage.completion_tokens) - spent;
            metrics.money_saved.with_label_values(&["offload"]).inc_by(saved.max(0.0));
        }
    }
}
