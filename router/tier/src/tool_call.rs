use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// A call that the model made in an earlier turn.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "Wire", into = "Wire")]
pub struct ToolCall {
    pub id: String,
    pub name: String,
    /// JSON, as the model wrote it.
    pub arguments: String,
}

/// A part of a tool call as it is generated, in the shape of OpenAI's `delta.tool_calls[]`, without its index: the first
/// names id, type and function, later ones lengthen `function.arguments`. A remote tier's own fields are kept.
pub type ToolCallPiece = Map<String, Value>;

/// The calls of one answer, put together from their pieces.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ToolCalls(Vec<ToolCallPiece>);

/// A call beyond [`ToolCalls::MOST`], or one that skips an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("tool calls out of order")]
pub struct OutOfOrder;

impl ToolCalls {
    /// More are not a proper answer.
    pub const MOST: usize = 128;

    /// # Errors
    /// Indices have to begin at 0 and leave none out.
    pub fn add(&mut self, index: usize, piece: ToolCallPiece) -> Result<(), OutOfOrder> {
        if index >= Self::MOST || index > self.0.len() {
            return Err(OutOfOrder);
        }
        if index == self.0.len() {
            self.0.push(Map::new());
        }
        if let Some(call) = self.0.get_mut(index) {
            join(call, piece);
        }
        Ok(())
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    #[must_use]
    pub fn into_pieces(self) -> Vec<ToolCallPiece> {
        self.0
    }

    /// OpenAI's `tool_calls`; `None` if there is no call.
    #[must_use]
    pub fn into_value(self) -> Option<Value> {
        (!self.0.is_empty()).then(|| self.0.into_iter().map(Value::Object).collect())
    }
}

/// The first piece of a call.
#[must_use]
pub fn call_begins(id: &str, name: &str) -> ToolCallPiece {
    let function = json!({"name": name, "arguments": ""});
    [("id", json!(id)), ("type", json!("function")), ("function", function)]
        .map(|(key, value)| (key.to_owned(), value))
        .into_iter()
        .collect()
}

/// A later piece of a call.
#[must_use]
pub fn call_goes_on(arguments: &str) -> ToolCallPiece {
    Map::from_iter([("function".to_owned(), json!({ "arguments": arguments }))])
}

/// Adds a piece to what is known of its call.
pub fn join(call: &mut ToolCallPiece, piece: ToolCallPiece) {
    for (key, value) in piece {
        match (call.get_mut(&key), value) {
            (Some(Value::Object(known)), Value::Object(more)) => join(known, more),
            // `input`: of OpenAI's custom tools.
            (Some(Value::String(known)), Value::String(more)) if key == "arguments" || key == "input" => {
                known.push_str(&more);
            }
            (_, Value::Null) => {}
            (_, value) => drop(call.insert(key, value)),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Wire {
    id: String,
    #[serde(rename = "type", default = "function")]
    kind: String,
    function: Called,
}

#[derive(Serialize, Deserialize)]
struct Called {
    name: String,
    arguments: String,
}

fn function() -> String {
    "function".to_owned()
}

impl From<Wire> for ToolCall {
    fn from(wire: Wire) -> Self {
        Self { id: wire.id, name: wire.function.name, arguments: wire.function.arguments }
    }
}

impl From<ToolCall> for Wire {
    fn from(call: ToolCall) -> Self {
        Self {
            id: call.id,
            kind: function(),
            function: Called { name: call.name, arguments: call.arguments },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_make_whole_calls() {
        let mut calls = ToolCalls::default();
        for (index, piece) in [
            (0, call_begins("c0", "f")),
            (0, call_goes_on("{\"a\"")),
            (1, call_begins("c1", "g")),
            (0, call_goes_on(":1}")),
        ] {
            calls.add(index, piece).unwrap();
        }
        assert_eq!(calls.add(3, call_begins("c3", "h")), Err(OutOfOrder));
        assert_eq!(
            calls.into_value().unwrap(),
            json!([
                {"id": "c0", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1}"}},
                {"id": "c1", "type": "function", "function": {"name": "g", "arguments": ""}},
            ])
        );
        assert_eq!(ToolCalls::default().into_value(), None);
    }

    #[test]
    fn a_call_has_openais_shape() {
        let call = ToolCall { id: "c".into(), name: "f".into(), arguments: "{}".into() };
        let wire = json!({"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}});
        assert_eq!(serde_json::to_value(&call).unwrap(), wire);
        assert_eq!(serde_json::from_value::<ToolCall>(wire).unwrap(), call);
    }
}
