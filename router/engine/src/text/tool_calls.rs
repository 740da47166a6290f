//! Tool calls in what a model writes, in the form of Hermes and Qwen:
//! `<tool_call>\n{"name": "f", "arguments": {...}}\n</tool_call>`. The grammar that a request with tools is generated under
//! lets no other form through, so that this reader need not understand JSON: no JSON holds [`CLOSE`], whose line end would
//! have to be escaped in a string, and whose letters can stand nowhere else. A call may also be written without the marks, where the
//! answer begins: see [`super::written_call`].

use reprise_tier::{ToolCallPiece, call_begins, call_goes_on};

use super::written_call::{Head, ObjectEnd};

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
    /// Functions that may be called without the marks.
    names: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing was told yet: a call without marks may begin.
    Begin,
    Text,
    /// Between [`OPEN`] and the arguments.
    Head,
    Arguments,
    /// Behind a call.
    Between,
    /// In the arguments of a call without marks.
    Written(ObjectEnd),
    /// Behind the arguments of a call without marks.
    BehindWritten,
}

/// In the order in which they were written.
#[derive(Debug, PartialEq)]
pub(crate) enum Part {
    Text(String),
    Call { index: usize, piece: ToolCallPiece },
}

impl ToolCallReader {
    /// `names`: of the functions that may be called without the marks.
    pub(crate) fn new(salt: u64, names: Vec<String>) -> Self {
        let state = if names.is_empty() { State::Text } else { State::Begin };
        Self { salt, state, held: String::new(), calls: 0, names }
    }

    pub(crate) fn has_called(&self) -> bool {
        self.calls > 0
    }

    /// True if text that comes now is the answer's, and no call's.
    pub(crate) fn in_text(&self) -> bool {
        matches!(self.state, State::Begin | State::Text)
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
            State::Begin | State::Text if !rest.is_empty() => vec![Part::Text(rest)],
            // Cut off by a limit: what there is of the arguments is told.
            State::Arguments if !rest.is_empty() => vec![self.arguments(&rest)],
            _ => Vec::new(),
        }
    }

    /// False if more text is needed.
    fn step(&mut self, parts: &mut Vec<Part>) -> bool {
        match self.state {
            State::Begin => match Head::of(&self.held, &self.names) {
                Head::Open => false,
                Head::No => self.enter(true, State::Text),
                Head::Call { name, length } => {
                    let name = name.to_owned();
                    self.begin_written(&name, length, parts)
                }
            },
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
                parts.push(self.call(&name));
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
            State::Written(end) => self.written(end, parts),
            State::BehindWritten => {
                // The grammar lets nothing follow but a brace, a fence, and further calls.
                self.held.drain(..self.held.find('{').unwrap_or(self.held.len()));
                match Head::of(&self.held, &self.names) {
                    Head::Open => false,
                    Head::No => {
                        self.held.drain(..1);
                        true
                    }
                    Head::Call { name, length } => {
                        let name = name.to_owned();
                        self.begin_written(&name, length, parts)
                    }
                }
            }
        }
    }

    fn begin_written(&mut self, name: &str, length: usize, parts: &mut Vec<Part>) -> bool {
        self.held.drain(..length);
        parts.push(self.call(name));
        self.enter(true, State::Written(ObjectEnd::default()))
    }

    fn written(&mut self, mut end: ObjectEnd, parts: &mut Vec<Part>) -> bool {
        if end.is_before() {
            self.held = self.held.trim_start().to_owned();
        }
        let ends = end.find(&self.held);
        let rest = self.held.split_off(ends.unwrap_or(self.held.len()));
        let arguments = std::mem::replace(&mut self.held, rest);
        if !arguments.is_empty() {
            parts.push(self.arguments(&arguments));
        }
        self.state = if ends.is_some() { State::BehindWritten } else { State::Written(end) };
        ends.is_some()
    }

    /// The next call begins.
    fn call(&mut self, name: &str) -> Part {
        let (index, id) = (self.calls, format!("call_{:016x}{:02x}", self.salt, self.calls));
        self.calls += 1;
        Part::Call { index, piece: call_begins(&id, name) }
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
mod tests;
