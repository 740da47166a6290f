use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use reprise_router::{RemoteConfig, RemoteConfigError, RemoteTier};
use reprise_tier::{
    Event, Finish, FinishReason, GenerateRequest, Generation, Message, Role, Tier, TierError, TierState,
};
use secrecy::SecretString;
use wiremock::{
    Mock, MockServer, ResponseTemplate,
    matchers::{body_partial_json, header, method, path},
};

use crate::server::{Then, keeping, upstream};

const HELLO: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"Grüß \"}}]}\r\n\r\n: keep-alive\r\n\r\n\
    data: {\"choices\":[{\"delta\":{\"content\":\"Gott\"},\"finish_reason\":\"stop\"}]}\r\n\r\n\
    data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":3,\"total_tokens\":10}}\r\n\r\n\
    data: [DONE]\r\n\r\n";

/// The start of an answer, up to its first piece of text.
fn first_event() -> Vec<u8> {
    HELLO.split_inclusive("\r\n\r\n").next().unwrap().into()
}

fn config(base: impl std::fmt::Display) -> RemoteConfig {
    RemoteConfig::new("far", format!("http://{base}/v1/"), "far-model", 1.0)
}

fn tier(base: impl std::fmt::Display) -> RemoteTier {
    RemoteTier::new(config(base)).unwrap()
}

fn request() -> GenerateRequest {
    GenerateRequest {
        id: "r-1".into(),
        messages: vec![Message::new(Role::User, "hello there")],
        max_tokens: Some(16),
        ..GenerateRequest::default()
    }
}

/// The whole answer: whether it was started, its text, its end.
async fn drain(mut generation: Generation) -> (bool, String, Result<Finish, TierError>) {
    let (mut started, mut text) = (false, String::new());
    while let Some(event) = generation.next().await {
        match event {
            Ok(Event::Started { .. }) => started = true,
            Ok(Event::Delta { text: delta, .. }) => text += &delta,
            Ok(Event::ToolCall { .. }) => panic!("a tool call"),
            Ok(Event::Finished(finish)) => {
                assert!(generation.next().await.is_none(), "nothing follows the end");
                return (started, text, Ok(finish));
            }
            Err(error) => {
                assert!(generation.next().await.is_none(), "nothing follows the error");
                return (started, text, Err(error));
            }
        }
    }
    panic!("a generation ended without a finish or an error")
}

async fn ask(tier: &RemoteTier) -> (bool, String, Result<Finish, TierError>) {
    drain(tier.submit(request()).unwrap()).await
}

async fn mock(response: ResponseTemplate) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(method("POST")).and(path("/v1/chat/completions")).respond_with(response).mount(&server).await;
    server
}

