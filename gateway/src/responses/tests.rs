use reprise_openai::responses::{Response, ResponseEvent};
use reprise_openai::sse::EventReader;
use reprise_router::PolicyKind;
use serde_json::{Value, json};

use crate::chat::scripted::{Play, Scripted, Stage, json, text};

fn ask(input: &str, previous: Option<&str>) -> Value {
    json!({"model": "small", "input": input, "previous_response_id": previous, "instructions": "be brief"})
}

async fn create(stage: &Stage, body: &Value) -> Value {
    json(stage.send_to("POST", "/v1/responses", body, &[("x-reprise-cache", "off")]).await).await
}

fn path(response: &Value) -> String {
    format!("/v1/responses/{}", response["id"].as_str().unwrap())
}

#[tokio::test]
async fn a_conversation_goes_on_from_what_was_stored() {
    let small = Scripted::new("small", 0.1, &[Play::Say("blue"), Play::Say("red"), Play::Say("green")]);
    let stage = Stage::new(PolicyKind::SmallPlain, &[&small]);
    let first = create(&stage, &ask("sky?", None)).await;
    assert_eq!((&first["object"], &first["status"]), (&json!("response"), &json!("completed")));
    assert_eq!(first["output"][0]["content"][0]["text"], "blue");
    let id = |response: &Value| response["id"].as_str().unwrap().to_owned();
    let second = create(&stage, &ask("fire?", Some(&id(&first)))).await;
    create(&stage, &ask("grass?", Some(&id(&second)))).await;
    let asked = small.asked.lock().last().unwrap().messages.clone();
    let told: Vec<(&str, &str)> =
        asked.iter().map(|message| (message.role.as_str(), message.content.as_str())).collect();
    assert_eq!(
        told,
        [
            ("system", "be brief"),
            ("user", "sky?"),
            ("assistant", "blue"),
            ("user", "fire?"),
            ("assistant", "red"),
            ("user", "grass?"),
        ]
    );
    let got = json(stage.send_to("GET", &path(&second), &Value::Null, &[]).await).await;
    assert_eq!(got, second);
    let items =
        json(stage.send_to("GET", &format!("{}/input_items", path(&second)), &Value::Null, &[]).await).await;
    assert_eq!(items["data"][0]["content"], "fire?");
    let gone = json(stage.send_to("DELETE", &path(&first), &Value::Null, &[]).await).await;
    assert_eq!(gone["deleted"], true);
    let status = |response: axum::response::Response| response.status().as_u16();
    assert_eq!(status(stage.send_to("GET", &path(&first), &Value::Null, &[]).await), 404);
    assert_eq!(status(stage.send_to("DELETE", &path(&first), &Value::Null, &[]).await), 404);
    let broken = create(&stage, &ask("and?", Some(&id(&second)))).await;
    assert_eq!(broken["error"]["param"], "previous_response_id", "what it leads back to was deleted");
}

#[tokio::test]
async fn what_is_not_to_be_stored_is_not() {
    let small = Scripted::new("small", 0.1, &[Play::Say("blue")]);
    let stage = Stage::new(PolicyKind::SmallPlain, &[&small]);
    let mut body = ask("sky?", None);
    body["store"] = false.into();
    let response = create(&stage, &body).await;
    assert_eq!(response["store"], false);
    assert_eq!(stage.send_to("GET", &path(&response), &Value::Null, &[]).await.status().as_u16(), 404);
}

#[tokio::test]
async fn a_stream_is_stored_as_it_was_told() {
    let small = Scripted::new("small", 0.1, &[Play::Call("I look. ", "f", &["{}"])]);
    let stage = Stage::new(PolicyKind::SmallPlain, &[&small]);
    let body = json!({"model": "small", "input": [{"role": "user", "content": "sky?"}], "stream": true,
                      "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}}]});
    let events = text(stage.send_to("POST", "/v1/responses", &body, &[]).await).await;
    let last = events.lines().filter_map(|line| line.strip_prefix("data: ")).next_back().unwrap();
    let last: Value = serde_json::from_str(last).unwrap();
    assert_eq!(last["type"], "response.completed");
    let kinds: Vec<&Value> =
        last["response"]["output"].as_array().unwrap().iter().map(|item| &item["type"]).collect();
    assert_eq!(kinds, ["message", "function_call"]);
    let got = json(stage.send_to("GET", &path(&last["response"]), &Value::Null, &[]).await).await;
    assert_eq!(got, last["response"]);
    assert_eq!(small.asked.lock()[0].tools.as_ref().unwrap().functions[0].name, "f");
}

#[tokio::test]
async fn mistakes_are_told_in_the_names_of_this_api() {
    let small = Scripted::new("small", 0.1, &[Play::Say("blue")]);
    let stage = Stage::new(PolicyKind::SmallPlain, &[&small]);
    for (fields, param) in [
        (json!({"input": []}), "input"),
        (json!({"input": [{"role": "robot", "content": "x"}]}), "input"),
        (json!({"max_output_tokens": 0}), "max_output_tokens"),
        (
            json!({"text": {"format": {"type": "json_schema", "name": "a b", "schema": {}}}}),
            "text.format.name",
        ),
        (json!({"tools": [{"type": "function", "name": "a b"}]}), "tools[0].name"),
        (json!({"tool_choice": "required"}), "tool_choice"),
        (json!({"previous_response_id": "resp_0123456789abcdef0123456789abcdef"}), "previous_response_id"),
        (json!({"reasoning": {"effort": "low"}}), "reasoning.effort"),
        (json!({"store": "yes"}), "store"),
        (json!({"temperature": 9}), "temperature"),
    ] {
        let mut body = ask("sky?", None);
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let response = stage.send_to("POST", "/v1/responses", &body, &[]).await;
        assert_eq!(response.status().as_u16(), 400, "{fields}");
        assert_eq!(json(response).await["error"]["param"], param, "{fields}");
    }
}

/// What is told is what the document says of it: the wire type has every field of it, and no other.
#[tokio::test]
async fn responses_are_of_their_wire_type() {
    let script = [Play::Say("blue"), Play::Call("I look. ", "f", &["{}"]), Play::Say("blue")];
    let small = Scripted::new("small", 0.1, &script);
    let stage = Stage::new(PolicyKind::SmallPlain, &[&small]);
    let tools = json!([{"type": "function", "name": "f", "parameters": {"type": "object"}}]);
    for more in [json!({}), json!({ "tools": tools }), json!({"include": ["message.output_text.logprobs"]})] {
        let mut body = ask("sky?", None);
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let told = create(&stage, &body).await;
        let read: Response = serde_json::from_value(told.clone()).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), told);
        body["stream"] = true.into();
        let events = text(stage.send_to("POST", "/v1/responses", &body, &[]).await).await;
        for event in EventReader::default().push(events.as_bytes()).unwrap() {
            let told: Value = serde_json::from_str(&event.data).unwrap();
            let read: ResponseEvent = serde_json::from_value(told.clone()).unwrap();
            assert_eq!(serde_json::to_value(&read).unwrap(), told);
        }
    }
}
