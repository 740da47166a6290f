//! From the upstream's events to the tier's. No I/O: bytes of any kind and cut anywhere go in.

use reprise_openai::sse::{EventReader, Unread};
use reprise_tier::{FinishReason, TierError, TokenLogprob, ToolCallPiece, ToolCalls, Usage};
use serde_json::Value;
use serde_json::value::RawValue;

use super::{
    chunk::{Chunk, logprobs},
    estimate_tokens, failure,
    pattern::Pattern,
};

/// An answer longer than this is not one.
const MOST_BYTES: usize = 16 << 20;

/// What has arrived of an answer.
#[derive(Debug, Default)]
pub struct Answer {
    events: EventReader,
    /// What events of text alone are like.
    pattern: Pattern,
    bytes: usize,
    text_bytes: usize,
    seen: bool,
    done: bool,
    finish: Option<FinishReason>,
    usage: Option<reprise_openai::Usage>,
    /// Tool calls that have begun.
    calls: usize,
}

/// What a chunk adds.
#[derive(Debug, PartialEq)]
pub enum Piece {
    /// Text, and the log probabilities that came with it; one of the two may be empty.
    Text {
        text: String,
        logprobs: Vec<TokenLogprob>,
    },
    ToolCall {
        index: usize,
        piece: ToolCallPiece,
    },
}

/// A finished answer.
#[derive(Debug, PartialEq)]
pub struct Ending {
    pub reason: FinishReason,
    pub usage: Usage,
}

