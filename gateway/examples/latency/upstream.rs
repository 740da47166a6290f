//! The upstream. It reads of a request what it must: where it ends, and whether a stream is wanted.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::http::Connection;

#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    #[arg(long)]
    listen: SocketAddr,
    /// Words of an answer, each an event of its stream.
    #[arg(long, default_value_t = 16)]
    words: usize,
    /// Before an answer begins, as a model's prefill would take.
    #[arg(long, default_value_t = 0)]
    first_ms: u64,
    /// Between two words of a stream; 0: all are sent at once.
    #[arg(long, default_value_t = 0)]
    every_ms: u64,
}

const STACK: usize = 128 << 10;

pub fn run(options: &Options) -> anyhow::Result<()> {
    let listener = TcpListener::bind(options.listen)?;
    for stream in listener.incoming() {
        let (stream, options) = (stream?, options.clone());
        thread::Builder::new().stack_size(STACK).spawn(move || {
            // A client that goes away ends its connection and nothing else.
            let _ = serve(stream, &options);
        })?;
    }
    Ok(())
}

fn serve(stream: TcpStream, options: &Options) -> anyhow::Result<()> {
    let (words, every) = (options.words, Duration::from_millis(options.every_ms));
    let whole = whole(words);
    let mut connection = Connection::new(stream)?;
    while let Some(head) = connection.head()? {
        if head.first.starts_with("GET") {
            connection.send(&models())?;
            continue;
        }
        let mut streams = false;
        connection.body(&head, |body| streams |= asks_for_a_stream(body))?;
        if options.first_ms > 0 {
            thread::sleep(Duration::from_millis(options.first_ms));
        }
        if !streams {
            connection.send(&whole)?;
        } else if every.is_zero() {
            connection.send(&streamed(words))?;
        } else {
            slowly(&mut connection, words, every)?;
        }
    }
    Ok(())
}

fn asks_for_a_stream(body: &[u8]) -> bool {
    let holds = |text: &[u8]| body.windows(text.len()).any(|window| window == text);
    holds(b"\"stream\":true") || holds(b"\"stream\": true")
}

fn answer(kind: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n{body}").into_bytes()
}

fn models() -> Vec<u8> {
    answer(
        "application/json",
        r#"{"object":"list","data":[{"id":"mock","object":"model","created":1,"owned_by":"mock"}]}"#,
    )
}

fn whole(words: usize) -> Vec<u8> {
    let text = "word ".repeat(words);
    answer(
        "application/json",
        &format!(
            r#"{{"id":"chatcmpl-mock","object":"chat.completion","created":1,"model":"mock","choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}"}},"logprobs":null,"finish_reason":"stop"}}],"usage":{{"prompt_tokens":12,"completion_tokens":{words},"total_tokens":{}}}}}"#,
            12 + words
        ),
    )
}

const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

fn event(data: &str) -> String {
    format!("{:x}\r\ndata: {data}\n\n\r\n", data.len() + 8)
}

fn chunk(delta: &str, finish: &str) -> String {
    event(&format!(
        r#"{{"id":"chatcmpl-mock","object":"chat.completion.chunk","created":1,"model":"mock","choices":[{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":{finish}}}]}}"#
    ))
}

/// The word tells when it was sent.
fn word() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos());
    chunk(&format!(r#"{{"content":"@{now} "}}"#), "null")
}

fn end(words: usize) -> String {
    let usage = format!(
        r#"{{"id":"chatcmpl-mock","object":"chat.completion.chunk","created":1,"model":"mock","choices":[],"usage":{{"prompt_tokens":12,"completion_tokens":{words},"total_tokens":{}}}}}"#,
        12 + words
    );
    chunk("{}", "\"stop\"") + &event(&usage) + &event("[DONE]") + "0\r\n\r\n"
}

fn streamed(words: usize) -> Vec<u8> {
    let mut all = HEAD.to_owned() + &chunk(r#"{"role":"assistant","content":""}"#, "null");
    for _ in 0..words {
        all += &word();
    }
    (all + &end(words)).into_bytes()
}

fn slowly(connection: &mut Connection, words: usize, every: Duration) -> anyhow::Result<()> {
    connection.send((HEAD.to_owned() + &chunk(r#"{"role":"assistant","content":""}"#, "null")).as_bytes())?;
    let mut due = Instant::now();
    for _ in 0..words {
        due += every;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        connection.send(word().as_bytes())?;
    }
    connection.send(end(words).as_bytes())
}
