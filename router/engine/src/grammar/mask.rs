use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use llguidance::{Matcher, api::StopReason};

use super::kept::Compiled;
use crate::sampling::{Mask, TokenMask};

/// One answer on its way through a grammar.
pub(super) struct GrammarMask {
    matcher: Matcher,
    spoiled: Arc<AtomicBool>,
    failure: Option<String>,
    /// The text is one JSON value.
    is_json: bool,
    /// That value is whole: of what may still follow, white space, nobody has any use.
    whole: bool,
}

impl GrammarMask {
    pub(super) fn new(compiled: &Compiled, is_json: bool) -> Self {
        let (matcher, spoiled) = (compiled.matcher.clone(), Arc::clone(&compiled.spoiled));
        Self { matcher, spoiled, failure: None, is_json, whole: false }
    }

    /// True if `token` ended a value that ends with its last letter, which is all but numbers.
    fn closes(&mut self, token: u32) -> bool {
        let Ok(environment) = self.matcher.tok_env() else { return false };
        let last = environment.tok_trie().token(token).last().copied();
        let closing = last.is_some_and(|byte| matches!(byte, b'}' | b']' | b'"' | b'e' | b'l'));
        closing && self.matcher.is_accepting().unwrap_or(false)
    }

    fn fail(&mut self, error: &impl fmt::Display) {
        self.spoiled.store(true, Relaxed);
        let reason = super::first_line(error);
        tracing::warn!(reason, "a grammar failed in the middle of an answer");
        self.failure.get_or_insert(reason);
    }
}

impl TokenMask for GrammarMask {
    fn allow(&mut self, mask: &mut Mask) {
        match self.matcher.compute_mask_or_eos() {
            Ok(allowed) => {
                for (word, allowed) in mask.words_mut().iter_mut().zip(allowed.as_slice()) {
                    *word = *allowed;
                }
            }
            Err(error) => self.fail(&error),
        }
    }

    fn accept(&mut self, token: u32) {
        match self.matcher.consume_token(token) {
            Ok(()) => self.whole = self.is_json && self.closes(token),
            Err(error) => self.fail(&error),
        }
    }

    fn is_complete(&self) -> bool {
        let ended = matches!(self.matcher.stop_reason(), StopReason::NoExtension);
        self.failure.is_none() && (self.whole || ended)
    }

    fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }
}

impl fmt::Debug for GrammarMask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrammarMask").field("failure", &self.failure).finish_non_exhaustive()
    }
}
