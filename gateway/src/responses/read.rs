//! A request of the Responses API as a chat request.

use std::sync::Arc;

use reprise_openai::responses::ResponseRequest;
use serde_json::{Map, Value, json};

use super::input;
use super::store::{Record, TenantResponses};
use super::tell::{ResponseDialect, Saving};
use crate::chat::{Ask, Read};
use crate::error::ApiError;
use crate::state::AppState;

/// Answers before this one, at most.
const MOST_LINKS: usize = 256;

/// # Errors
/// 400 that names the field, or 404 for a model or an earlier response that is not there.
pub fn read(
    mut body: Map<String, Value>,
    state: &AppState,
    stored: TenantResponses,
) -> Result<Read, ApiError> {
    body.retain(|_, value| !value.is_null());
    refuse(&body)?;
    let request = ResponseRequest::from_body(&body)?;
    let items = input::items(request.input.as_ref())?;
    let mut messages = Vec::new();
    if let Some(instructions) = &request.instructions {
        messages.push(json!({"role": "system", "content": instructions}));
    }
    if let Some(previous) = &request.previous_response_id {
        let before = conversation(&stored, previous)?;
        messages.extend(input::messages(&before, "previous_response_id")?);
    }
    messages.extend(input::messages(&items, "input")?);
    let store = request.store.unwrap_or(true);
    let settings = settings(&body);
    let chat = chat(body, messages)?;
    let ask = Ask::read(chat, &state.pool)?;
    let dialect = ResponseDialect {
        settings: Arc::new(settings),
        logprobs: ask.sampling.logprobs.is_some(),
        saving: store.then(|| Saving { stored, tasks: state.tasks.clone(), input: items.into() }),
    };
    Ok((ask, Box::new(dialect)))
}

/// Items of all responses up to this one, oldest first.
fn conversation(stored: &TenantResponses, last: &str) -> Result<Vec<Value>, ApiError> {
    let mut links = Vec::new();
    let mut next = Some(last.to_owned());
    while let Some(id) = next {
        if links.len() == MOST_LINKS {
            let message = format!("'previous_response_id' leads back over more than {MOST_LINKS} responses.");
            return Err(ApiError::invalid("previous_response_id", message));
        }
        let Record { response, input } = stored.get(&id).ok_or_else(|| {
            let message = format!("Previous response with id '{id}' not found.");
            let mut error = ApiError::invalid("previous_response_id", message);
            error.body.code = Some("previous_response_not_found".to_owned());
            error
        })?;
        next = response["previous_response_id"].as_str().map(str::to_owned);
        let output = response["output"].as_array().cloned().unwrap_or_default();
        links.push(input.into_iter().chain(output));
    }
    Ok(links.into_iter().rev().flatten().collect())
}

fn refuse(body: &Map<String, Value>) -> Result<(), ApiError> {
    let is = |name: &str, value: &Value| body.get(name) == Some(value);
    let unsupported = |field: &str, why: &str| {
        Err(ApiError::unsupported(
            field,
            format!("Unsupported parameter: '{field}' is not supported: {why}."),
        ))
    };
    if is("background", &json!(true)) {
        return unsupported("background", "an answer is made while its client waits");
    }
    if body.contains_key("conversation") {
        return unsupported("conversation", "use 'previous_response_id'");
    }
    if body.contains_key("prompt") {
        return unsupported("prompt", "there are no stored prompts here");
    }
    if body.contains_key("truncation") && !is("truncation", &json!("disabled")) {
        return unsupported("truncation", "no turn is left out in silence");
    }
    for include in body.get("include").and_then(Value::as_array).into_iter().flatten() {
        if !matches!(include.as_str(), Some(LOGPROBS | "reasoning.encrypted_content")) {
            return unsupported("include", "only log probabilities can be included");
        }
    }
    Ok(())
}

const LOGPROBS: &str = "message.output_text.logprobs";

