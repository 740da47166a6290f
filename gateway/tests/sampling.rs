//! Fields that say how tokens are drawn, and what is told of the draws, with the real model.
#![cfg(test)]

mod support;

use serde_json::{Value, json};
use support::upstream::{Script, Upstream};
use support::{CAPITAL, Gateway, Setup, ask, ask_streamed};

/// Tokens of SmolLM2's vocabulary.
const SHIP: u32 = 5575;
const THE: u32 = 504;

const OFF: [(&str, &str); 1] = [("x-reprise-cache", "off")];

fn with(mut body: Value, fields: Value) -> Value {
    match (&mut body, fields) {
        (Value::Object(body), Value::Object(fields)) => body.extend(fields),
        other => panic!("not two objects: {other:?}"),
    }
    body
}

fn bytes(token: &Value) -> Vec<u8> {
    let bytes = token["bytes"].as_array().unwrap_or_else(|| panic!("no bytes: {token}"));
    bytes.iter().map(|byte| byte.as_u64().and_then(|byte| byte.try_into().ok()).expect("a byte")).collect()
}

#[tokio::test]
async fn logprobs_belong_to_the_text() {
    let gateway = Gateway::start(Setup::small()).await;
    let fields = json!({"logprobs": true, "top_logprobs": 4});
    let reply = gateway.chat(&with(ask("small", CAPITAL), fields.clone())).await;
    let json = reply.json();
    let logprobs = &json["choices"][0]["logprobs"];
    assert!(logprobs["refusal"].is_null());
    let content = logprobs["content"].as_array().expect("a list");
    let joined: Vec<u8> = content.iter().flat_map(bytes).collect();
    assert_eq!(String::from_utf8(joined).expect("text"), reply.text());
    // The end of the turn is not among them, and may be counted or not.
    let counted = json["usage"]["completion_tokens"].as_u64().expect("a count");
    assert!((content.len() as u64).abs_diff(counted) <= 1, "{json:#}");
    for token in content {
        let top = token["top_logprobs"].as_array().expect("a list");
        assert_eq!(top.len(), 4);
        assert_eq!((&top[0]["token"], &top[0]["logprob"]), (&token["token"], &token["logprob"]), "greedy");
        let logprob = |token: &Value| token["logprob"].as_f64().expect("a number");
        assert!(top.windows(2).all(|pair| logprob(&pair[0]) >= logprob(&pair[1])), "{token:#}");
        assert!(top.iter().map(|token| logprob(token).exp()).sum::<f64>() <= 1.0 + 1e-4, "{token:#}");
    }

    // Never from the store without them, nor with them where they were not asked for.
    assert_eq!(gateway.chat(&ask("small", CAPITAL)).await.json()["choices"][0]["logprobs"], Value::Null);
    // No examples, which would change the prompt.
    let alone = ("x-reprise-max-examples", "0");
    let again = gateway.chat_with(&with(ask("small", CAPITAL), fields.clone()), &[alone]).await;
    assert_eq!((again.cache(), &again.json()["choices"][0]["logprobs"]), ("MISS", logprobs));
    let plain = gateway.chat(&ask("small", CAPITAL)).await;
    assert_eq!((plain.cache(), &plain.json()["choices"][0]["logprobs"]), ("HIT", &Value::Null));
    let bare = gateway.chat(&with(ask("small", CAPITAL), json!({"logprobs": true}))).await.json();
    assert_eq!(bare["choices"][0]["logprobs"]["content"][0]["top_logprobs"], json!([]));

    let streamed = gateway.chat_with(&with(ask_streamed("small", CAPITAL), fields), &[alone]).await;
    let told: Vec<Value> = streamed
        .chunks()
        .iter()
        .flat_map(|chunk| chunk["choices"][0]["logprobs"]["content"].as_array().cloned().unwrap_or_default())
        .collect();
    assert_eq!(&told, content);
}

#[tokio::test]
async fn what_a_stop_string_cuts_has_no_logprobs() {
    let gateway = Gateway::start(Setup::small()).await;
    let reply = gateway.chat(&with(ask("small", CAPITAL), json!({"logprobs": true, "stop": "erlin"}))).await;
    let json = reply.json();
    let content = json["choices"][0]["logprobs"]["content"].as_array().expect("a list");
    let joined = String::from_utf8(content.iter().flat_map(bytes).collect()).expect("text");
    assert!(reply.text().ends_with(" B") && !joined.contains('B'), "{joined:?} of {:?}", reply.text());
    assert!(reply.text().starts_with(&joined) && joined.ends_with("is"), "{joined:?}");
}

#[tokio::test]
async fn a_bias_forces_and_forbids() {
    let gateway = Gateway::start(Setup::small()).await;
    let answer = async |fields: Value| gateway.chat_with(&with(ask("small", CAPITAL), fields), &OFF).await;
    let forced = answer(json!({"logit_bias": {SHIP.to_string(): 100}, "max_tokens": 3})).await;
    assert_eq!(forced.text(), " ship ship ship");
    assert_eq!(forced.json()["choices"][0]["finish_reason"], "length");
    let free = answer(json!({})).await.text();
    assert!(free.starts_with("The"), "{free}");
    let forbidden = answer(json!({"logit_bias": {THE.to_string(): -100}})).await.text();
    assert!(!forbidden.starts_with("The"), "{forbidden}");
    // What the model itself thinks is told, not the bias.
    let told = answer(
        json!({"logit_bias": {SHIP.to_string(): 100}, "max_tokens": 1, "logprobs": true, "top_logprobs": 1}),
    )
    .await
    .json();
    let token = &told["choices"][0]["logprobs"]["content"][0];
    assert_eq!((&token["token"], &token["top_logprobs"][0]["token"]), (&json!(" ship"), &json!("The")));
    assert!(token["logprob"].as_f64() < token["top_logprobs"][0]["logprob"].as_f64());

    answer(json!({"logit_bias": {"49152": 1}})).await.assert_names("logit_bias");
    gateway.until_idle().await;
}

