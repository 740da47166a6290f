//! Calls that a model writes as JSON by itself, without the marks of [`super::tool_calls`]: at the beginning of its answer, as it
//! stands or in a Markdown fence. Qwen2.5 Coder does so, whatever its own template tells it of `<tool_call>`.
//!
//! It is a call only if it is `{"name": ..., "arguments": {...}}` with the name of a function that may be called; any other JSON
//! is an answer. The grammar holds the arguments of such a call to their schema like those of a marked one.

use reprise_tier::{JsonForm, ToolChoice, Tools};

const SPACE: &str = "[ \\n\\r\\t]*";
const FENCE: &str = "```";

/// Under a form JSON is what was asked for, and where a call must be made it is marked.
pub(crate) fn may_be_written(tools: &Tools, form: Option<&JsonForm>) -> bool {
    tools.choice == ToolChoice::Auto && form.is_none()
}

/// What [`Head::of`] takes for the beginning of a call of this function, as a regular expression.
pub(crate) fn pattern(name: &str) -> String {
    format!(
        "{SPACE}({FENCE}[a-z_]*{SPACE})?\\{{{SPACE}\"name\"{SPACE}:{SPACE}\"{name}\"{SPACE},{SPACE}\"arguments\"{SPACE}:"
    )
}

/// How a written call ends, and its fence if it has one.
pub(crate) fn end_pattern() -> String {
    format!("{SPACE}\\}}({SPACE}{FENCE})?")
}

/// The beginning of a text: all that stands before a call's arguments, or not.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Head<'a> {
    Call {
        name: &'a str,
        /// In bytes.
        length: usize,
    },
    /// What follows decides.
    Open,
    No,
}

impl<'a> Head<'a> {
    pub(super) fn of(text: &str, names: &'a [String]) -> Self {
        let mut cursor = Cursor { text, at: 0 };
        match cursor.head(names) {
            Ok(name) => Self::Call { name, length: cursor.at },
            Err(Ends::Short) => Self::Open,
            Err(Ends::Otherwise) => Self::No,
        }
    }
}

/// Why a text does not go on as it should.
enum Ends {
    /// It is over before that can be said.
    Short,
    Otherwise,
}

struct Cursor<'t> {
    text: &'t str,
    at: usize,
}

impl Cursor<'_> {
    fn head<'a>(&mut self, names: &'a [String]) -> Result<&'a str, Ends> {
        self.space();
        if self.rest().starts_with('`') {
            self.literal(FENCE)?;
            self.skip(|c| c.is_ascii_lowercase() || c == '_');
            self.space();
        }
        for literal in ["{", "\"name\"", ":", "\""] {
            self.literal(literal)?;
            if literal != "\"" {
                self.space();
            }
        }
        let name = self.one_of(names)?;
        self.space();
        for literal in [",", "\"arguments\"", ":"] {
            self.literal(literal)?;
            if literal != ":" {
                self.space();
            }
        }
        Ok(name)
    }

    /// One of the names, and the quote behind it.
    fn one_of<'a>(&mut self, names: &'a [String]) -> Result<&'a str, Ends> {
        let mut ends = Ends::Otherwise;
        for name in names {
            let quoted = format!("{name}\"");
            if self.rest().starts_with(&quoted) {
                self.at += quoted.len();
                return Ok(name);
            }
            if quoted.starts_with(self.rest()) {
                ends = Ends::Short;
            }
        }
        Err(ends)
    }

    fn literal(&mut self, literal: &str) -> Result<(), Ends> {
        if self.rest().starts_with(literal) {
            self.at += literal.len();
            return Ok(());
        }
        Err(if literal.starts_with(self.rest()) { Ends::Short } else { Ends::Otherwise })
    }

    fn space(&mut self) {
        self.skip(|c| matches!(c, ' ' | '\n' | '\r' | '\t'));
    }

    fn skip(&mut self, skipped: impl Fn(char) -> bool) {
        self.at = self.text.len() - self.rest().trim_start_matches(skipped).len();
    }

    fn rest(&self) -> &str {
        &self.text[self.at..]
    }
}

/// Finds the end of a JSON object that comes in pieces.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct ObjectEnd {
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl ObjectEnd {
    /// Nothing of the object has come yet.
    pub(super) fn is_before(self) -> bool {
        self == Self::default()
    }

    /// Where in `piece` the object ends, just behind its last brace.
    pub(super) fn find(&mut self, piece: &str) -> Option<usize> {
        for (at, byte) in piece.bytes().enumerate() {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' if self.in_string => self.escaped = true,
                b'"' => self.in_string = !self.in_string,
                b'{' | b'[' if !self.in_string => self.depth += 1,
                b'}' | b']' if !self.in_string => {
                    // A schema may admit a value without braces: it ends before those around it.
                    let Some(depth) = self.depth.checked_sub(1) else { return Some(at) };
                    self.depth = depth;
                    if depth == 0 {
                        return Some(at + 1);
                    }
                }
                _ => {}
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Vec<String> {
        ["get", "get_weather"].map(str::to_owned).to_vec()
    }

    #[test]
    fn a_call_begins_as_it_stands_or_in_a_fence() {
        let names = names();
        for head in [
            "{\"name\": \"get_weather\", \"arguments\":",
            "```json\n{\n  \"name\": \"get_weather\",\n  \"arguments\":",
            "\n```\n{\"name\" : \"get_weather\" ,\t\"arguments\" :",
            " ```tool_call {\"name\":\"get_weather\",\"arguments\":",
        ] {
            for cut in 0..head.len() {
                assert_eq!(Head::of(&head[..cut], &names), Head::Open, "{:?}", &head[..cut]);
            }
            let expected = Head::Call { name: "get_weather", length: head.len() };
            assert_eq!(Head::of(&format!("{head} {{}}"), &names), expected, "{head}");
        }
    }

    #[test]
    fn other_json_and_other_fences_are_no_calls() {
        let names = names();
        for text in [
            "Hello",
            "```python\ndef",
            "``x",
            "{{\"name\"",
            "{\"name\": \"John\"",
            "{\"name\": \"get_weath3r",
            "{\"name\": \"get_weather\", \"age\"",
            "{\"arguments\"",
            "[{\"name\"",
            "<tool_call>",
        ] {
            assert_eq!(Head::of(text, &names), Head::No, "{text}");
        }
        assert_eq!(Head::of("{\"name\": \"get\"", &[]), Head::No);
    }

    #[test]
    fn an_object_ends_where_its_braces_do() {
        for object in [
            "{}",
            r#"{"a": "}\"}", "b": {"c": [1, {"d": null}]}}"#,
            r#"{"a": "\\"}"#,
            r#"{"a": ["]", "{"], "é": "```\n"}"#,
        ] {
            let mut end = ObjectEnd::default();
            assert!(end.is_before());
            assert_eq!(end.find(&format!("{object}\n}}")), Some(object.len()), "{object}");
            let mut end = ObjectEnd::default();
            let found: Vec<bool> = object.split_inclusive(|_| true).map(|c| end.find(c).is_some()).collect();
            assert_eq!(found.iter().position(|found| *found), Some(found.len() - 1), "{object}");
        }
        assert_eq!(ObjectEnd::default().find("\"}\"}"), Some(3));
    }
}
