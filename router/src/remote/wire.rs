//! A request to an upstream, whichever way it goes, and the pieces of its answer.

use bytes::Bytes;
use reprise_tier::TierError;
use reqwest::header::{HeaderMap, HeaderValue};
use serde_json::{Map, Value};

use super::{Upstream, direct, failure};

#[derive(Debug)]
pub enum Reply {
    Direct(direct::Reply),
    General(reqwest::Response),
}

/// Posts the body; returns once the head of the answer has come.
pub async fn post(
    upstream: &Upstream,
    body: &Map<String, Value>,
    traceparent: Option<&str>,
) -> Result<Reply, TierError> {
    let json = serde_json::to_vec(body)
        .map_err(|error| TierError::Internal { message: format!("a request cannot be written: {error}") })?;
    if let Some(direct) = &upstream.direct {
        let traceparent = traceparent.and_then(|text| HeaderValue::from_str(text).ok());
        return direct.post(json.into(), traceparent.as_ref()).await.map(Reply::Direct);
    }
    let mut request = upstream.client.post(upstream.chat.clone()).body(json);
    request = request.header(reqwest::header::CONTENT_TYPE, "application/json");
    if let Some(traceparent) = traceparent {
        request = request.header("traceparent", traceparent);
    }
    request.send().await.map(Reply::General).map_err(failure::of_transport)
}

/// The answer was read to its end.
pub fn done(upstream: &Upstream, reply: Reply) {
    if let (Some(direct), Reply::Direct(reply)) = (&upstream.direct, reply) {
        direct.keep(reply);
    }
}

impl Reply {
    pub fn status(&self) -> u16 {
        match self {
            Self::Direct(reply) => reply.response().status().as_u16(),
            Self::General(response) => response.status().as_u16(),
        }
    }

    pub fn headers(&self) -> &HeaderMap {
        match self {
            Self::Direct(reply) => reply.response().headers(),
            Self::General(response) => response.headers(),
        }
    }

    /// The next piece of the body; `None` at its end.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, TierError> {
        match self {
            Self::Direct(reply) => reply.chunk().await.map_err(|error| failure::of_connection(&error)),
            Self::General(response) => response.chunk().await.map_err(failure::of_transport),
        }
    }
}
