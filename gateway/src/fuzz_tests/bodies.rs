//! Bodies that hold, any JSON, and what comes of the two.

use http::Method;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Map, Value, json};

/// Bodies that hold, for each endpoint that takes one.
pub fn valid() -> Vec<(Method, &'static str, Value)> {
    let tool = json!({"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}, "strict": true}});
    let chat = json!({
        "model": "auto", "temperature": 0, "top_p": 0.5, "n": 1, "max_tokens": 5, "stop": ["x"], "seed": 7, "stream": false,
        "frequency_penalty": 0.5, "presence_penalty": -0.5, "logprobs": true, "top_logprobs": 2, "user": "u", "metadata": {"a": "b"},
        "top_k": 4, "min_p": 0.1, "repetition_penalty": 1.1, "parallel_tool_calls": true,
        "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object", "properties": {"a": {"enum": [1]}}}}},
        "messages": [
            {"role": "system", "content": "be brief"}, {"role": "user", "content": [{"type": "text", "text": "which colour"}]},
            {"role": "assistant", "content": null, "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "c", "content": "blue"}, {"role": "user", "content": "which colour has the sky"},
        ],
    });
    let with_tools = json!({"model": "large", "messages": [{"role": "user", "content": "call"}], "tools": [tool], "tool_choice": {"type": "function", "function": {"name": "f"}}, "stream": true, "stream_options": {"include_usage": true}});
    let completion = json!({"model": "small", "prompt": ["a", "b"], "max_tokens": 3, "echo": true, "n": 2, "logprobs": null, "suffix": "", "best_of": 2, "stream": true, "logit_bias": {"5": 1}});
    let response = json!({
        "model": "small", "instructions": "be brief", "max_output_tokens": 5, "store": true, "include": ["message.output_text.logprobs"],
        "text": {"format": {"type": "json_object"}}, "reasoning": {"effort": null}, "tool_choice": "auto", "previous_response_id": null,
        "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}}], "truncation": "disabled", "top_logprobs": 1,
        "input": [{"role": "user", "content": [{"type": "input_text", "text": "q"}]}, {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
                  {"type": "function_call_output", "call_id": "c", "output": "1"}],
    });
    let weights = json!({"dimensions": 1, "projection": [1.0], "hidden": [1.0], "hidden_bias": [0.0], "output": [0.0], "direct": [1.0], "bias": 0.0, "calibration": [[0.0, 0.0], [1.0, 1.0]], "tau": 0.5, "trained_on": "x"});
    vec![
        (Method::POST, "/v1/chat/completions", chat),
        (Method::POST, "/v1/chat/completions", with_tools),
        (Method::POST, "/v1/completions", completion),
        (Method::POST, "/v1/responses", response),
        (
            Method::POST,
            "/v1/embeddings",
            json!({"model": "all-minilm-l6-v2", "input": ["a", "b c"], "encoding_format": "base64", "dimensions": 256}),
        ),
        (
            Method::POST,
            "/v1/feedback",
            json!({"request_id": "r", "rating": 0.5, "preference": null, "corrected": null}),
        ),
        (
            Method::POST,
            "/admin/v1/examples/import",
            json!({"tenant": "t", "examples": [{"request": "q", "answer": "a", "quality": 0.5, "source": "s", "instructions": "i"}]}),
        ),
        (
            Method::PATCH,
            "/admin/v1/examples/0192d3a0-0000-7000-8000-000000000000?tenant=t",
            json!({"answer": "a", "quality": 0.5, "source_tier": "s", "replayed": true}),
        ),
        (
            Method::POST,
            "/admin/v1/keys",
            json!({"name": "n", "tenant": "t", "tiers": ["small"], "limits": {"budget_money": 1.5, "budget_period": "day"}, "expires_at": "2030-01-01T00:00:00Z"}),
        ),
        (
            Method::PATCH,
            "/admin/v1/keys/key_0",
            json!({"name": "n", "tiers": null, "limits": {"tokens_per_minute": 5}, "expires_at": null}),
        ),
        (Method::PUT, "/admin/v1/router/policy", json!({"policy": "bandit"})),
        (Method::PUT, "/admin/v1/utility", weights),
        (Method::PUT, "/admin/v1/utility/active", json!({"version": 0})),
        (Method::POST, "/admin/v1/replay/lease", json!({"holder": "h", "ttl_s": 1})),
        (Method::PUT, "/admin/v1/replay/lease/0192d3a0-0000-7000-8000-000000000000", json!({"ttl_s": 1})),
        (
            Method::POST,
            "/admin/v1/replay/runs",
            json!({"stopped_because": "budget", "improved": [{}], "tokens_spent": 5}),
        ),
    ]
}

pub fn any_json() -> impl Strategy<Value = Value> {
    let odd = [
        "",
        "auto",
        "small",
        "none",
        "required",
        "function",
        "json_object",
        "\u{0}",
        "😀",
        "9",
        "-1",
        "text",
        "user",
        "system",
        "message",
        "base64",
        "../..",
        "resp_0123456789abcdef0123456789abcdef",
        "{}",
        "[]",
        "null",
        "Infinity",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-3_i64..40).prop_map(Value::from),
        any::<f64>().prop_map(|n| json!(n)),
        select(odd.to_vec()).prop_map(Value::from),
        "\\PC{0,24}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 5, |inner| {
        let name = prop_oneof![
            "\\PC{0,8}",
            select(&["type", "role", "content", "name", "schema", "function", "$ref"][..])
                .prop_map(str::to_owned)
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((name, inner), 0..5).prop_map(|pairs| Value::Object(Map::from_iter(pairs))),
        ]
    })
}

/// A value of `whole`, however deep, is replaced.
pub fn mutate(whole: &mut Value, at: Index, new: &Value, remove: bool) {
    let mut left = at.index(count(whole));
    place(whole, &mut left, new, remove);
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Object(map) => map.values().map(count).sum(),
        Value::Array(values) => values.iter().map(count).sum::<usize>(),
        _ => 0,
    }
}

/// True once it is done.
fn place(value: &mut Value, left: &mut usize, new: &Value, remove: bool) -> bool {
    if *left == 0 {
        *value = new.clone();
        return true;
    }
    *left -= 1;
    match value {
        Value::Object(map) if remove && *left == 0 => {
            let first = map.keys().next().cloned();
            first.is_some_and(|name| map.shift_remove(&name).is_some())
        }
        Value::Object(map) => map.values_mut().any(|value| place(value, left, new, remove)),
        Value::Array(values) => values.iter_mut().any(|value| place(value, left, new, remove)),
        _ => false,
    }
}
