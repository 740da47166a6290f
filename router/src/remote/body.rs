use reprise_tier::{GenerateRequest, Message, Role};
use serde_json::{Map, Value, json};

/// The body to send: the client's own where there is one, so that fields which Reprise does not know pass through.
pub fn body(request: &GenerateRequest, model: &str) -> Map<String, Value> {
    let mut body = match &request.body {
        Some(body) => Map::clone(body),
        None => from_sampling(request),
    };
    let messages = messages(request);
    body.insert("model".to_owned(), json!(model));
    body.insert("messages".to_owned(), messages);
    body.insert("stream".to_owned(), json!(true));
    body.insert("stream_options".to_owned(), json!({ "include_usage": true }));
    body
}

fn from_sampling(request: &GenerateRequest) -> Map<String, Value> {
    let mut body = Map::new();
    body.insert("temperature".to_owned(), json!(request.sampling.temperature));
    body.insert("top_p".to_owned(), json!(request.sampling.top_p));
    if let Some(seed) = request.sampling.seed {
        body.insert("seed".to_owned(), json!(seed));
    }
    if let Some(max_tokens) = request.max_tokens {
        body.insert("max_tokens".to_owned(), json!(max_tokens));
    }
    if !request.stop.is_empty() {
        body.insert("stop".to_owned(), json!(request.stop));
    }
    body
}

/// The conversation with its examples. [`Message`] is text only, so the client's own turns are sent as the client wrote
/// them, with tool calls and images, and the examples are set between the leading system turns and the rest.
fn messages(request: &GenerateRequest) -> Value {
    let own = request.body.as_ref().and_then(|body| body.get("messages")).and_then(Value::as_array);
    match own.and_then(|own| with_examples(own, &request.messages)) {
        Some(messages) => Value::Array(messages),
        None => json!(request.messages),
    }
}

/// `None` if the two do not tell the same conversation.
fn with_examples(own: &[Value], composed: &[Message]) -> Option<Vec<Value>> {
    let added = composed.len().checked_sub(own.len())?;
    let leading = composed.iter().take_while(|message| message.role == Role::System).count().min(own.len());
    let (head, rest) = own.split_at(leading);
    let (examples, tail) = composed[leading..].split_at_checked(added)?;
    let same = |own: &[Value], composed: &[Message]| {
        own.len() == composed.len()
            && own.iter().zip(composed).all(|(own, message)| has_role(own, message.role))
    };
    if !same(head, &composed[..leading]) || !same(rest, tail) {
        return None;
    }
    let examples = examples.iter().map(|message| json!(message));
    Some(head.iter().cloned().chain(examples).chain(rest.iter().cloned()).collect())
}

fn has_role(message: &Value, role: Role) -> bool {
    match message.get("role").and_then(Value::as_str) {
        Some("developer") => role == Role::System,
        Some("function") => role == Role::Tool,
        Some(name) => name == role.as_str(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use reprise_tier::{Priority, Sampling};

    use super::*;

    fn request(messages: Vec<Message>, body: Option<Value>) -> GenerateRequest {
        let body = body.map(|body| match body {
            Value::Object(map) => Arc::new(map),
            _ => panic!("not an object"),
        });
        GenerateRequest {
            id: "r".into(),
            messages,
            sampling: Sampling { temperature: 0.0, top_p: 1.0, seed: Some(7) },
            max_tokens: Some(5),
            stop: vec!["END".into()],
            priority: Priority::Interactive,
            deadline: None,
            body,
        }
    }

    #[test]
    fn without_a_client_body_sampling_is_spelled_out() {
        let body = body(&request(vec![Message::new(Role::User, "hi")], None), "m");
        assert_eq!(
            Value::Object(body),
            json!({"temperature": 0.0, "top_p": 1.0, "seed": 7, "max_tokens": 5, "stop": ["END"], "model": "m",
                   "messages": [{"role": "user", "content": "hi"}], "stream": true,
                   "stream_options": {"include_usage": true}})
        );
    }

    #[test]
    fn unknown_fields_and_rich_turns_pass_through_around_the_examples() {
        let call = json!({"role": "assistant", "content": null, "tool_calls": [{"id": "c1"}]});
        let client = json!({"model": "auto", "stream": false, "top_k": 3, "messages": [
            {"role": "developer", "content": "be brief"}, {"role": "user", "content": "a"}, call,
            {"role": "tool", "tool_call_id": "c1", "content": "42"}, {"role": "user", "content": "b"}]});
        let composed = vec![
            Message::new(Role::System, "be brief"),
            Message::new(Role::User, "example"),
            Message::new(Role::Assistant, "answer"),
            Message::new(Role::User, "a"),
            Message::new(Role::Assistant, ""),
            Message::new(Role::Tool, "42"),
            Message::new(Role::User, "b"),
        ];
        let body = body(&request(composed, Some(client)), "up");
        assert_eq!(body["top_k"], 3);
        assert_eq!((&body["model"], &body["stream"]), (&json!("up"), &json!(true)));
        let messages = body["messages"].as_array().unwrap();
        assert_eq!(messages.len(), 7);
        assert_eq!(messages[0]["role"], "developer");
        assert_eq!(messages[1], json!({"role": "user", "content": "example"}));
        assert_eq!(messages[4], call);
        assert_eq!(messages[5]["tool_call_id"], "c1");
    }

    #[test]
    fn a_body_that_tells_another_conversation_gives_way() {
        let client = json!({"messages": [{"role": "assistant", "content": "x"}, 3, {}]});
        let body = body(&request(vec![Message::new(Role::User, "hi")], Some(client)), "m");
        assert_eq!(body["messages"], json!([{"role": "user", "content": "hi"}]));
    }
}