impl Answer {
    /// Takes the next bytes; returns the pieces that they complete, in order.
    ///
    /// # Errors
    /// [`TierError::Upstream`]: an error event, or what is not a stream of chunks.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Piece>, TierError> {
        self.bytes = self.bytes.saturating_add(bytes.len());
        if self.bytes > MOST_BYTES {
            return Err(failure::garbage("the answer is longer than 16 MiB"));
        }
        let mut pieces = Vec::new();
        let mut events = std::mem::take(&mut self.events);
        let read = events.read(bytes, |name, data| {
            if self.done {
                return Ok(());
            }
            match data.trim() {
                "" => {}
                "[DONE]" => self.done = true,
                data => self.chunk(name, data, &mut pieces)?,
            }
            Ok(())
        });
        self.events = events;
        read.map_err(|error| match error {
            Unread::TooLong(error) => failure::garbage(&error.to_string()),
            Unread::Refused(error) => error,
        })?;
        Ok(pieces)
    }

    /// True once the upstream has said that it is done.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// True once a chunk of an answer has arrived.
    pub fn has_begun(&self) -> bool {
        self.seen
    }

    /// The end of the answer, once the stream has ended. `prompt_bytes` is what usage is estimated from where the
    /// upstream tells none.
    ///
    /// # Errors
    /// [`TierError::Upstream`] if the stream broke off.
    pub fn end(self, prompt_bytes: usize) -> Result<Ending, TierError> {
        let reason = match self.finish {
            Some(reason) => reason,
            None if self.done && self.seen && self.calls > 0 => FinishReason::ToolCalls,
            None if self.done && self.seen => FinishReason::Stop,
            None => return Err(failure::broken("the stream ended in the middle of the answer")),
        };
        let usage = match self.usage {
            Some(usage) => {
                let details = usage.prompt_tokens_details.unwrap_or_default();
                Usage {
                    prompt_tokens: usage.prompt_tokens,
                    cached_tokens: details.cached_tokens,
                    completion_tokens: usage.completion_tokens,
                }
            }
            None => Usage {
                prompt_tokens: estimate_tokens(prompt_bytes),
                cached_tokens: 0,
                completion_tokens: estimate_tokens(self.text_bytes),
            },
        };
        Ok(Ending { reason, usage })
    }

    fn chunk(&mut self, name: &str, data: &str, pieces: &mut Vec<Piece>) -> Result<(), TierError> {
        if name.is_empty()
            && let Some(text) = self.pattern.text(data)
        {
            self.text(text.to_owned(), Vec::new(), pieces);
            return Ok(());
        }
        let unusable = || failure::garbage(&format!("not a chunk of an answer: {}", failure::excerpt(data)));
        let chunk: Chunk<'_> = serde_json::from_str(data).map_err(|_| unusable())?;
        if let Some(error) = &chunk.error {
            return Err(failure::of_value(None, error));
        }
        if name == "error" {
            return Err(failure::of_body(None, data.as_bytes()));
        }
        if chunk.choices.is_none() && chunk.usage.is_none() {
            return Err(unusable());
        }
        self.seen = true;
        let mut usual = name.is_empty() && chunk.usage.is_none();
        if chunk.usage.is_some() {
            self.usage = chunk.usage;
        }
        let first =
            chunk.choices.unwrap_or_default().into_iter().find(|choice| choice.index.unwrap_or(0) == 0);
        let Some(choice) = first else { return Ok(()) };
        if let Some(reason) = choice.finish_reason {
            self.finish = Some(finish_reason(&reason));
            usual = false;
        }
        let delta = choice.delta.unwrap_or_default();
        let logprobs = choice.logprobs.as_ref().map(logprobs).unwrap_or_default();
        usual &= choice.logprobs.is_none() && delta.tool_calls.is_none();
        let written = delta.content.map(RawValue::get);
        let text = written.map(serde_json::from_str::<String>).transpose().map_err(|_| unusable())?;
        if let Some(written) = written.filter(|_| usual) {
            self.pattern.learn(data, written);
        }
        self.text(text.unwrap_or_default(), logprobs, pieces);
        for call in delta.tool_calls.unwrap_or_default() {
            pieces.push(self.tool_call(call)?);
        }
        Ok(())
    }

    fn text(&mut self, text: String, logprobs: Vec<TokenLogprob>, pieces: &mut Vec<Piece>) {
        self.text_bytes += text.len();
        if !text.is_empty() || !logprobs.is_empty() {
            pieces.push(Piece::Text { text, logprobs });
        }
    }

    fn tool_call(&mut self, piece: Value) -> Result<Piece, TierError> {
        let Value::Object(mut piece) = piece else {
            return Err(failure::garbage("a tool call that is not an object"));
        };
        let index =
            piece.remove("index").and_then(|index| index.as_u64()).and_then(|index| index.try_into().ok());
        let index = index.unwrap_or(self.calls);
        if index >= ToolCalls::MOST || index > self.calls {
            return Err(failure::garbage("tool calls out of order"));
        }
        self.calls = self.calls.max(index + 1);
        Ok(Piece::ToolCall { index, piece })
    }
}

