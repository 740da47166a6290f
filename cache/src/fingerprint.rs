//! What makes two requests the same request.

use std::fmt;

use serde_json::{Number, Value};
use sha2::{Digest, Sha256};

/// SHA-256 over everything that shapes an answer: messages, tools, response format, sampling, model.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Hashes named fields. Their order and the order of keys within them do not matter; a field that is absent differs
    /// from one that is null, and a number from its text. Every value is written with its type and length, so that no
    /// two different requests are the same bytes.
    pub fn of<'a>(fields: impl IntoIterator<Item = (&'a str, &'a Value)>) -> Self {
        let mut fields: Vec<_> = fields.into_iter().collect();
        fields.sort_by_key(|(name, _)| *name);
        let mut hasher = Sha256::new();
        hasher.update(b"reprise-fingerprint-1");
        for (name, value) in fields {
            text(&mut hasher, b'f', name);
            feed(&mut hasher, value);
        }
        Self(hasher.finalize().into())
    }

    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprint(")?;
        self.0[..6].iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str("..)")
    }
}

fn feed(hasher: &mut Sha256, value: &Value) {
    match value {
        Value::Null => hasher.update(b"n"),
        Value::Bool(value) => hasher.update([b'b', u8::from(*value)]),
        Value::Number(number) => match (whole(number), number.as_f64()) {
            (Some(whole), _) => {
                hasher.update(b"i");
                hasher.update(whole.to_le_bytes());
            }
            (None, Some(number)) => {
                hasher.update(b"d");
                hasher.update(number.to_bits().to_le_bytes());
            }
            (None, None) => text(hasher, b'N', &number.to_string()),
        },
        Value::String(value) => text(hasher, b's', value),
        Value::Array(items) => {
            hasher.update(b"a");
            hasher.update((items.len() as u64).to_le_bytes());
            items.iter().for_each(|item| feed(hasher, item));
        }
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            hasher.update(b"o");
            hasher.update((entries.len() as u64).to_le_bytes());
            for (key, value) in entries {
                text(hasher, b'k', key);
                feed(hasher, value);
            }
        }
    }
}

/// 1 and 1.0 sample alike; seeds beyond 2^53 do not, although they are one f64.
fn whole(number: &Number) -> Option<i128> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let integer = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
    let fraction_free = |value: &f64| value.fract() == 0.0 && value.abs() <= EXACT;
    integer.or_else(|| number.as_f64().filter(fraction_free).map(|value| value as i128))
}

fn text(hasher: &mut Sha256, tag: u8, value: &str) {
    hasher.update([tag]);
    hasher.update((value.len() as u64).to_le_bytes());
    hasher.update(value.as_bytes());
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(value: &Value) -> Fingerprint {
        Fingerprint::of(value.as_object().unwrap().iter().map(|(key, value)| (key.as_str(), value)))
    }

    #[test]
    fn order_does_not_matter_and_values_do() {
        assert_eq!(
            of(&json!({"a": {"x": 1, "y": 2}, "b": 3})),
            of(&json!({"b": 3.0, "a": {"y": 2, "x": 1}}))
        );
        assert_eq!(of(&json!({"temperature": -0.0})), of(&json!({"temperature": 0})));
        let distinct = [
            json!({}),
            json!({"temperature": null}),
            json!({"temperature": 0}),
            json!({"temperature": "0"}),
            json!({"temperature": 0.1}),
            json!({"seed": 9_007_199_254_740_992_u64}),
            json!({"seed": 9_007_199_254_740_993_u64}),
            json!({"seed": u64::MAX}),
            json!({"seed": -1}),
            json!({"m": ["ab", "c"]}),
            json!({"m": ["a", "bc"]}),
            json!({"m": ["abc"]}),
            json!({"m": "abc"}),
            json!({"m": [["a"], "b"]}),
            json!({"m": [["a", "b"]]}),
        ];
        for (i, a) in distinct.iter().enumerate() {
            for b in &distinct[..i] {
                assert_ne!(of(a), of(b), "{a} and {b}");
            }
        }
    }
}
