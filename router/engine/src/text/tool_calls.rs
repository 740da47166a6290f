//! Tool calls in what a model writes, in the form of Hermes and Qwen:
//! `<tool_call>\n{"name": "f", "arguments": {...}}\n</tool_call>`. The grammar that a request with tools is generated under
//! lets no other form through, so that this reader need not understand JSON: no JSON holds [`CLOSE`], whose line end would
//! have to be escaped in a string, and whose letters can stand nowhere else.

use reprise_tier::{ToolCallPiece, call_begins, call_goes_on};

pub(crate) const OPEN: &str = "<tool_call>";
/// Between [`OPEN`] and the function's name.
pub(crate) const NAME: &str = "\n{\"name\": \"";
/// Between the name and the arguments.
pub(crate) const ARGUMENTS: &str = "\", \"arguments\": ";
pub(crate) const CLOSE: &str = "}\n</tool_call>";

/// Divides an answer, as it is written, into text and calls.
#[derive(Debug)]
pub(crate) struct ToolCallReader {
    /// Makes the ids of this answer's calls differ from all others.
    salt: u64,
    state: State,
    /// Not yet divided: it may be the beginning of a mark.
    held: String,
    /// Calls that have begun.
    calls: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Text,
    /// Between [`OPEN`] and the arguments.
    Head,
    Arguments,
    /// Behind a call.
    Between,
}

/// In the order in which they were written.
#[derive(Debug, PartialEq)]
pub(crate) enum Part {
    Text(String),
    Call { index: usize, piece: ToolCallPiece },
}

impl ToolCallReader {
    pub(crate) fn new(salt: u64) -> Self {
        Self { salt, state: State::Text, held: String::new(), calls: 0 }
    }

    pub(crate) fn has_called(&self) -> bool {
        self.calls > 0
    }

    /// True if text that comes now is the answer's, and no call's.
    pub(crate) fn in_text(&self) -> bool {
        self.state == State::Text
    }

    pub(crate) fn push(&mut self, text: &str) -> Vec<Part> {
        self.held.push_str(text);
        let mut parts = Vec::new();
        while self.step(&mut parts) {}
        parts
    }

    /// Nothing follows.
    pub(crate) fn finish(&mut self) -> Vec<Part> {
        let rest = std::mem::take(&mut self.held);
        match self.state {
            State::Text if !rest.is_empty() => vec![Part::Text(rest)],
            // Cut off by a limit: what there is of the arguments is told.
            State::Arguments if !rest.is_empty() => vec![self.arguments(&rest)],
            _ => Vec::new(),
        }
    }

    /// False if more text is needed.
    fn step(&mut self, parts: &mut Vec<Part>) -> bool {
        match self.state {
            State::Text => {
                let (text, found) = self.until(OPEN);
                if !text.is_empty() {
                    parts.push(Part::Text(text));
                }
                self.enter(found, State::Head)
            }
            State::Head => {
                let Some(at) = self.held.find(ARGUMENTS) else { return false };
                let name = self.held[..at].strip_prefix(NAME).unwrap_or_default().to_owned();
                self.held.drain(..at + ARGUMENTS.len());
                let (index, id) = (self.calls, format!("call_{:016x}{:02x}", self.salt, self.calls));
                self.calls += 1;
                parts.push(Part::Call { index, piece: call_begins(&id, &name) });
                self.enter(true, State::Arguments)
            }
            State::Arguments => {
                let (text, found) = self.until(CLOSE);
                if !text.is_empty() {
                    parts.push(self.arguments(&text));
                }
                self.enter(found, State::Between)
            }
            State::Between => {
                let (_, found) = self.until(OPEN);
                self.enter(found, State::Head)
            }
        }
    }

    fn enter(&mut self, found: bool, state: State) -> bool {
        if found {
            self.state = state;
        }
        found
    }

    /// Takes what stands before `mark`, and the mark; or all that cannot be part of it.
    fn until(&mut self, mark: &str) -> (String, bool) {
        if let Some(at) = self.held.find(mark) {
            let text = self.held[..at].to_owned();
            self.held.drain(..at + mark.len());
            return (text, true);
        }
        let keep = (1..mark.len()).rev().find(|keep| self.held.ends_with(&mark[..*keep])).unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - keep);
        (std::mem::replace(&mut self.held, rest), false)
    }

    fn arguments(&self, text: &str) -> Part {
        Part::Call { index: self.calls.saturating_sub(1), piece: call_goes_on(text) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use reprise_tier::ToolCalls;
    use serde_json::{Value, json};

    use super::*;

    fn read<'a>(pieces: impl Iterator<Item = &'a str>) -> (String, Option<Value>) {
        let mut reader = ToolCallReader::new(7);
        let mut parts: Vec<Part> = pieces.flat_map(|piece| reader.push(piece)).collect();
        parts.extend(reader.finish());
        let (mut text, mut calls) = (String::new(), ToolCalls::default());
        for part in parts {
            match part {
                Part::Text(piece) => text.push_str(&piece),
                Part::Call { index, piece } => calls.add(index, piece).expect("in order"),
            }
        }
        (text, calls.into_value())
    }

    fn call(name: &str, arguments: &str) -> String {
        format!("{OPEN}{NAME}{name}{ARGUMENTS}{arguments}{CLOSE}")
    }

    #[test]
    fn text_and_calls_are_divided_wherever_it_is_cut() {
        let arguments = r#"{"city": "a } </tool_call> é", "n": {"x": {}}}"#;
        let whole = format!("Well, <tool>.\n{}\n{}", call("f", arguments), call("g-2", "{}"));
        let expected = json!([
            {"id": "call_000000000000000700", "type": "function", "function": {"name": "f", "arguments": arguments}},
            {"id": "call_000000000000000701", "type": "function", "function": {"name": "g-2", "arguments": "{}"}},
        ]);
        for size in 1..whole.len() {
            let mut pieces: Vec<String> = vec![String::new()];
            for c in whole.chars() {
                if pieces.last().is_some_and(|piece| piece.len() >= size) {
                    pieces.push(String::new());
                }
                pieces.last_mut().expect("one").push(c);
            }
            let (text, calls) = read(pieces.iter().map(String::as_str));
            assert_eq!((text.as_str(), calls.as_ref()), ("Well, <tool>.\n", Some(&expected)), "{size}");
        }
    }

    #[test]
    fn a_call_that_is_cut_off_is_told_as_far_as_it_came() {
        let cut = call("f", r#"{"a": "b"#).replace(CLOSE, "}");
        let (text, calls) = read(std::iter::once(cut.as_str()));
        assert!(text.is_empty());
        assert_eq!(calls.expect("a call")[0]["function"]["arguments"], r#"{"a": "b}"#);
        assert_eq!(read(std::iter::once("<tool_call>\n{\"na")), (String::new(), None));
    }

    proptest! {
        #[test]
        fn text_without_calls_is_left_alone(text in "[<tol_ca>\n{}é]{0,40}", cut in 0usize..40) {
            prop_assume!(!text.contains(OPEN));
            let cut = text.floor_char_boundary(cut);
            let (head, tail) = text.split_at(cut);
            prop_assert_eq!(read([head, tail].into_iter()), (text.clone(), None));
        }
    }
}
