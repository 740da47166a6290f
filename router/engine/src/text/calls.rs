use reprise_tier::{Event, TokenLogprob};

use super::tool_calls::{Part, ToolCallReader};

/// Makes events of an answer that may call functions.
///
/// Log probabilities are told of its text alone, as OpenAI does: those of tokens that make a call are dropped.
#[derive(Debug)]
pub(crate) struct Calls {
    reader: ToolCallReader,
    /// Of text that is held back.
    waiting: Vec<TokenLogprob>,
}

impl Calls {
    pub(crate) fn new() -> Self {
        Self { reader: ToolCallReader::new(rand::random()), waiting: Vec::new() }
    }

    pub(crate) fn has_called(&self) -> bool {
        self.reader.has_called()
    }

    pub(crate) fn divide(&mut self, text: &str, logprobs: Vec<TokenLogprob>) -> Vec<Event> {
        if self.reader.in_text() {
            self.waiting.extend(logprobs);
        }
        let parts = self.reader.push(text);
        let events = parts.into_iter().map(|part| self.event(part)).collect();
        if !self.reader.in_text() {
            self.waiting.clear();
        }
        events
    }

    pub(crate) fn finish(&mut self) -> Vec<Event> {
        self.reader.finish().into_iter().map(|part| self.event(part)).collect()
    }

    fn event(&mut self, part: Part) -> Event {
        match part {
            Part::Text(text) => Event::Delta { text, logprobs: std::mem::take(&mut self.waiting) },
            Part::Call { index, piece } => Event::ToolCall { index, piece },
        }
    }
}

#[cfg(test)]
mod tests {
    use reprise_tier::LikelyToken;

    use super::*;

    #[test]
    fn log_probabilities_stay_with_the_text() {
        let token = |text: &str| TokenLogprob {
            chosen: LikelyToken { text: text.into(), bytes: Some(text.into()), logprob: -1.0 },
            top: Vec::new(),
        };
        let mut calls = Calls::new();
        let mut told = Vec::new();
        for text in ["Hi", " <", "b>", "<tool_call>", "\n{\"name\": \"f\", \"arguments\": ", "{}"] {
            for event in calls.divide(text, vec![token(text)]) {
                if let Event::Delta { text, logprobs } = event {
                    let tokens: String = logprobs.into_iter().map(|token| token.chosen.text).collect();
                    told.push((text, tokens));
                }
            }
        }
        let joined: (String, String) = told.into_iter().unzip();
        assert_eq!(joined, ("Hi <b>".to_owned(), "Hi <b>".to_owned()));
        assert!(calls.has_called());
    }
}
