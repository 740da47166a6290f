//! Under which instructions an answer was written.
//!
//! The same user text asks for another thing under another system prompt: "classify", "translate", "answer as JSON" often
//! stand there and nowhere else. An answer shown as an example under other instructions would teach the wrong task, and
//! could carry what the one prompt says into the answers under the other. So an example is shown under its own alone.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Names a request's instructions (its system messages); none where it has none. 64 bits of SHA-256: within one tenant a
/// collision is an accident, and no way into another's data.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Instructions(Option<u64>);

impl Instructions {
    pub const NONE: Self = Self(None);

    /// Of the system messages in their order. White space does not make other instructions, and empty ones are none.
    pub fn of<'a>(messages: impl IntoIterator<Item = &'a str>) -> Self {
        let (mut hasher, mut any) = (Sha256::new(), false);
        for message in messages {
            let mut words = message.split_whitespace().peekable();
            if words.peek().is_none() {
                continue;
            }
            any = true;
            for word in words {
                hasher.update(word);
                hasher.update(b" ");
            }
            // No word holds a line's end.
            hasher.update(b"\n");
        }
        let hash: [u8; 32] = hasher.finalize().into();
        let (first, _) = hash.split_at(8);
        Self(any.then(|| first.iter().fold(0, |name, byte| name << 8 | u64::from(*byte))))
    }

    #[must_use]
    pub fn is_none(&self) -> bool {
        self.0.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_their_messages_count_and_white_space_does_not() {
        let one = |text: &'static str| Instructions::of([text]);
        assert_eq!(one("Answer  in\nFrench. "), one("Answer in French."));
        assert_ne!(one("Answer in French."), one("Answer in German."));
        assert_ne!(Instructions::of(["a", "b"]), Instructions::of(["a b"]));
        assert_ne!(Instructions::of(["a", "b"]), Instructions::of(["b", "a"]));
        assert_eq!(Instructions::of(["", " \n"]), Instructions::NONE);
        assert!(!one("x").is_none());
    }
}
