//! An answer as a client sees it, and the shape that every error has.

use reqwest::StatusCode;
use reqwest::header::HeaderMap;
use serde_json::Value;

#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: String,
}

impl Reply {
    pub async fn read(response: reqwest::Response) -> Self {
        let (status, headers) = (response.status(), response.headers().clone());
        let body = response.text().await.expect("the body ends properly");
        Self { status, headers, body }
    }

    /// A 200 as JSON.
    pub fn json(&self) -> Value {
        assert_eq!(self.status, StatusCode::OK, "{self:#?}");
        self.value()
    }

    pub fn value(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {self:#?}"))
    }

    /// The text of the first choice.
    pub fn text(&self) -> String {
        let json = self.json();
        json["choices"][0]["message"]["content"]
            .as_str()
            .unwrap_or_else(|| panic!("no content in {json:#}"))
            .to_owned()
    }

    pub fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name).unwrap_or_else(|| panic!("no header {name} in {self:#?}"));
        value.to_str().expect("a header of ASCII")
    }

    pub fn cache(&self) -> &str {
        self.header("x-reprise-cache")
    }

    /// The chunks of a stream; it must close with `[DONE]`.
    pub fn chunks(&self) -> Vec<Value> {
        assert_eq!(self.status, StatusCode::OK, "{self:#?}");
        assert!(self.header("content-type").starts_with("text/event-stream"), "{self:#?}");
        let mut data: Vec<&str> =
            self.body.lines().filter_map(|line| line.strip_prefix("data:")).map(str::trim).collect();
        assert_eq!(data.pop(), Some("[DONE]"), "the stream closes with [DONE]: {}", self.body);
        data.into_iter().map(|chunk| serde_json::from_str(chunk).expect("a chunk is JSON")).collect()
    }

    /// The text of a stream.
    pub fn streamed_text(&self) -> String {
        self.chunks().iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect()
    }

    /// An error in OpenAI's shape: all four members, and the request's id to ask about.
    #[track_caller]
    pub fn assert_error(&self, status: u16, code: Option<&str>) -> Value {
        assert_eq!(self.status.as_u16(), status, "{self:#?}");
        assert!(self.header("content-type").starts_with("application/json"), "{self:#?}");
        assert!(!self.header("x-request-id").is_empty());
        let error = self.value()["error"].clone();
        let members: Vec<&String> =
            error.as_object().unwrap_or_else(|| panic!("no error object: {self:#?}")).keys().collect();
        for member in ["message", "type", "param", "code"] {
            assert!(members.iter().any(|have| *have == member), "the error lacks {member}: {error}");
        }
        assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{error}");
        assert!(error["type"].is_string(), "{error}");
        if let Some(code) = code {
            assert_eq!(error["code"], code, "{error}");
        }
        error
    }

    /// A 400 that names the field.
    #[track_caller]
    pub fn assert_names(&self, param: &str) {
        let error = self.assert_error(400, None);
        assert_eq!(error["param"], param, "{error}");
        assert_eq!(error["type"], "invalid_request_error", "{error}");
    }
}
