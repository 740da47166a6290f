use reprise_tier::{GenerateRequest, JsonForm, Message, Role, Sampling, ToolChoice, Tools};
use serde_json::{Map, Value, json};

/// The body to send: the client's own where there is one, so that fields which Reprise does not know pass through.
pub fn body(request: &GenerateRequest, model: &str) -> Map<String, Value> {
    let mut body = match &request.body {
        Some(body) => Map::clone(body),
        None => spelled_out(request),
    };
    let messages = messages(request);
    body.insert("model".to_owned(), json!(model));
    body.insert("messages".to_owned(), messages);
    body.insert("stream".to_owned(), json!(true));
    body.insert("stream_options".to_owned(), json!({ "include_usage": true }));
    if body.remove("n").is_some()
        && let Some(seed) = request.sampling.seed
    {
        // Several choices are as many generations, each with a seed of its own; in JSON it is signed.
        body.insert("seed".to_owned(), json!(seed.cast_signed()));
    }
    body
}

/// Fields that are not OpenAI's are sent only where they are set.
fn spelled_out(request: &GenerateRequest) -> Map<String, Value> {
    let Sampling {
        temperature,
        top_k,
        top_p,
        min_p,
        frequency_penalty,
        presence_penalty,
        repetition_penalty,
        logit_bias,
        seed,
        logprobs,
    } = &request.sampling;
    let bias: Map<String, Value> =
        logit_bias.iter().map(|(token, bias)| (token.to_string(), json!(bias))).collect();
    let fields = [
        ("temperature", Some(json!(temperature))),
        ("top_p", Some(json!(top_p))),
        ("top_k", top_k.map(|k| json!(k))),
        ("min_p", (*min_p != 0.0).then(|| json!(min_p))),
        ("frequency_penalty", (*frequency_penalty != 0.0).then(|| json!(frequency_penalty))),
        ("presence_penalty", (*presence_penalty != 0.0).then(|| json!(presence_penalty))),
        ("repetition_penalty", (*repetition_penalty != 1.0).then(|| json!(repetition_penalty))),
        ("logit_bias", (!bias.is_empty()).then_some(Value::Object(bias))),
        ("seed", seed.map(|seed| json!(seed.cast_signed()))),
        ("logprobs", logprobs.map(|_| json!(true))),
        ("top_logprobs", logprobs.map(|count| json!(count))),
        ("max_tokens", request.max_tokens.map(|tokens| json!(tokens))),
        ("stop", (!request.stop.is_empty()).then(|| json!(request.stop))),
        ("response_format", request.form.as_ref().map(response_format)),
        ("tools", request.tools.as_ref().map(|tools| functions(tools))),
        ("tool_choice", request.tools.as_ref().map(|tools| tool_choice(&tools.choice))),
        ("parallel_tool_calls", request.tools.as_ref().map(|tools| json!(tools.parallel))),
    ];
    fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

fn response_format(form: &JsonForm) -> Value {
    match form {
        JsonForm::Object => json!({"type": "json_object"}),
        JsonForm::Schema(schema) => {
            json!({"type": "json_schema", "json_schema": {"name": "answer", "strict": true, "schema": schema}})
        }
    }
}

fn functions(tools: &Tools) -> Value {
    let tool = |function: &reprise_tier::Function| {
        let mut described = json!({"name": function.name, "parameters": function.parameters});
        if let Some(description) = &function.description {
            described["description"] = json!(description);
        }
        if function.strict {
            described["strict"] = json!(true);
        }
        json!({"type": "function", "function": described})
    };
    tools.functions.iter().map(tool).collect()
}

fn tool_choice(choice: &ToolChoice) -> Value {
    match choice {
        ToolChoice::Auto => json!("auto"),
        ToolChoice::Required => json!("required"),
        ToolChoice::Named(name) => json!({"type": "function", "function": {"name": name}}),
    }
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

    use super::*;

    fn request(messages: Vec<Message>, body: Option<Value>) -> GenerateRequest {
        let body = body.map(|body| match body {
            Value::Object(map) => Arc::new(map),
            _ => panic!("not an object"),
        });
        GenerateRequest {
            id: "r".into(),
            messages,
            sampling: Sampling { temperature: 0.0, seed: Some(7), ..Sampling::default() },
            max_tokens: Some(5),
            stop: vec!["END".into()],
            body,
            ..GenerateRequest::default()
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
    fn fields_that_are_set_are_spelled_out() {
        let mut request = request(Vec::new(), None);
        request.sampling.logit_bias = vec![(5, -1.5)];
        request.sampling.min_p = 0.5;
        request.sampling.logprobs = Some(2);
        let body = body(&request, "m");
        assert_eq!(body["logit_bias"], json!({"5": -1.5}));
        assert_eq!(
            (&body["min_p"], &body["logprobs"], &body["top_logprobs"]),
            (&json!(0.5), &json!(true), &json!(2))
        );
        assert!(!body.contains_key("top_k") && !body.contains_key("frequency_penalty"));
    }

    #[test]
    fn forms_and_tools_are_spelled_out() {
        let mut request = request(Vec::new(), None);
        request.form = Some(JsonForm::Schema(Arc::new(json!({"type": "object"}))));
        let function = reprise_tier::Function {
            name: "f".into(),
            description: Some("does f".into()),
            parameters: Arc::new(json!({"type": "object"})),
            strict: true,
        };
        let choice = ToolChoice::Named("f".into());
        request.tools = Some(Arc::new(Tools { functions: vec![function], choice, parallel: false }));
        let body = body(&request, "m");
        assert_eq!(body["response_format"]["json_schema"]["schema"], json!({"type": "object"}));
        assert_eq!(
            body["tools"],
            json!([{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}, "description": "does f", "strict": true}}])
        );
        assert_eq!(body["tool_choice"]["function"]["name"], "f");
        assert_eq!(body["parallel_tool_calls"], false);
    }

    #[test]
    fn each_of_several_choices_is_asked_for_alone_with_its_seed() {
        let client = json!({"n": 3, "seed": 1, "messages": []});
        let body = body(&request(Vec::new(), Some(client)), "m");
        assert!(!body.contains_key("n"));
        assert_eq!(body["seed"], 7);
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
