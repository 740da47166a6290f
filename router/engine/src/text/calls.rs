use reprise_tier::{Event, JsonForm, TokenLogprob, Tools};

use super::{
    tool_calls::{Part, ToolCallReader},
    written_call::may_be_written,
};

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
    pub(crate) fn new(tools: &Tools, form: Option<&JsonForm>) -> Self {
        let functions = if may_be_written(tools, form) { tools.functions.as_slice() } else { &[] };
        let names = functions.iter().map(|function| function.name.clone()).collect();
        Self { reader: ToolCallReader::new(rand::random(), names), waiting: Vec::new() }
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
    use std::sync::Arc;

    use reprise_tier::{Function, LikelyToken, ToolChoice};

    use super::*;

    fn function(name: &str) -> Function {
        Function { name: name.into(), description: None, parameters: Arc::default(), strict: false }
    }

    #[test]
    fn log_probabilities_stay_with_the_text() {
        let token = |text: &str| TokenLogprob {
            chosen: LikelyToken { text: text.into(), bytes: Some(text.into()), logprob: -1.0 },
            top: Vec::new(),
        };
        let tools = Tools { functions: vec![function("f")], choice: ToolChoice::Auto, parallel: true };
        let mut calls = Calls::new(&tools, None);
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
