//! Answers told as completions.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use reprise_openai::completions::{Completion, CompletionChoice, CompletionLogprobs};
use reprise_openai::{Usage, sse};
use reprise_tier::{TokenLogprob, ToolCallPiece};

use crate::chat::{Dialect, Events, Head, Written, push};
use crate::error::ApiError;

/// What the client wants to see.
#[derive(Debug, Clone)]
pub struct CompletionDialect {
    /// The prompts, each to stand before its choices.
    pub echo: Option<Arc<[String]>>,
    /// Choices of one prompt.
    pub each: u32,
    pub include_usage: bool,
    pub logprobs: bool,
}

#[derive(Debug)]
struct Pieces {
    head: Head,
    format: CompletionDialect,
    /// Characters of each choice so far.
    offsets: Vec<usize>,
    events: VecDeque<Bytes>,
}

impl CompletionDialect {
    fn prompt_of(&self, choice: u32) -> Option<&str> {
        let prompt = choice / self.each.max(1);
        self.echo.as_ref()?.get(prompt as usize).map(String::as_str)
    }

    fn logprobs(&self, tokens: Vec<TokenLogprob>, offset: usize) -> Option<CompletionLogprobs> {
        if !self.logprobs {
            return None;
        }
        let mut told = CompletionLogprobs::default();
        let mut offset = offset;
        for TokenLogprob { chosen, top } in tokens {
            told.text_offset.push(offset);
            offset += chosen.text.chars().count();
            // As OpenAI does: the chosen one stands among the likeliest even if it is none of them.
            let mut tops: BTreeMap<String, f32> =
                top.into_iter().map(|top| (top.text, top.logprob)).collect();
            tops.entry(chosen.text.clone()).or_insert(chosen.logprob);
            told.top_logprobs.push(tops);
            told.tokens.push(chosen.text);
            told.token_logprobs.push(chosen.logprob);
        }
        Some(told)
    }
}

impl Dialect for CompletionDialect {
    fn prefix(&self) -> &'static str {
        "cmpl-"
    }

    fn whole(&self, head: Head, choices: Vec<Written>, usage: Usage) -> Result<Bytes, serde_json::Error> {
        let choice = |(index, written): (u32, Written)| {
            let prompt = self.prompt_of(index).unwrap_or_default();
            let offset = prompt.chars().count();
            CompletionChoice {
                text: format!("{prompt}{}", written.text),
                index,
                logprobs: self.logprobs(written.logprobs, offset),
                finish_reason: Some(written.reason.to_owned()),
            }
        };
        let choices = (0..).zip(choices).map(choice).collect();
        let completion = Completion::new(&head.id, head.created, &head.model, choices, Some(usage));
        serde_json::to_vec(&completion).map(Bytes::from)
    }

    fn events(&self, head: Head, choices: u32) -> Box<dyn Events> {
        let offsets = vec![0; choices as usize];
        let mut pieces = Pieces { head, format: self.clone(), offsets, events: VecDeque::new() };
        for index in 0..choices {
            if let Some(prompt) = self.prompt_of(index) {
                pieces.piece(index, prompt.to_owned(), Vec::new());
            }
        }
        Box::new(pieces)
    }
}

impl Events for Pieces {
    fn piece(&mut self, index: u32, text: String, logprobs: Vec<TokenLogprob>) {
        let told = match self.offsets.get_mut(index as usize) {
            Some(offset) if !logprobs.is_empty() => {
                // Characters of the tokens, not of the text: a token may end within a character.
                let length: usize = logprobs.iter().map(|token| token.chosen.text.chars().count()).sum();
                let told = self.format.logprobs(logprobs, *offset);
                *offset += length;
                told
            }
            _ => None,
        };
        self.choice(CompletionChoice { text, index, logprobs: told, finish_reason: None });
    }

    /// Nothing can be called here.
    fn tool_call(&mut self, _: u32, _: usize, _: ToolCallPiece) {}

    fn end(&mut self, index: u32, reason: &'static str) {
        let finish_reason = Some(reason.to_owned());
        self.choice(CompletionChoice { index, finish_reason, ..CompletionChoice::default() });
    }

    fn done(&mut self, usage: Usage) {
        if self.format.include_usage {
            self.chunk(Vec::new(), Some(usage));
        }
        self.events.push_back(sse::DONE);
    }

    fn error(&mut self, error: ApiError) {
        push(&mut self.events, sse::json(&error.body.into_response()));
    }

    fn take(&mut self) -> Option<Bytes> {
        self.events.pop_front()
    }
}

impl Pieces {
    fn choice(&mut self, choice: CompletionChoice) {
        self.chunk(vec![choice], None);
    }

    fn chunk(&mut self, choices: Vec<CompletionChoice>, usage: Option<Usage>) {
        let Head { id, created, model } = &self.head;
        let event = sse::json(&Completion::new(id, *created, model, choices, usage));
        push(&mut self.events, event);
    }
}

#[cfg(test)]
mod tests {
    use reprise_tier::LikelyToken;
    use serde_json::{Value, json};

    use super::*;

    fn head() -> Head {
        Head { id: "cmpl-1".into(), created: 7, model: "m".into() }
    }

    fn token(text: &str) -> TokenLogprob {
        let likely = |text: &str, logprob| LikelyToken { text: text.into(), bytes: None, logprob };
        TokenLogprob { chosen: likely(text, -0.5), top: vec![likely("x", -0.25)] }
    }

    #[test]
    fn choices_have_their_prompts_and_offsets() {
        let dialect = CompletionDialect {
            echo: Some(vec!["é1".to_owned(), "p2".to_owned()].into()),
            each: 2,
            include_usage: false,
            logprobs: false,
        };
        let written = |text: &str| Written { text: text.into(), reason: "stop", ..Written::default() };
        let choices = ["a", "b", "c", "d"].map(written).to_vec();
        let body = dialect.whole(head(), choices, Usage::default()).unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        let texts: Vec<&str> = body["choices"]
            .as_array()
            .unwrap()
            .iter()
            .map(|choice| choice["text"].as_str().unwrap())
            .collect();
        assert_eq!(texts, ["é1a", "é1b", "p2c", "p2d"]);
        assert_eq!(body["object"], "text_completion");
    }

    #[test]
    fn streamed_log_probabilities_go_on_where_they_were() {
        let dialect = CompletionDialect { echo: None, each: 1, include_usage: true, logprobs: true };
        let mut events = dialect.events(head(), 1);
        events.piece(0, "éa".into(), vec![token("é"), token("a")]);
        events.piece(0, "b".into(), vec![token("b")]);
        events.end(0, "stop");
        events.done(Usage::new(1, 3));
        let bytes: Vec<u8> = std::iter::from_fn(|| events.take()).flatten().collect();
        let read = sse::EventReader::default().push(&bytes).unwrap();
        assert_eq!(read.len(), 5);
        let chunk = |index: usize| serde_json::from_str::<Value>(&read[index].data).unwrap();
        assert_eq!(chunk(0)["choices"][0]["logprobs"]["text_offset"], json!([0, 1]));
        assert_eq!(chunk(1)["choices"][0]["logprobs"]["text_offset"], json!([2]));
        assert_eq!(chunk(1)["choices"][0]["logprobs"]["top_logprobs"][0], json!({"b": -0.5, "x": -0.25}));
        assert_eq!(chunk(2)["choices"][0]["finish_reason"], "stop");
        assert_eq!(chunk(3)["usage"]["total_tokens"], 4);
        assert_eq!(read[4].data, "[DONE]");
    }
}