/// The body as a client of chat completions would have sent it. Fields that are not known here go along.
fn chat(mut body: Map<String, Value>, messages: Vec<Value>) -> Result<Map<String, Value>, ApiError> {
    for field in
        ["input", "instructions", "previous_response_id", "truncation", "background", "max_tool_calls"]
    {
        body.remove(field);
    }
    // What is in it only concerns how events are padded.
    body.remove("stream_options");
    let includes = body.remove("include");
    let logprobs =
        includes.as_ref().and_then(Value::as_array).is_some_and(|all| all.contains(&json!(LOGPROBS)));
    if logprobs {
        body.insert("logprobs".to_owned(), json!(true));
    } else if body.get("top_logprobs") == Some(&json!(0)) {
        body.remove("top_logprobs");
    }
    body.insert("messages".to_owned(), Value::Array(messages));
    if let Some(most) = body.remove("max_output_tokens") {
        body.insert("max_completion_tokens".to_owned(), most);
    }
    if let Some(text) = body.remove("text") {
        if let Some(format) = text.get("format").filter(|format| !format.is_null()) {
            body.insert("response_format".to_owned(), response_format(format));
        }
        if let Some(verbosity) = text.get("verbosity").filter(|verbosity| !verbosity.is_null()) {
            body.insert("verbosity".to_owned(), verbosity.clone());
        }
    }
    if let Some(effort) = body.remove("reasoning").and_then(|reasoning| reasoning.get("effort").cloned()) {
        body.insert("reasoning_effort".to_owned(), effort);
    }
    if let Some(tools) = body.remove("tools") {
        body.insert("tools".to_owned(), self::tools(tools)?);
    }
    if let Some(choice) = body.get_mut("tool_choice")
        && let Some(name) = choice.get("name").cloned()
    {
        *choice = json!({"type": choice["type"], "function": {"name": name}});
    }
    Ok(body)
}

fn response_format(format: &Value) -> Value {
    if format["type"] != "json_schema" {
        return format.clone();
    }
    let mut named = format.as_object().cloned().unwrap_or_default();
    named.remove("type");
    json!({"type": "json_schema", "json_schema": named})
}

fn tools(tools: Value) -> Result<Value, ApiError> {
    let Value::Array(tools) = tools else { return Ok(tools) };
    let tools = tools.into_iter().enumerate().map(|(index, tool)| {
        let Value::Object(mut function) = tool else { return Ok(tool) };
        let kind = function.remove("type").unwrap_or_default();
        if kind != "function" {
            let field = format!("tools[{index}].type");
            let message = format!("Unsupported '{field}': {kind} is not 'function'.");
            return Err(ApiError::unsupported(field, message));
        }
        function.retain(|_, value| !value.is_null());
        Ok(json!({"type": kind, "function": function}))
    });
    tools.collect()
}

/// What a response tells of how it was asked for.
fn settings(body: &Map<String, Value>) -> Map<String, Value> {
    let given = |name: &str, absent: Value| (name.to_owned(), body.get(name).cloned().unwrap_or(absent));
    [
        given("instructions", Value::Null),
        given("max_output_tokens", Value::Null),
        given("metadata", json!({})),
        given("parallel_tool_calls", json!(true)),
        given("previous_response_id", Value::Null),
        given("reasoning", json!({"effort": null, "summary": null})),
        given("store", json!(true)),
        given("temperature", json!(1.0)),
        given("text", json!({"format": {"type": "text"}})),
        given("tool_choice", json!("auto")),
        given("tools", json!([])),
        given("top_logprobs", json!(0)),
        given("top_p", json!(1.0)),
        given("truncation", json!("disabled")),
        given("user", Value::Null),
    ]
    .into_iter()
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(map) => map,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn fields_become_those_of_a_chat() {
        let body = map(json!({
            "model": "m", "input": "q", "max_output_tokens": 5, "reasoning": {"effort": "low"}, "user": "u",
            "include": [LOGPROBS], "top_logprobs": 2, "from_the_future": 1, "stream_options": {"include_obfuscation": false},
            "text": {"format": {"type": "json_schema", "name": "a", "schema": {}, "strict": true}},
            "tools": [{"type": "function", "name": "f", "parameters": {}, "strict": null}],
            "tool_choice": {"type": "function", "name": "f"},
        }));
        let chat = chat(body, vec![json!({"role": "user", "content": "q"})]).unwrap();
        assert_eq!(
            Value::Object(chat),
            json!({
                "model": "m", "user": "u", "top_logprobs": 2, "from_the_future": 1,
                "tool_choice": {"type": "function", "function": {"name": "f"}}, "logprobs": true,
                "messages": [{"role": "user", "content": "q"}], "max_completion_tokens": 5,
                "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {}, "strict": true}},
                "reasoning_effort": "low",
                "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
            })
        );
    }

    #[test]
    fn what_is_not_there_is_refused_by_name() {
        for (field, value) in [
            ("background", json!(true)),
            ("conversation", json!("conv_1")),
            ("prompt", json!({"id": "p"})),
            ("truncation", json!("auto")),
            ("include", json!(["file_search_call.results"])),
        ] {
            let error = refuse(&map(json!({ field: value }))).expect_err(field);
            assert_eq!((error.status.as_u16(), error.body.param.as_deref()), (400, Some(field)));
        }
        let error = tools(json!([{"type": "web_search"}])).expect_err("no such tool");
        assert_eq!(error.body.param.as_deref(), Some("tools[0].type"));
        assert!(refuse(&map(json!({"background": false, "truncation": "disabled", "include": []}))).is_ok());
    }
}
