//! Clients that are slow on purpose: they are cut off, and nobody else waits for them.
#![cfg(test)]

mod support;

use std::time::Duration;

use support::upstream::{Script, Upstream};
use support::{CAPITAL, Gateway, Setup, ask};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Short limits of the server under test; the tests themselves wait far longer. The tier is an upstream that answers
/// at once, so that no limit is reached by honest work on a busy machine.
async fn impatient(script: Script) -> (Upstream, Gateway) {
    let upstream = Upstream::start(script).await;
    let setup = Setup::empty()
        .remote("small", 1.0, &upstream.base_url)
        .server("header_timeout_s = 1\nbody_timeout_s = 1\nwrite_stall_timeout_s = 1");
    let gateway = Gateway::start(setup).await;
    (upstream, gateway)
}

#[tokio::test]
async fn a_head_that_never_ends_is_cut_off() {
    let (_upstream, gateway) = impatient(Script::Answer("Berlin.")).await;
    let mut client = TcpStream::connect(gateway.address).await.expect("a connection");
    client
        .write_all(b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\nx-slow: ")
        .await
        .expect("the first bytes");
    assert!(
        gateway.chat(&ask("small", CAPITAL)).await.status.is_success(),
        "another client is served meanwhile"
    );
    let answer = read_to_end(&mut client).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
}

#[tokio::test]
async fn a_body_that_never_ends_gets_an_error() {
    let (_upstream, gateway) = impatient(Script::Answer("Berlin.")).await;
    let mut client = TcpStream::connect(gateway.address).await.expect("a connection");
    client
        .write_all(b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n{\"model\":")
        .await
        .expect("the head and a part of the body");
    assert!(
        gateway.chat(&ask("small", CAPITAL)).await.status.is_success(),
        "another client is served meanwhile"
    );
    let answer = read_to_end(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "the client is told: {answer}");
    assert!(answer.contains("\"error\""), "in OpenAI's shape: {answer}");
    gateway.until_idle().await;
}

#[tokio::test]
async fn a_body_that_breaks_off_harms_nobody() {
    let (_upstream, gateway) = impatient(Script::Answer("Berlin.")).await;
    for _ in 0..5 {
        let mut client = TcpStream::connect(gateway.address).await.expect("a connection");
        client
            .write_all(
                b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n{\"model\":",
            )
            .await
            .expect("a part");
        drop(client);
    }
    gateway.until_idle().await;
    assert!(gateway.chat(&ask("small", CAPITAL)).await.status.is_success());
}

#[tokio::test]
async fn a_reader_that_stops_reading_is_cut_off() {
    let (upstream, gateway) = impatient(Script::Flood).await;
    let body = r#"{"model":"small","stream":true,"messages":[{"role":"user","content":"Write."}]}"#;
    let mut client = TcpStream::connect(gateway.address).await.expect("a connection");
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    client.write_all(head.as_bytes()).await.expect("the request");
    let mut first = [0; 64];
    let read = client.read(&mut first).await.expect("the beginning of the answer");
    assert!(first[..read].starts_with(b"HTTP/1.1 200"));

    gateway.until("reprise_open_streams", &[], |value| value == 0.0).await;
    gateway.until_idle().await;
    upstream.play(Script::Answer("Berlin."));
    assert!(gateway.chat(&ask("small", CAPITAL)).await.status.is_success());
    drop(client);
}

#[tokio::test]
async fn an_answer_that_takes_too_long_is_an_error() {
    let upstream = Upstream::start(Script::Stall("")).await;
    let setup = Setup::empty().remote("large", 1.0, &upstream.base_url).server("request_timeout_s = 1");
    let gateway = Gateway::start(setup).await;
    let reply = gateway.chat(&ask("large", CAPITAL)).await;
    assert!([504, 408].contains(&reply.status.as_u16()), "{reply:#?}");
    reply.assert_error(reply.status.as_u16(), None);
    gateway.until_idle().await;
}

async fn read_to_end(client: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    timeout(Duration::from_secs(60), client.read_to_end(&mut answer))
        .await
        .expect("the gateway closes the connection")
        .or_else(|error| if error.kind() == std::io::ErrorKind::ConnectionReset { Ok(0) } else { Err(error) })
        .expect("bytes");
    String::from_utf8_lossy(&answer).into_owned()
}
