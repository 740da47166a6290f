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
}

impl GrammarMask {
    pub(super) fn new(compiled: &Compiled) -> Self {
        Self { matcher: compiled.matcher.clone(), spoiled: Arc::clone(&compiled.spoiled), failure: None }
    }

    fn fail(&mut self, error: &impl ToString) {
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
        if let Err(error) = self.matcher.consume_token(token) {
            self.fail(&error);
        }
    }

    fn is_complete(&self) -> bool {
        self.failure.is_none() && matches!(self.matcher.stop_reason(), StopReason::NoExtension)
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
