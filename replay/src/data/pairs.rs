//! Known good pairs as OpenAI chat JSONL, the format fine-tuning files have:
//! `{"messages": [{"role": "user", ..}, {"role": "assistant", ..}], "quality": 0.9, "source": ".."}`, with a system message
//! before them if the answer was given under one.

use std::io::{BufRead, Write};

use serde::{Deserialize, Serialize};

/// One remembered request and its good answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Pair {
    pub request: String,
    pub answer: String,
    /// The system prompt that the answer was given under: it is shown under the same alone.
    pub instructions: Option<String>,
    /// Measured quality in [0, 1], where one is known.
    pub quality: Option<f32>,
    pub source: Option<String>,
}

/// A line of the file: a pair, or why it is none. Lines count from 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    pub number: usize,
    pub pair: Result<Pair, String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Row {
    messages: Vec<Message>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    quality: Option<f32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    source: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Message {
    role: String,
    content: String,
}

/// Reads pairs line by line; blank lines are passed over.
pub fn read(reader: impl BufRead) -> impl Iterator<Item = std::io::Result<Line>> {
    reader.lines().enumerate().filter_map(|(index, line)| match line {
        Ok(line) if line.trim().is_empty() => None,
        Ok(line) => Some(Ok(Line { number: index + 1, pair: parse(&line) })),
        Err(error) => Some(Err(error)),
    })
}

pub fn write(writer: &mut impl Write, pair: &Pair) -> std::io::Result<()> {
    let message = |role: &str, content: &str| Message { role: role.into(), content: content.into() };
    let system = pair.instructions.iter().map(|text| message("system", text));
    let turns = [message("user", &pair.request), message("assistant", &pair.answer)];
    let row =
        Row { messages: system.chain(turns).collect(), quality: pair.quality, source: pair.source.clone() };
    serde_json::to_writer(&mut *writer, &row)?;
    writer.write_all(b"\n")
}

/// The cache remembers one user message and its answer. A conversation has more to it than its last turn, so a line with
/// one is refused instead of being cut down.
fn parse(line: &str) -> Result<Pair, String> {
    let row: Row = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let (instructions, turns) = match row.messages.as_slice() {
        [system, turns @ ..] if system.role == "system" => (Some(system.content.clone()), turns),
        turns => (None, turns),
    };
    let (request, answer) = match turns {
        [user, assistant] if user.role == "user" && assistant.role == "assistant" => {
            (user.content.trim(), assistant.content.trim())
        }
        _ => {
            let roles: Vec<&str> = row.messages.iter().map(|message| message.role.as_str()).collect();
            return Err(format!(
                "messages must be one user and one assistant turn, with a system message before them or without, not [{}]",
                roles.join(", ")
            ));
        }
    };
    if request.is_empty() || answer.is_empty() {
        return Err("the request or the answer is empty".into());
    }
    if row.quality.is_some_and(|quality| !(0.0..=1.0).contains(&quality)) {
        return Err("quality must lie in [0, 1]".into());
    }
    let (request, answer) = (request.into(), answer.into());
    Ok(Pair { request, answer, instructions, quality: row.quality, source: row.source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_pairs_are_read_back() {
        let pair = Pair {
            request: "a \"b\"\nc".into(),
            answer: "d".into(),
            instructions: Some("be brief".into()),
            quality: Some(0.5),
            source: Some("reference".into()),
        };
        let mut file = Vec::new();
        write(&mut file, &pair).unwrap();
        let lines: Vec<_> = read(file.as_slice()).map(Result::unwrap).collect();
        assert_eq!(lines, [Line { number: 1, pair: Ok(pair) }]);
    }

    #[test]
    fn bad_lines_keep_their_numbers() {
        let text = r#"{"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"a"}]}

not json
{"messages":[{"role":"user","content":"p"},{"role":"user","content":"q"},{"role":"assistant","content":"a"}]}
{"messages":[{"role":"user","content":"q"},{"role":"assistant","content":" "}]}
{"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"a"}],"quality":1.5}"#;
        let lines: Vec<_> = read(text.as_bytes()).map(Result::unwrap).collect();
        let numbers: Vec<_> = lines.iter().map(|line| (line.number, line.pair.is_ok())).collect();
        assert_eq!(numbers, [(1, true), (3, false), (4, false), (5, false), (6, false)]);
        assert!(lines[2].pair.as_ref().unwrap_err().contains("user, user, assistant"));
    }
}