fn status(error: &TierError) -> (Option<u16>, Option<Duration>) {
    match error {
        TierError::Upstream { status, retry_after, .. } => (*status, *retry_after),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_stream_cut_at_every_byte_is_the_same_answer() {
    let upstream = upstream(HELLO.bytes().map(|byte| vec![byte]).collect(), Then::End).await;
    let (started, text, finish) = ask(&tier(upstream.address)).await;
    let finish = finish.unwrap();
    assert!(started);
    assert_eq!(text, "Grüß Gott");
    assert_eq!(
        (finish.reason, finish.usage.prompt_tokens, finish.usage.completion_tokens),
        (FinishReason::Stop, 7, 3)
    );
}

#[tokio::test]
async fn the_request_carries_the_key_and_the_clients_fields() {
    let server = MockServer::start().await;
    Mock::given(method("POST"))
        .and(path("/v1/chat/completions"))
        .and(header("authorization", "Bearer s3cret"))
        .and(body_partial_json(serde_json::json!({
            "model": "far-model", "stream": true, "stream_options": {"include_usage": true}, "logit_bias": {"5": 1},
            "messages": [{"role": "user", "content": "hello there"}]
        })))
        .respond_with(ResponseTemplate::new(200).set_body_raw(HELLO, "text/event-stream; charset=utf-8"))
        .expect(1)
        .mount(&server)
        .await;
    let key = Some(SecretString::from("s3cret"));
    let tier = RemoteTier::new(RemoteConfig { api_key: key, ..config(server.address()) }).unwrap();
    assert!(!format!("{tier:?}").contains("s3cret"));
    let serde_json::Value::Object(body) = serde_json::json!({"model": "auto", "stream": false, "logit_bias": {"5": 1}, "messages": [{"role": "user", "content": "hello there"}]})
    else {
        panic!()
    };
    let request = GenerateRequest { body: Some(body.into()), ..request() };
    let (_, text, finish) = drain(tier.submit(request).unwrap()).await;
    assert!(finish.is_ok());
    assert_eq!(text, "Grüß Gott");
}

#[tokio::test]
async fn a_connection_serves_one_request_after_the_other_unless_the_upstream_ends_it() {
    for (header, connections) in [("", 1), ("connection: close\r\n", 3)] {
        let (address, counted) = keeping(HELLO, header).await;
        let tier = tier(address);
        for _ in 0..3 {
            let (_, text, end) = ask(&tier).await;
            assert_eq!((text.as_str(), end.unwrap().reason), ("Grüß Gott", FinishReason::Stop));
        }
        assert_eq!(counted.load(Ordering::SeqCst), connections, "{header}");
    }
}

#[tokio::test]
async fn a_rate_limit_tells_when_to_come_back_and_counts_as_pressure() {
    let body =
        serde_json::json!({"error": {"message": "slow down", "type": "rate_limit_error", "code": "429"}});
    let server =
        mock(ResponseTemplate::new(429).insert_header("retry-after", "30").set_body_json(body)).await;
    let tier = tier(server.address());
    let (started, _, end) = ask(&tier).await;
    let error = end.unwrap_err();
    assert!(!started);
    assert_eq!(status(&error), (Some(429), Some(Duration::from_secs(30))));
    assert_eq!(error.to_string(), "upstream: slow down");
    assert!(error.another_tier_may_help());
    assert!(tier.pressure().queued_seconds > 1.0);
    assert_eq!(tier.state(), TierState::Ready);
}

#[tokio::test]
async fn error_statuses_and_garbage_are_typed() {
    let cases = [
        (ResponseTemplate::new(500).set_body_string("<h1>oops</h1>"), Some(500), "<h1>oops</h1>"),
        (ResponseTemplate::new(400).set_body_json(serde_json::json!({"error": "no"})), Some(400), "no"),
        (ResponseTemplate::new(404).set_body_json(serde_json::json!({"detail": "gone"})), Some(404), "gone"),
        (ResponseTemplate::new(503), Some(503), "an error without a message"),
        (
            ResponseTemplate::new(302).insert_header("location", "http://127.0.0.1:1/"),
            Some(302),
            "without a message",
        ),
        (
            ResponseTemplate::new(200).set_body_raw("{\"id\":1}", "application/json"),
            None,
            "not an event stream",
        ),
        (ResponseTemplate::new(200).set_body_raw("data: {]\n\n", "text/event-stream"), None, "not a chunk"),
        (ResponseTemplate::new(200).set_body_raw("data: [1]\n\n", "text/event-stream"), None, "not a chunk"),
        (
            ResponseTemplate::new(200).set_body_raw(vec![0xff; 5000], "text/event-stream"),
            None,
            "ended in the middle",
        ),
        (ResponseTemplate::new(200).set_body_raw("", "text/event-stream"), None, "ended in the middle"),
    ];
    for (response, expected, message) in cases {
        let server = mock(response).await;
        let error = ask(&tier(server.address())).await.2.unwrap_err();
        assert_eq!(status(&error).0, expected, "{error}");
        assert!(error.to_string().contains(message), "{error}");
    }
}

#[tokio::test]
async fn a_connection_that_dies_in_the_middle_is_an_error_after_what_had_come() {
    let upstream = upstream(vec![first_event()], Then::Die).await;
    let (started, text, end) = ask(&tier(upstream.address)).await;
    assert!(started);
    assert_eq!(text, "Grüß ");
    let error = end.unwrap_err();
    assert_eq!(status(&error).0, None);
    assert!(!error.to_string().contains("http://"), "{error}");
}

#[tokio::test]
async fn an_error_event_ends_the_answer() {
    let pieces = vec![first_event(), b"data: {\"error\":{\"message\":\"out of memory\"}}\n\n".to_vec()];
    let upstream = upstream(pieces, Then::Stall).await;
    let error = ask(&tier(upstream.address)).await.2.unwrap_err();
    assert_eq!(error.to_string(), "upstream: out of memory");
}

#[tokio::test]
async fn silence_after_the_first_byte_and_before_it_is_noticed() {
    for pieces in [vec![], vec![first_event()]] {
        let mut config = config(upstream(pieces.clone(), Then::Stall).await.address);
        // Only the wait that is under test is short: the other must not end it first, however slow the machine.
        let short = Duration::from_millis(50);
        if pieces.is_empty() {
            config.timeouts.first_byte = short;
        } else {
            config.timeouts.idle = short;
        }
        let error = ask(&RemoteTier::new(config).unwrap()).await.2.unwrap_err();
        assert!(error.to_string().contains("sent nothing for 0.05 s"), "{error}");
    }
}

#[tokio::test]
async fn the_deadline_ends_a_stalled_answer() {
    let upstream = upstream(vec![], Then::Stall).await;
    let deadline = Some(Instant::now() + Duration::from_millis(50));
    let tier = tier(upstream.address);
    let (_, _, end) = drain(tier.submit(GenerateRequest { deadline, ..request() }).unwrap()).await;
    assert!(matches!(end, Err(TierError::DeadlineExceeded)), "{end:?}");
}

#[tokio::test]
async fn a_reader_that_goes_away_closes_the_connection_and_frees_the_slot() {
    let mut upstream = upstream(vec![first_event()], Then::Stall).await;
    let tier = tier(upstream.address);
    let mut generation = tier.submit(request()).unwrap();
    assert!(matches!(generation.next().await, Some(Ok(Event::Started { .. }))));
    assert_eq!(tier.pressure().running, 1);
    drop(generation);
    upstream.closed.recv().await.unwrap();
    while tier.pressure().running > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn requests_over_the_bounds_wait_and_then_are_refused() {
    let upstream = upstream(vec![first_event()], Then::Stall).await;
    let tier =
        RemoteTier::new(RemoteConfig { max_concurrent: 1, queue: 1, ..config(upstream.address) }).unwrap();
    let mut first = tier.submit(request()).unwrap();
    assert!(matches!(first.next().await, Some(Ok(Event::Started { .. }))));
    let mut second = tier.submit(request()).unwrap();
    assert!(matches!(tier.submit(request()), Err(TierError::Overloaded { .. })));
    let pressure = tier.pressure();
    assert_eq!((pressure.running, pressure.waiting, pressure.queue_capacity), (1, 1, 1));
    drop(first);
    assert!(matches!(second.next().await, Some(Ok(Event::Started { .. }))), "the slot is passed on");
}

#[tokio::test]
async fn more_pieces_than_tokens_still_arrive_whole() {
    let piece = b"data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\n".to_vec();
    let mut pieces = vec![piece; 300];
    pieces.push(b"data: [DONE]\n\n".to_vec());
    let upstream = upstream(pieces, Then::End).await;
    let generation =
        tier(upstream.address).submit(GenerateRequest { max_tokens: Some(1), ..request() }).unwrap();
    let (_, text, finish) = drain(generation).await;
    assert_eq!(text.len(), 300);
    assert!(finish.is_ok());
}

#[tokio::test]
async fn an_upstream_that_cannot_be_reached_is_failed_until_a_probe_reaches_it() {
    // A port that was free a moment ago, and that the mock takes later.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let tier = tier(address);
    assert_eq!(tier.state(), TierState::Loading, "nobody has reached for it yet");
    tier.probe().await.unwrap_err();
    assert!(matches!(tier.state(), TierState::Failed { .. }), "it never answered");
    let error = ask(&tier).await.2.unwrap_err();
    assert!(error.another_tier_may_help() && error.to_string().contains("cannot connect"), "{error}");
    let _server = MockServer::builder().listener(std::net::TcpListener::bind(address).unwrap()).start().await;
    tier.probe().await.unwrap();
    assert_eq!(tier.state(), TierState::Ready);
}

#[test]
fn a_configuration_that_cannot_work_is_refused() {
    let with = |url: &str| RemoteTier::new(RemoteConfig::new("far", url, "m", 1.0)).unwrap_err();
    assert!(matches!(with("not a url"), RemoteConfigError::Url { .. }));
    assert!(matches!(with("ftp://host/v1"), RemoteConfigError::Url { .. }));
    let key = Some(SecretString::from("line\nbreak"));
    let error = RemoteTier::new(RemoteConfig { api_key: key, ..config("h") }).unwrap_err();
    assert!(matches!(error, RemoteConfigError::ApiKey));
    assert!(RemoteTier::new(RemoteConfig { max_concurrent: 0, ..config("h") }).is_err());
}

#[test]
fn outside_a_runtime_a_request_is_refused_not_a_panic() {
    assert!(matches!(tier("127.0.0.1:1").submit(request()), Err(TierError::Internal { .. })));
}