#[tokio::test]
async fn penalties_lessen_repetition_and_narrowing_leaves_the_likeliest() {
    let gateway = Gateway::start(Setup::small()).await;
    let answer =
        async |fields: Value| gateway.chat_with(&with(ask("small", CAPITAL), fields), &OFF).await.text();
    // Bias makes the model say one word over and over; a penalty takes it off again after a while.
    let forced = json!({"logit_bias": {SHIP.to_string(): 25}, "max_tokens": 32});
    let ships = |text: String| text.matches(" ship").count();
    let without = ships(answer(forced.clone()).await);
    assert!(without > 8, "{without}");
    for penalty in [json!({"frequency_penalty": 2}), json!({"repetition_penalty": 2})] {
        let with = ships(answer(with(forced.clone(), penalty.clone())).await);
        assert!(with < without, "{penalty}: {with} of {without}");
    }
    let without = answer(json!({"max_tokens": 32, "presence_penalty": -2})).await;
    assert!(!without.is_empty());

    let greedy = answer(json!({"max_tokens": 24})).await;
    for narrowed in [json!({"top_k": 1}), json!({"min_p": 1}), json!({"top_p": 1e-6})] {
        let drawn =
            answer(with(json!({"temperature": 2, "seed": 3, "max_tokens": 24}), narrowed.clone())).await;
        assert_eq!(drawn, greedy, "{narrowed} leaves one token to draw");
    }
}

#[tokio::test]
async fn several_choices_in_one_answer() {
    let gateway = Gateway::start(Setup::small()).await;
    let drawn = json!({"temperature": 1.5, "seed": 7, "max_tokens": 12});
    let alone = gateway.chat_with(&with(ask("small", CAPITAL), drawn.clone()), &OFF).await;
    let three = with(with(ask("small", CAPITAL), drawn), json!({"n": 3}));
    // No examples, which would change the prompt.
    let answer = async |body: &Value| gateway.chat_with(body, &[("x-reprise-max-examples", "0")]).await;
    let reply = answer(&three).await;
    let json = reply.json();
    let texts = |json: &Value| -> Vec<String> {
        let choices = json["choices"].as_array().expect("choices");
        choices.iter().map(|choice| choice["message"]["content"].as_str().expect("text").to_owned()).collect()
    };
    let told = texts(&json);
    assert_eq!(told.len(), 3);
    assert_eq!(told[0], alone.text(), "the first is what the seed gives alone");
    assert!(told[1] != told[0] || told[2] != told[0], "{told:?}");
    assert_eq!(json["usage"]["prompt_tokens"], alone.json()["usage"]["prompt_tokens"], "counted once");
    let counted = json["usage"]["completion_tokens"].as_u64().expect("a count");
    assert!(counted > alone.json()["usage"]["completion_tokens"].as_u64().expect("a count"));
    let again = answer(&three).await;
    assert_ne!(again.cache(), "HIT");
    assert_eq!(texts(&again.json()), told, "seeded, all of them come again");

    let streamed = with(three, json!({"stream": true, "stream_options": {"include_usage": true}}));
    let chunks = answer(&streamed).await.chunks();
    for (index, text) in told.iter().enumerate() {
        let of_choice =
            chunks.iter().map(|chunk| &chunk["choices"][0]).filter(|choice| choice["index"] == index);
        let streamed: String = of_choice.filter_map(|choice| choice["delta"]["content"].as_str()).collect();
        assert_eq!(&streamed, text);
    }
    assert_eq!(chunks.last().expect("chunks")["usage"], json["usage"]);
    gateway.until_idle().await;
}

#[tokio::test]
async fn a_remote_tier_gets_the_fields_and_its_logprobs_come_back() {
    let upstream = Upstream::start(Script::AnswerWithLogprobs("far away")).await;
    let gateway = Gateway::start(Setup::empty().remote("far", 1.0, &upstream.base_url)).await;
    let fields = json!({
        "logprobs": true, "top_logprobs": 2, "logit_bias": {"5": -1}, "frequency_penalty": 0.5, "presence_penalty": -0.5,
        "top_k": 9, "min_p": 0.1, "repetition_penalty": 1.2,
    });
    let body = with(ask("far", CAPITAL), fields.clone());
    let json = gateway.chat(&body).await.json();
    let sent = upstream.last();
    for (name, value) in fields.as_object().expect("an object") {
        assert_eq!(&sent[name], value, "{name}");
    }
    let tokens: Vec<&Value> = json["choices"][0]["logprobs"]["content"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|token| &token["token"])
        .collect();
    assert_eq!(tokens, ["far ", "away"]);
    assert_eq!(json["choices"][0]["logprobs"]["content"][0]["top_logprobs"][0]["logprob"], -0.5);
    // Without being asked for they are not told, and an upstream that has none is borne.
    assert!(gateway.chat_with(&ask("far", CAPITAL), &OFF).await.json()["choices"][0]["logprobs"].is_null());
    upstream.play(Script::Answer("far away"));
    let without = gateway.chat(&body).await;
    assert_eq!(
        (without.text().as_str(), &without.json()["choices"][0]["logprobs"]),
        ("far away", &Value::Null)
    );

    let before = upstream.requests();
    let two = gateway.chat(&with(ask("far", CAPITAL), json!({"n": 2, "seed": 1}))).await.json();
    assert_eq!(two["choices"].as_array().map(Vec::len), Some(2));
    assert_eq!(upstream.requests(), before + 2, "one request for each");
    assert!(upstream.last()["n"].is_null());
}
