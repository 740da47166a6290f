//! A gateway that keeps the contract's promises in memory. Model answers are a function of the request, so each test
//! says what its models know.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reprise_replay::gateway::{Gateway, Keys};
use serde_json::{Value, json};
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

type Model = dyn Fn(&Asked) -> ResponseTemplate + Send + Sync;

/// A chat request as it arrived.
#[derive(Debug, Clone)]
pub struct Asked {
    pub body: Value,
    pub prompt: String,
    pub policy: String,
    pub headers: BTreeMap<String, String>,
    /// How many chats came before.
    pub index: usize,
}

#[derive(Debug, Default)]
pub struct State {
    pub policy: String,
    pub policies_set: Vec<String>,
    pub chats: Vec<Asked>,
    pub imports: Vec<Value>,
    pub ratings: Vec<Value>,
    pub examples: Vec<Value>,
    pub patches: Vec<(String, Value)>,
    pub runs: Vec<Value>,
    pub lease: Option<String>,
    pub leases_released: usize,
    pub busy: bool,
    /// Calls of import that still find no room.
    pub imports_to_refuse: usize,
    /// Tiers beside small and large.
    pub more_tiers: Vec<Value>,
}

pub struct Fake {
    pub server: MockServer,
    pub state: Arc<Mutex<State>>,
}

impl Fake {
    pub async fn start(model: impl Fn(&Asked) -> ResponseTemplate + Send + Sync + 'static) -> Self {
        let state = Arc::new(Mutex::new(State { policy: "bandit".into(), ..State::default() }));
        let server = MockServer::start().await;
        let responder = Responder { state: Arc::clone(&state), model: Box::new(model) };
        Mock::given(any()).respond_with(responder).mount(&server).await;
        Self { server, state }
    }

    pub fn gateway(&self) -> Gateway {
        Gateway::new(&self.server.uri(), Keys::default()).unwrap()
    }

    pub fn state<T>(&self, read: impl FnOnce(&mut State) -> T) -> T {
        read(&mut self.state.lock().unwrap())
    }
}

/// A streamed answer as the gateway sends it: role, one delta a word, finish, usage, [DONE].
pub fn stream(text: &str) -> ResponseTemplate {
    let chunk = |delta: Value, finish: Value| {
        let chunk = json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]});
        format!("data: {chunk}\n\n")
    };
    let mut body = chunk(json!({"role": "assistant", "content": ""}), Value::Null);
    for word in text.split_inclusive(' ') {
        body.push_str(&chunk(json!({ "content": word }), Value::Null));
    }
    body.push_str(&chunk(json!({}), json!("stop")));
    let usage = json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [],
        "usage": {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}});
    body.push_str(&format!("data: {usage}\n\ndata: [DONE]\n\n"));
    ResponseTemplate::new(200)
        .set_body_raw(body, "text/event-stream")
        .insert_header("x-reprise-tier", "small")
        .insert_header("x-reprise-cache", "EXAMPLES")
        .insert_header("x-reprise-examples", "2")
        .insert_header("x-reprise-similarity", "0.81")
        .insert_header("x-reprise-overhead-ms", "1.5")
}

