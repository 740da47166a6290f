//! What an answer is, wherever it came from.

use reprise_cache::StoredAnswer;
use reprise_openai::chat::{Logprobs, TokenLogprob, TopLogprob};
use reprise_openai::{PromptTokensDetails, Usage};
use reprise_tier::{Finish, FinishReason, Timings};

#[must_use]
pub fn reason_text(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop => "stop",
        FinishReason::Length => "length",
        FinishReason::ToolCalls => "tool_calls",
        FinishReason::ContentFilter => "content_filter",
    }
}

#[must_use]
pub fn usage_of(finish: &Finish) -> Usage {
    let reprise_tier::Usage { prompt_tokens, cached_tokens, completion_tokens } = finish.usage;
    let details = (cached_tokens > 0).then_some(PromptTokensDetails { cached_tokens });
    Usage { prompt_tokens_details: details, ..Usage::new(prompt_tokens, completion_tokens) }
}

#[must_use]
pub fn stored_usage(stored: &StoredAnswer) -> Usage {
    Usage::new(stored.prompt_tokens, stored.completion_tokens)
}

/// In OpenAI's shape.
pub fn told(logprobs: Vec<reprise_tier::TokenLogprob>) -> Vec<TokenLogprob> {
    let token = |token: reprise_tier::TokenLogprob| TokenLogprob {
        token: token.chosen.text,
        logprob: token.chosen.logprob,
        bytes: token.chosen.bytes,
        top_logprobs: token
            .top
            .into_iter()
            .map(|top| TopLogprob { token: top.text, logprob: top.logprob, bytes: top.bytes })
            .collect(),
    };
    logprobs.into_iter().map(token).collect()
}

/// `None` where nobody asked, or where a remote tier told none for this text.
pub fn logprobs_of(asked: bool, text: &str, tokens: Vec<TokenLogprob>) -> Option<Logprobs> {
    (asked && (text.is_empty() || !tokens.is_empty())).then(|| Logprobs::content(tokens))
}

/// The ends of all choices as one: a prompt is counted once for its `each` choices, what was generated in all of them; the
/// first says why. `None` if there is none.
pub fn joined(finishes: &[Finish], each: u32) -> Option<Finish> {
    let (first, others) = finishes.split_first()?;
    let mut joined = first.clone();
    for (index, other) in (1..).zip(others) {
        if index % each.max(1) == 0 {
            joined.usage.prompt_tokens += other.usage.prompt_tokens;
            joined.usage.cached_tokens += other.usage.cached_tokens;
        }
        joined.usage.completion_tokens += other.usage.completion_tokens;
        // Together with the tokens of all, the mean time per token stays what it was.
        let Timings { decode, .. } = other.timings;
        joined.timings.decode += decode;
    }
    Some(joined)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_prompt_of_several_choices_counts_once() {
        let finish = |reason, completion_tokens| Finish {
            reason,
            usage: reprise_tier::Usage { prompt_tokens: 9, cached_tokens: 4, completion_tokens },
            timings: Timings { decode: Duration::from_secs(1), ..Timings::default() },
        };
        let two = [finish(FinishReason::Length, 5), finish(FinishReason::Stop, 2)];
        let usage = |cached_tokens, prompt, completion| Usage {
            prompt_tokens_details: Some(PromptTokensDetails { cached_tokens }),
            ..Usage::new(prompt, completion)
        };
        assert_eq!(usage_of(&joined(&two, 1).unwrap()), usage(8, 18, 7), "of two prompts");
        let one = joined(&two, 2).unwrap();
        assert_eq!((one.reason, usage_of(&one)), (FinishReason::Length, usage(4, 9, 7)));
        assert_eq!(one.timings.decode, Duration::from_secs(2));
        assert!(joined(&[], 1).is_none());
    }

    #[test]
    fn logprobs_that_were_not_told_are_null() {
        assert_eq!(logprobs_of(false, "", Vec::new()), None);
        assert_eq!(logprobs_of(true, "a", Vec::new()), None);
        assert_eq!(logprobs_of(true, "", Vec::new()), Some(Logprobs::content(Vec::new())));
    }
}