fn finish_reason(name: &str) -> FinishReason {
    match name {
        "length" | "max_tokens" => FinishReason::Length,
        "tool_calls" | "function_call" => FinishReason::ToolCalls,
        "content_filter" => FinishReason::ContentFilter,
        _ => FinishReason::Stop,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use reprise_tier::LikelyToken;
    use serde_json::json;

    use super::*;

    fn whole(stream: &str) -> Result<(String, Ending), TierError> {
        let mut answer = Answer::default();
        let text = concat(answer.push(stream.as_bytes())?);
        Ok((text, answer.end(40)?))
    }

    fn concat(pieces: Vec<Piece>) -> String {
        let text = |piece| if let Piece::Text { text, .. } = piece { Some(text) } else { None };
        pieces.into_iter().filter_map(text).collect()
    }

    #[test]
    fn text_usage_and_reason_are_read_whatever_else_there_is() {
        let stream = ": waiting\r\n\r\ndata: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}],\"x\":1}\r\n\r\n\
            data: {\"choices\":[{\"delta\":{\"content\":\"Grüß\"},\"finish_reason\":null}],\"usage\":null}\r\n\r\n\
            data: {\"choices\":[{\"index\":1,\"delta\":{\"content\":\"other\"}}]}\n\n\
            data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"length\"}]}\n\n\
            data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":2,\"prompt_tokens_details\":{\"cached_tokens\":4}}}\n\ndata: [DONE]\n\n";
        let (text, ending) = whole(stream).unwrap();
        assert_eq!(text, "Grüß");
        let usage = Usage { prompt_tokens: 9, cached_tokens: 4, completion_tokens: 2 };
        assert_eq!(ending, Ending { reason: FinishReason::Length, usage });
    }

    #[test]
    fn logprobs_come_with_their_text_or_alone() {
        let chunk = |choice: Value| format!("data: {}\n\n", json!({"choices": [choice]}));
        let hi = json!({"token": "hi", "logprob": -0.5, "bytes": [104, 105],
                        "top_logprobs": [{"token": "<end>", "logprob": -1e30, "bytes": null}, {"token": 5}]});
        let stream = chunk(
            json!({"delta": {"content": "hi"}, "logprobs": {"content": [hi, {"logprob": -1}]}}),
        ) + &chunk(
            json!({"delta": {}, "logprobs": {"content": [{"token": "\u{fffd}", "logprob": -2, "bytes": [240]}]}}),
        ) + &chunk(
            json!({"delta": {"content": "!"}, "logprobs": {"tokens": ["!"], "content": 7}}),
        ) + &chunk(
            json!({"delta": {"content": ""}, "logprobs": "none", "finish_reason": "stop"}),
        );
        let pieces = Answer::default().push(stream.as_bytes()).unwrap();
        let likely = |text: &str, bytes: Option<&[u8]>, logprob| LikelyToken {
            text: text.into(),
            bytes: bytes.map(<[u8]>::to_vec),
            logprob,
        };
        let alone = TokenLogprob { chosen: likely("\u{fffd}", Some(&[240]), -2.0), top: Vec::new() };
        let with_top = TokenLogprob {
            chosen: likely("hi", Some(b"hi"), -0.5),
            top: vec![likely("<end>", None, LikelyToken::LEAST)],
        };
        let piece = |text: &str, logprobs| Piece::Text { text: text.into(), logprobs };
        assert_eq!(pieces, [piece("hi", vec![with_top]), piece("", vec![alone]), piece("!", Vec::new())]);
    }

    #[test]
    fn usage_is_estimated_where_none_is_told() {
        let (_, ending) =
            whole("data: {\"choices\":[{\"delta\":{\"content\":\"12345678\"}}]}\n\ndata: [DONE]\n\n")
                .unwrap();
        assert_eq!(ending.usage, Usage { prompt_tokens: 10, cached_tokens: 0, completion_tokens: 2 });
        assert_eq!(ending.reason, FinishReason::Stop);
    }

    #[test]
    fn tool_calls_come_in_pieces() {
        let piece =
            |piece: Value| format!("data: {}\n\n", json!({"choices": [{"delta": {"tool_calls": [piece]}}]}));
        let stream = piece(
            json!({"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": ""}}),
        ) + &piece(json!({"index": 0, "function": {"arguments": "{\"a\""}}))
            + &piece(json!({"index": 0, "id": null, "function": {"arguments": ":1}"}}))
            + "data: {\"choices\":[{\"finish_reason\":\"tool_calls\"}]}\n\ndata: [DONE]\n\n";
        let mut answer = Answer::default();
        let mut calls = ToolCalls::default();
        for piece in answer.push(stream.as_bytes()).unwrap() {
            let Piece::ToolCall { index, piece } = piece else { panic!("{piece:?}") };
            calls.add(index, piece).unwrap();
        }
        assert_eq!(answer.end(40).unwrap().reason, FinishReason::ToolCalls);
        assert_eq!(
            calls.into_value().unwrap(),
            json!([{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1}"}}])
        );
    }

    #[test]
    fn a_stream_that_breaks_off_or_errs_is_an_error() {
        assert!(whole("data: {\"choices\":[{\"delta\":{\"content\":\"half\"}}]}\n\n").is_err());
        assert!(whole("").is_err());
        assert!(whole("data: [DONE]\n\n").is_err());
        assert!(whole("<html>502</html>").is_err());
        assert!(whole("data: {\"object\":\"list\"}\n\n").is_err());
        let error = whole("data: {\"error\":{\"message\":\"out of memory\",\"code\":500}}\n\n").unwrap_err();
        assert_eq!(error.to_string(), "upstream: out of memory");
        let error = whole("event: error\ndata: {\"message\":\"gone\"}\n\n").unwrap_err();
        assert_eq!(error.to_string(), "upstream: gone");
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_answer_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let mut answer = Answer::default();
            if answer.push(&bytes).is_ok() {
                let _ = answer.end(1);
            }
        }

        #[test]
        fn any_chunk_shape_is_an_answer_or_an_error(
            a in "null|1|\"x\"|\\[\\]|\\{\\}|true", b in "null|7|\"y\"|\\[\\]|\\{\\}|\\[null\\]", index in "0|1|99999999999|-1|null",
        ) {
            for shape in [
                format!(r#"{{"choices":{a},"usage":{b}}}"#),
                format!(r#"{{"choices":[{{"index":{index},"delta":{a},"finish_reason":{b}}}]}}"#),
                format!(r#"{{"choices":[{{"delta":{{"content":{a},"tool_calls":{b}}}}}]}}"#),
                format!(r#"{{"choices":[{{"delta":{{"tool_calls":[{{"index":{index},"function":{a}}},{b}]}}}}]}}"#),
                format!(r#"{{"error":{a},"choices":{b}}}"#),
                format!(r#"{{"choices":[{{"delta":{{"content":"x"}},"logprobs":{{"content":[{a},{{"token":"t","logprob":{b},"top_logprobs":{a}}}]}}}}]}}"#),
            ] {
                let _ = whole(&format!("data: {shape}\n\ndata: {shape}\n\ndata: [DONE]\n\n"));
            }
        }

        /// Whatever the text is, and whether an event is like the one before it or not.
        #[test]
        fn any_text_comes_as_it_was_sent(
            texts in prop::collection::vec(("[ -~]{0,8}|(?s).{0,8}", 0_u8..4), 0..12),
        ) {
            let event = |(text, kind): &(String, u8)| {
                let mut chunk = json!({"id": "c", "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": null}]});
                match kind {
                    1 => chunk["choices"][0]["logprobs"] = Value::Null,
                    2 => chunk["padding"] = json!(text),
                    3 => chunk["choices"][0]["delta"]["role"] = json!("assistant"),
                    _ => {}
                }
                format!("data: {chunk}\n\n")
            };
            let stream: String = texts.iter().map(event).collect();
            let pieces = Answer::default().push(stream.as_bytes()).unwrap();
            let sent: String = texts.into_iter().map(|(text, _)| text).collect();
            prop_assert_eq!(concat(pieces), sent);
        }

        #[test]
        fn cuts_do_not_matter(cuts in prop::collection::vec(0_usize..200, 0..12)) {
            let stream = "data: {\"choices\":[{\"delta\":{\"content\":\"äöü\"}}]}\r\n\r\ndata: {\"choices\":[{\"delta\":{\"content\":\"€ 🙂\"},\"finish_reason\":\"stop\"}]}\r\n\r\ndata: [DONE]\r\n\r\n".as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(stream.len())).collect();
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            let mut answer = Answer::default();
            let mut text = String::new();
            for pair in cuts.windows(2) {
                text += &concat(answer.push(&stream[pair[0]..pair[1]]).unwrap());
            }
            prop_assert_eq!(text, "äöü€ 🙂");
            prop_assert!(answer.is_done());
        }
    }
}
