use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use llguidance::{Matcher, TokenParser};

/// Grammars that are kept; what they take is bounded by the limits on each.
const MOST: usize = 16;

/// A grammar, and those who may know by its speed that it was used: one tenant's schema is no other's to find out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) scope: u64,
    pub(super) grammar: [u8; 32],
}

/// A grammar at its beginning.
#[derive(Clone)]
pub(super) struct Compiled {
    pub(super) matcher: Matcher,
    /// Set by an answer that failed on it. What is learned of the lexer is shared, and may have come to a limit.
    pub(super) spoiled: Arc<AtomicBool>,
}

/// The newest used stand last.
#[derive(Debug, Default)]
pub(super) struct Kept(Vec<(Key, Compiled)>);

impl Compiled {
    pub(super) fn new(parser: TokenParser) -> Self {
        Self { matcher: Matcher::new(Ok(parser)), spoiled: Arc::default() }
    }
}

impl fmt::Debug for Compiled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compiled").field("spoiled", &self.spoiled).finish_non_exhaustive()
    }
}

impl Kept {
    pub(super) fn get(&mut self, key: &Key) -> Option<Compiled> {
        let at = self.0.iter().position(|(kept, _)| kept == key)?;
        let entry = self.0.remove(at);
        if entry.1.spoiled.load(Relaxed) {
            return None;
        }
        let compiled = entry.1.clone();
        self.0.push(entry);
        Some(compiled)
    }

    pub(super) fn put(&mut self, key: Key, compiled: Compiled) -> Compiled {
        if self.0.len() == MOST {
            self.0.remove(0);
        }
        self.0.push((key, compiled.clone()));
        compiled
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
