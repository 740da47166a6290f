//! Stage 2: was the very same request answered before?
//!
//! Only under deterministic sampling: temperature 0, said and not left out, or a seed. Otherwise an answer is a draw, and
//! who asks twice wants two.

use std::sync::Arc;
use std::time::{Duration, Instant};

use reprise_cache::{Fingerprint, StoredAnswer, TenantCache};
use serde_json::{Map, Value};
use tokio::task::spawn_blocking;

use super::directives::Directives;
use super::parse::Ask;
use super::trail::{Stage, Trail};
use crate::decisions::CacheStatus;
use crate::state::now_ms;

/// What does not shape the answer. All other fields count, known or not.
const SHAPELESS: &[&str] = &[
    "stream",
    "stream_options",
    "user",
    "metadata",
    "store",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "prediction",
];

/// The most that the end of an answer waits for its storing; then that goes on by itself.
const PATIENCE: Duration = Duration::from_millis(50);

/// Where the answer of a deterministic request is stored.
#[derive(Debug, Clone)]
pub struct ExactKey {
    tenant: TenantCache,
    fingerprint: Fingerprint,
}

/// The key of the request, if it is one that can repeat, and the stored answer, if it is one that may be served.
pub fn find(
    trail: &mut Trail,
    ask: &Ask,
    directives: &Directives,
) -> (Option<ExactKey>, Option<Arc<StoredAnswer>>) {
    let wanted = directives.read || directives.write;
    let (Some(fingerprint), Some(cache)) = (ask.fingerprint, trail.state.cache().filter(|_| wanted)) else {
        return (None, None);
    };
    let begun = Instant::now();
    let key = ExactKey { tenant: cache.tenant(&trail.caller.tenant), fingerprint };
    let reuse = directives.read && directives.reuse;
    let stored = if reuse { key.tenant.exact(&fingerprint, directives.max_age, now_ms()) } else { None };
    trail.time(Stage::Exact, begun, begun.elapsed());
    if directives.read {
        trail.cache(CacheStatus::Miss);
    }
    (Some(key), stored)
}

/// Stores an answer before its end is told, so that the same request right after it finds it.
pub async fn store(key: ExactKey, answer: StoredAnswer) {
    let put = spawn_blocking(move || key.tenant.put_exact(&key.fingerprint, answer));
    if let Ok(Ok(Err(error))) = tokio::time::timeout(PATIENCE, put).await {
        tracing::warn!(%error, "an exact answer was not stored");
    }
}

/// Null is as good as absent.
pub fn fingerprint(body: &Map<String, Value>) -> Fingerprint {
    let shapes = |(name, value): &(&String, &Value)| !value.is_null() && !SHAPELESS.contains(&name.as_str());
    Fingerprint::of(body.iter().filter(shapes).map(|(name, value)| (name.as_str(), value)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn of(body: Value) -> Fingerprint {
        let Value::Object(map) = body else { panic!("not an object") };
        fingerprint(&map)
    }

    #[test]
    fn how_it_is_sent_and_for_whom_does_not_matter() {
        let plain = of(json!({"model": "auto", "messages": [], "temperature": 0}));
        let other = json!({"temperature": 0.0, "stream": true, "stream_options": {"include_usage": true},
                           "user": "u", "stop": null, "messages": [], "model": "auto"});
        assert_eq!(plain, of(other));
    }

    #[test]
    fn every_field_that_may_shape_the_answer_matters() {
        let base = json!({"model": "auto", "messages": [{"role": "user", "content": "a"}], "temperature": 0});
        for (field, value) in [
            ("model", json!("small")),
            ("messages", json!([{"role": "user", "content": "b"}])),
            ("messages", json!([{"role": "system", "content": "s"}, {"role": "user", "content": "a"}])),
            ("temperature", json!(0.1)),
            ("top_p", json!(0.5)),
            ("seed", json!(1)),
            ("max_tokens", json!(3)),
            ("stop", json!(["x"])),
            ("logprobs", json!(true)),
            ("top_logprobs", json!(2)),
            ("frequency_penalty", json!(0.5)),
            ("presence_penalty", json!(0.5)),
            ("repetition_penalty", json!(1.1)),
            ("logit_bias", json!({"5": 1})),
            ("top_k", json!(5)),
            ("min_p", json!(0.1)),
            ("n", json!(2)),
            ("tools", json!([{"type": "function"}])),
            ("response_format", json!({"type": "json_object"})),
            ("from_the_future", json!(1)),
        ] {
            let mut changed = base.clone();
            changed[field] = value;
            assert_ne!(of(changed.clone()), of(base.clone()), "{changed}");
        }
    }

    proptest! {
        #[test]
        fn another_text_is_another_request(a in "[ -~]{0,12}", b in "[ -~]{0,12}") {
            let ask = |text: &str| of(json!({"model": "m", "messages": [{"role": "user", "content": text}]}));
            prop_assert_eq!(a == b, ask(&a) == ask(&b));
        }
    }
}