/// A whole answer.
pub fn whole(text: &str) -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_json(json!({"id": "c", "object": "chat.completion", "created": 1,
        "model": "m", "choices": [{"index": 0, "message": {"role": "assistant", "content": text},
        "finish_reason": "stop"}], "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}}))
}

pub fn error(status: u16, message: &str) -> ResponseTemplate {
    ResponseTemplate::new(status).set_body_json(json!({"error": {"message": message, "type": "server_error",
        "param": null, "code": "broken"}}))
}

pub fn after(delay_ms: u64, response: ResponseTemplate) -> ResponseTemplate {
    response.set_delay(Duration::from_millis(delay_ms))
}

struct Responder {
    state: Arc<Mutex<State>>,
    model: Box<Model>,
}

impl Respond for Responder {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let body: Value = serde_json::from_slice(&request.body).unwrap_or(Value::Null);
        let path = request.url.path().to_owned();
        let ok = |value: Value| ResponseTemplate::new(200).set_body_json(value);
        let mut state = self.state.lock().unwrap();
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        match (request.method.as_str(), parts.as_slice()) {
            ("POST", ["v1", "chat", "completions"]) => {
                let headers = request
                    .headers
                    .iter()
                    .map(|(name, value)| (name.to_string(), value.to_str().unwrap_or("").to_string()))
                    .collect();
                let asked = Asked {
                    prompt: body["messages"][0]["content"].as_str().unwrap_or("").to_string(),
                    body,
                    policy: state.policy.clone(),
                    headers,
                    index: state.chats.len(),
                };
                state.chats.push(asked.clone());
                drop(state);
                (self.model)(&asked).insert_header("x-request-id", format!("req-{}", asked.index))
            }
            ("POST", ["v1", "feedback"]) => {
                state.ratings.push(body);
                ResponseTemplate::new(202).set_body_json(json!({"accepted": true}))
            }
            ("GET", ["admin", "v1", "pool"]) => {
                let mut tiers = vec![
                    json!({"name": "small", "model": "model-s", "state": "ready", "cost": 0.1}),
                    json!({"name": "large", "model": "model-l", "state": "ready", "cost": 1.0}),
                ];
                tiers.extend(state.more_tiers.iter().cloned());
                ok(json!({"load": 0.1, "idle": !state.busy, "tiers": tiers}))
            }
            ("GET", ["admin", "v1", "router"]) => ok(json!({"policy": state.policy, "updates": 0})),
            ("GET", ["admin", "v1", "state"]) => ok(json!({"version": "0.1.0", "recent": ["secret"]})),
            ("PUT", ["admin", "v1", "router", "policy"]) => {
                let policy = body["policy"].as_str().unwrap().to_string();
                state.policies_set.push(policy.clone());
                let previous = std::mem::replace(&mut state.policy, policy.clone());
                ok(json!({"policy": policy, "previous": previous}))
            }
            ("GET", ["admin", "v1", "router", "decisions", _]) => {
                ok(json!({"examples": [{"tokens": 30}, {"tokens": 12}]}))
            }
            ("POST", ["admin", "v1", "examples", "import"]) if state.imports_to_refuse > 0 => {
                state.imports_to_refuse -= 1;
                error(503, "the embedder's queue is full").insert_header("retry-after", "1")
            }
            ("POST", ["admin", "v1", "examples", "import"]) => {
                let refused: Vec<Value> = body["examples"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .enumerate()
                    .filter(|(_, example)| example["answer"] == "bad")
                    .map(|(index, _)| json!({"index": index, "reason": "too bad"}))
                    .collect();
                let count = body["examples"].as_array().unwrap().len() - refused.len();
                state.imports.push(body);
                ok(json!({"inserted": count, "merged": 0, "refused": refused}))
            }
            ("GET", ["admin", "v1", "examples"]) => ok(page(&state, request)),
            ("GET", ["admin", "v1", "examples", id]) => match find(&mut state, id) {
                Some(example) => ok(example.clone()),
                None => error(404, "no such example"),
            },
            ("PATCH", ["admin", "v1", "examples", id]) => {
                let Some(example) = find(&mut state, id) else { return error(404, "no such example") };
                for field in ["answer", "quality", "source_tier"] {
                    if !body[field].is_null() {
                        example[field] = body[field].clone();
                    }
                }
                if !body["answer"].is_null() {
                    // The gain was that of the old answer.
                    example["replay_gain"] = json!(0.0);
                }
                if body["replayed"] == true {
                    example["replays"] = json!(example["replays"].as_u64().unwrap_or(0) + 1);
                }
                let example = example.clone();
                state.patches.push(((*id).to_string(), body));
                ok(example)
            }
            ("POST", ["admin", "v1", "replay", "lease"]) => match &state.lease {
                Some(holder) => error(409, &format!("the replay lease is held by {holder}")),
                None => {
                    state.lease = Some(body["holder"].as_str().unwrap().to_string());
                    ResponseTemplate::new(201).set_body_json(json!({"lease": "l1", "expires_in_s": 60}))
                }
            },
            ("PUT", ["admin", "v1", "replay", "lease", _]) if state.lease.is_some() => ok(json!({})),
            ("DELETE", ["admin", "v1", "replay", "lease", _]) => {
                state.lease = None;
                state.leases_released += 1;
                ResponseTemplate::new(204)
            }
            ("POST", ["admin", "v1", "replay", "runs"]) => {
                state.runs.push(body);
                ResponseTemplate::new(201).set_body_json(json!({"id": "run"}))
            }
            (method, _) => error(404, &format!("{method} {path} is not in the contract")),
        }
    }
}

fn find<'a>(state: &'a mut State, id: &str) -> Option<&'a mut Value> {
    state.examples.iter_mut().find(|example| example["id"] == id)
}

/// The examples by gain, in pages behind `after`.
fn page(state: &State, request: &Request) -> Value {
    let query: BTreeMap<_, _> = request.url.query_pairs().into_owned().collect();
    assert_eq!(query.get("order").map(String::as_str), Some("gain"));
    let tenant = query.get("tenant").cloned().unwrap_or_default();
    let of_tenant = |example: &&Value| example["tenant"].as_str().unwrap_or("default") == tenant;
    let mut examples: Vec<Value> = state.examples.iter().filter(of_tenant).cloned().collect();
    examples
        .sort_by(|a, b| b["replay_gain"].as_f64().unwrap().total_cmp(&a["replay_gain"].as_f64().unwrap()));
    let start = query
        .get("after")
        .map_or(0, |after| examples.iter().position(|example| example["id"] == after.as_str()).unwrap() + 1);
    let limit: usize = query["limit"].parse().unwrap();
    let data: Vec<Value> = examples.iter().skip(start).take(limit).cloned().collect();
    json!({"has_more": start + data.len() < examples.len(), "data": data})
}
