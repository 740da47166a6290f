use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The values of `type` that OpenAI uses and clients look at.
pub mod kind {
    pub const INVALID_REQUEST: &str = "invalid_request_error";
    pub const AUTHENTICATION: &str = "authentication_error";
    pub const PERMISSION: &str = "permission_error";
    pub const NOT_FOUND: &str = "not_found_error";
    pub const RATE_LIMIT: &str = "rate_limit_error";
    pub const SERVER: &str = "server_error";
    pub const OVERLOADED: &str = "service_unavailable";
    pub const TIMEOUT: &str = "timeout";
}

/// `{"error": {...}}`: the body of every answer that is not a 2xx, and the last event of a stream that broke.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorResponse {
    pub error: ErrorBody,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorBody {
    pub message: String,
    #[serde(rename = "type", default)]
    pub kind: String,
    /// The field of the request that is to blame.
    #[serde(default)]
    pub param: Option<String>,
    /// A string, or (from some servers) a number: read as text.
    #[serde(default, deserialize_with = "text_or_number")]
    pub code: Option<String>,
}

/// A body that cannot be read, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct FieldError {
    /// `messages[2].content`; `None` if the body as a whole is wrong.
    pub param: Option<String>,
    pub message: String,
}

impl ErrorBody {
    #[must_use]
    pub fn new(kind: &str, message: impl Into<String>) -> Self {
        Self { message: message.into(), kind: kind.to_owned(), param: None, code: None }
    }

    #[must_use]
    pub fn with_param(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    #[must_use]
    pub fn with_code(mut self, code: impl Into<String>) -> Self {
        self.code = Some(code.into());
        self
    }

    /// 400: a field has a wrong value.
    #[must_use]
    pub fn invalid(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(kind::INVALID_REQUEST, message).with_param(param).with_code("invalid_value")
    }

    /// 400: a field that this server, or this model, does not support.
    #[must_use]
    pub fn unsupported(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(kind::INVALID_REQUEST, message).with_param(param).with_code("unsupported_parameter")
    }

    /// 404.
    #[must_use]
    pub fn model_not_found(model: &str) -> Self {
        let message = format!("The model `{model}` does not exist or you do not have access to it.");
        Self::new(kind::INVALID_REQUEST, message).with_param("model").with_code("model_not_found")
    }

    /// 400.
    #[must_use]
    pub fn context_length_exceeded(message: impl Into<String>) -> Self {
        Self::new(kind::INVALID_REQUEST, message).with_param("messages").with_code("context_length_exceeded")
    }

    /// 401.
    #[must_use]
    pub fn invalid_api_key(message: impl Into<String>) -> Self {
        Self::new(kind::AUTHENTICATION, message).with_code("invalid_api_key")
    }

    /// 413.
    #[must_use]
    pub fn too_large(limit: usize) -> Self {
        let message = format!("The request body is larger than this server's limit of {limit} bytes.");
        Self::new(kind::INVALID_REQUEST, message).with_code("request_too_large")
    }

    #[must_use]
    pub fn into_response(self) -> ErrorResponse {
        ErrorResponse { error: self }
    }
}

impl From<FieldError> for ErrorBody {
    fn from(error: FieldError) -> Self {
        Self { param: error.param, ..Self::new(kind::INVALID_REQUEST, error.message) }
    }
}

/// Reads a typed request out of a body; a missing field is the path that is missing.
pub(crate) fn read_fields<T: DeserializeOwned>(body: &Map<String, Value>) -> Result<T, FieldError> {
    serde_path_to_error::deserialize(body).map_err(|error| {
        let path = error.path().to_string();
        let reason = error.inner().to_string();
        let missing = reason.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`'));
        let nested = (path != ".").then_some(path.as_str());
        match (missing, nested) {
            (Some(field), None) => required(field.to_owned()),
            (Some(field), Some(path)) => required(format!("{path}.{field}")),
            (None, Some(path)) => FieldError {
                param: Some(path.to_owned()),
                message: format!("Invalid value for '{path}': {reason}"),
            },
            (None, None) => FieldError { param: None, message: format!("Invalid request body: {reason}") },
        }
    })
}

fn required(param: String) -> FieldError {
    FieldError { message: format!("Missing required parameter: '{param}'."), param: Some(param) }
}

fn text_or_number<'de, D: serde::Deserializer<'de>>(code: D) -> Result<Option<String>, D::Error> {
    Ok(match Option::<Value>::deserialize(code)? {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(text),
        Some(other) => Some(other.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_has_all_four_fields() {
        let body = ErrorBody::new(kind::SERVER, "broken").into_response();
        let json = serde_json::to_string(&body).unwrap();
        assert_eq!(json, r#"{"error":{"message":"broken","type":"server_error","param":null,"code":null}}"#);
        assert_eq!(serde_json::from_str::<ErrorResponse>(&json).unwrap(), body);
    }

    #[test]
    fn a_sparse_error_of_another_server_is_read() {
        let read: ErrorResponse = serde_json::from_str(r#"{"error":{"message":"x","code":429}}"#).unwrap();
        assert_eq!(read.error.code.as_deref(), Some("429"));
    }
}
