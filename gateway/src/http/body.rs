//! A request's body as a JSON object, within its limits of size and time.

use std::time::Duration;

use axum::body::Body;
use futures::StreamExt;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};
use reprise_openai::{ErrorBody, kind};
use serde_json::{Map, Value};
use tokio::task::spawn_blocking;

use crate::config::Server;
use crate::error::ApiError;

/// How many times the limit is read of a body that is over it.
const DISCARDED: u64 = 8;
/// Above this many bytes a body is parsed on a blocking thread.
pub const LARGE: usize = 64 << 10;

/// Reads and parses the body. Only `application/json` is taken: a browser cannot send it across origins without
/// asking first, so no page can use a gateway that listens on loopback without keys.
///
/// # Errors
/// 415, 413, 408 or 400.
pub async fn json_body(
    headers: &HeaderMap,
    body: Body,
    limits: &Server,
) -> Result<Map<String, Value>, ApiError> {
    check_type(headers)?;
    let limit = limits.max_body_bytes;
    let announced = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > (limit as u64).saturating_mul(DISCARDED)) {
        return Err(ApiError::too_large(limit));
    }
    let bytes = match tokio::time::timeout(limits.body_timeout, collect(body, limit)).await {
        Ok(bytes) => bytes?,
        Err(_) => return Err(too_slow(limits.body_timeout)),
    };
    let parsed = if bytes.len() > LARGE {
        spawn_blocking(move || serde_json::from_slice(&bytes)).await.map_err(|_| ApiError::internal())?
    } else {
        serde_json::from_slice(&bytes)
    };
    match parsed {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(ApiError::bad_body("The body of the request must be a JSON object.")),
        Err(error) => {
            Err(ApiError::bad_body(format!("We could not parse the JSON body of your request: {error}.")))
        }
    }
}

fn check_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let sent = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = sent.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let message = format!("Unsupported content type: '{essence}'. Send 'application/json'.");
    let body = ErrorBody::new(kind::INVALID_REQUEST, message).with_code("unsupported_content_type");
    Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, body))
}

/// A body over the limit is read on for a while and thrown away: a client that is answered in the middle of sending sees
/// a broken connection, and not the answer.
async fn collect(body: Body, limit: usize) -> Result<Vec<u8>, ApiError> {
    let mut pieces = body.into_data_stream();
    let (mut bytes, mut read) = (Vec::new(), 0_u64);
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|_| ApiError::bad_body("The body of the request ended early."))?;
        read += piece.len() as u64;
        if read > (limit as u64).saturating_mul(DISCARDED) {
            break;
        }
        if read > limit as u64 {
            bytes = Vec::new();
        } else {
            bytes.extend_from_slice(&piece);
        }
    }
    if read > limit as u64 { Err(ApiError::too_large(limit)) } else { Ok(bytes) }
}

fn too_slow(limit: Duration) -> ApiError {
    let message = format!("The body of the request did not arrive within {} s.", limit.as_secs_f64());
    ApiError::new(
        StatusCode::REQUEST_TIMEOUT,
        ErrorBody::new(kind::TIMEOUT, message).with_code("body_timeout"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Server = Server {
        max_body_bytes: 16,
        request_timeout: Duration::from_secs(9),
        header_timeout: Duration::from_secs(9),
        body_timeout: Duration::from_secs(9),
        write_stall_timeout: Duration::from_secs(9),
        drain_timeout: Duration::from_secs(9),
        max_concurrent_requests: 1,
    };

    async fn read(kind: &str, body: Body) -> Result<Map<String, Value>, u16> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, kind.parse().unwrap());
        json_body(&headers, body, &LIMITS).await.map_err(|error| error.status.as_u16())
    }

    #[tokio::test]
    async fn an_object_of_json_is_read_and_all_else_refused() {
        assert_eq!(read("application/json; charset=utf-8", Body::from("{\"a\":1}")).await.unwrap()["a"], 1);
        assert_eq!(read("application/json", Body::from("[1]")).await, Err(400));
        assert_eq!(read("application/json", Body::from("{\"a\":")).await, Err(400));
        assert_eq!(read("application/json", Body::empty()).await, Err(400));
        assert_eq!(read("text/plain", Body::from("{}")).await, Err(415));
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_refused_even_if_its_length_is_not_said() {
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(40));
        let endless = futures::stream::repeat_with(|| Ok::<_, std::io::Error>("xxxx"));
        assert_eq!(read("application/json", Body::from_stream(endless)).await, Err(413));
        assert_eq!(read("application/json", Body::from(long.clone())).await, Err(413));
        let pieces = futures::stream::iter([Ok::<_, std::io::Error>(long)]);
        assert_eq!(read("application/json", Body::from_stream(pieces)).await, Err(413));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_is_given_up() {
        let never = futures::stream::pending::<Result<bytes::Bytes, std::io::Error>>();
        assert_eq!(read("application/json", Body::from_stream(never)).await, Err(408));
    }
}
