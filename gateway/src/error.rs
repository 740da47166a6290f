//! The one place where what went wrong becomes a status and OpenAI's body.

use std::time::Duration;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use reprise_accounts::{Refused, Scope, What};
use reprise_openai::{ErrorBody, FieldError, kind};
use reprise_router::RouteError;
use reprise_tier::TierError;

use crate::auth::AuthError;

/// An error on its way to the client.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{status}: {}", .body.message)]
pub struct ApiError {
    pub status: StatusCode,
    /// Boxed: it is the rare case of every result.
    pub body: Box<ErrorBody>,
    pub retry_after: Option<Duration>,
    /// Asking again cannot help, whatever clients think of the status.
    pub settled: bool,
}

impl ApiError {
    #[must_use]
    pub fn new(status: StatusCode, body: ErrorBody) -> Self {
        Self { status, body: Box::new(body), retry_after: None, settled: false }
    }

    #[must_use]
    pub fn retry_after(mut self, time: Option<Duration>) -> Self {
        self.retry_after = time;
        self
    }

    /// 400 for the value of a field.
    #[must_use]
    pub fn invalid(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, ErrorBody::invalid(param, message))
    }

    /// 400 for a field that is not there.
    #[must_use]
    pub fn missing(param: &str) -> Self {
        let body = ErrorBody::new(kind::INVALID_REQUEST, format!("Missing required parameter: '{param}'."));
        let body = body.with_param(param).with_code("missing_required_parameter");
        Self::new(StatusCode::BAD_REQUEST, body)
    }

    /// 400 for a field that is not supported.
    #[must_use]
    pub fn unsupported(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, ErrorBody::unsupported(param, message))
    }

    #[must_use]
    pub fn model_not_found(model: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, ErrorBody::model_not_found(model))
    }

    /// 400 for a body that is not what it should be.
    #[must_use]
    pub fn bad_body(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, ErrorBody::new(kind::INVALID_REQUEST, message))
    }

    #[must_use]
    pub fn too_large(limit: usize) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, ErrorBody::too_large(limit))
    }

    /// 429: all slots are taken.
    #[must_use]
    pub fn busy() -> Self {
        let message = "The server is handling as many requests as it can. Please try again in a moment.";
        let body = ErrorBody::new(kind::RATE_LIMIT, message).with_code("server_busy");
        Self::new(StatusCode::TOO_MANY_REQUESTS, body).retry_after(Some(Duration::from_secs(1)))
    }

    /// 503: it may work in a moment.
    #[must_use]
    pub fn unavailable(message: impl Into<String>, retry_after: Duration) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, ErrorBody::new(kind::OVERLOADED, message))
            .retry_after(Some(retry_after))
    }

    /// 500: a bug of ours.
    #[must_use]
    pub fn internal() -> Self {
        let body = ErrorBody::new(kind::SERVER, "The server had an error while processing your request.");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, body.with_code("internal_error"))
    }

    /// 504.
    #[must_use]
    pub fn deadline() -> Self {
        let body = ErrorBody::new(kind::TIMEOUT, "The request took longer than this server allows.");
        Self::new(StatusCode::GATEWAY_TIMEOUT, body.with_code("request_timeout"))
    }

    /// 503: what is used could not be recorded.
    #[must_use]
    pub fn unrecorded() -> Self {
        let message = "The use of this request cannot be recorded at the moment, so it is not answered.";
        let body = ErrorBody::new(kind::OVERLOADED, message).with_code("ledger_unavailable");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, body).retry_after(Some(Duration::from_secs(1)))
    }

    #[must_use]
    pub fn shutting_down() -> Self {
        Self::unavailable("The server is shutting down.", Duration::from_secs(5))
    }
}

impl From<FieldError> for ApiError {
    fn from(error: FieldError) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error.into())
    }
}

impl From<AuthError> for ApiError {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::Missing | AuthError::Wrong => {
                Self::new(StatusCode::UNAUTHORIZED, ErrorBody::invalid_api_key(error.to_string()))
            }
            AuthError::Foreign(_) => {
                let body = ErrorBody::new(kind::PERMISSION, error.to_string()).with_code("foreign_origin");
                Self::new(StatusCode::FORBIDDEN, body)
            }
        }
    }
}

/// 429, in OpenAI's words.
impl From<Refused> for ApiError {
    fn from(refused: Refused) -> Self {
        let Refused { scope, what, limit, used, need, retry_after } = refused;
        let whose = match scope {
            Scope::Key => "this key",
            Scope::Tenant => "this tenant",
        };
        let again = match retry_after {
            Some(time) => format!(" Please try again in {} s.", whole_seconds(time)),
            None if need > limit => " The request is too large for it.".to_owned(),
            None => String::new(),
        };
        let minute = |kind: &str, name: &str| {
            let message = format!(
                "Rate limit of {whose} reached on {name} per minute: limit {limit}, used {used}, requested {need}.{again}"
            );
            ErrorBody::new(kind, message).with_code("rate_limit_exceeded")
        };
        let quota = |limit: String, used: String, need: String| {
            let message = format!(
                "You exceeded the budget of {whose}: budget {limit}, used {used}, requested {need}.{again}"
            );
            ErrorBody::new("insufficient_quota", message).with_code("insufficient_quota")
        };
        let units = |nanos: u64| format!("{:.6}", reprise_accounts::Money::of_nanos(nanos).units());
        let tokens = |count: u64| format!("{count} tokens");
        let body = match what {
            What::RequestsPerMinute => minute("requests", "requests"),
            What::TokensPerMinute => minute("tokens", "tokens"),
            What::BudgetTokens => quota(tokens(limit), tokens(used), tokens(need)),
            What::BudgetMoney => quota(units(limit), units(used), units(need)),
        };
        // Budgets last for days: a client that waits for one to begin anew helps nobody.
        let settled = retry_after.is_none() || matches!(what, What::BudgetTokens | What::BudgetMoney);
        Self { settled, ..Self::new(StatusCode::TOO_MANY_REQUESTS, body).retry_after(retry_after) }
    }
}

impl From<RouteError> for ApiError {
    fn from(error: RouteError) -> Self {
        match error {
            RouteError::NotReady => {
                Self::unavailable("No model is ready yet. Please try again.", Duration::from_secs(5))
            }
            RouteError::Saturated { retry_after } => overloaded(retry_after),
            RouteError::UnknownTier { .. } => Self::internal(),
        }
    }
}

impl From<&TierError> for ApiError {
    fn from(error: &TierError) -> Self {
        match error {
            TierError::Overloaded { retry_after } => overloaded(*retry_after),
            TierError::NotReady { .. } => {
                Self::unavailable("The model is not ready. Please try again.", Duration::from_secs(5))
            }
            TierError::ShuttingDown => Self::shutting_down(),
            TierError::ContextExceeded { .. } => {
                let message = error.to_string();
                Self::new(StatusCode::BAD_REQUEST, ErrorBody::context_length_exceeded(capitalised(&message)))
            }
            TierError::InvalidRequest { param, message } => Self::invalid(param.as_ref(), message.as_str()),
            TierError::Unsupported { param, message } => Self::unsupported(param.as_ref(), message.as_str()),
            TierError::DeadlineExceeded => Self::deadline(),
            TierError::Upstream { status, message, retry_after } => upstream(*status, message, *retry_after),
            TierError::Internal { .. } => Self::internal(),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body.into_response())).into_response();
        let headers = response.headers_mut();
        if let Some(time) = self.retry_after {
            headers.insert(RETRY_AFTER, whole_seconds(time).into());
        }
        if self.settled {
            // What OpenAI's clients go by.
            headers.insert("x-should-retry", http::HeaderValue::from_static("false"));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, http::HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// The label of `reprise_tier_errors_total`.
#[must_use]
pub fn tier_error_label(error: &TierError) -> &'static str {
    match error {
        TierError::Overloaded { .. } => "overloaded",
        TierError::NotReady { .. } => "not_ready",
        TierError::ShuttingDown => "shutting_down",
        TierError::ContextExceeded { .. } => "context_exceeded",
        TierError::InvalidRequest { .. } => "invalid_request",
        TierError::Unsupported { .. } => "unsupported",
        TierError::DeadlineExceeded => "deadline",
        TierError::Upstream { .. } => "upstream",
        TierError::Internal { .. } => "internal",
    }
}

fn overloaded(retry_after: Duration) -> ApiError {
    let body = ErrorBody::new(kind::RATE_LIMIT, "The model is overloaded. Please try again later.");
    ApiError::new(StatusCode::TOO_MANY_REQUESTS, body.with_code("model_overloaded"))
        .retry_after(Some(retry_after))
}

/// An upstream's verdict on the request is the client's to know; its trouble with us (keys, quota, breakdown) is not.
fn upstream(status: Option<u16>, message: &str, retry_after: Option<Duration>) -> ApiError {
    match status.and_then(|status| StatusCode::from_u16(status).ok()) {
        Some(status) if matches!(status.as_u16(), 400 | 413 | 422) => {
            ApiError::new(status, ErrorBody::new(kind::INVALID_REQUEST, message))
        }
        Some(StatusCode::TOO_MANY_REQUESTS) => overloaded(retry_after.unwrap_or(Duration::from_secs(1))),
        _ => {
            let body = ErrorBody::new(kind::SERVER, "The upstream of this model failed.")
                .with_code("upstream_error");
            ApiError::new(StatusCode::BAD_GATEWAY, body).retry_after(retry_after)
        }
    }
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

/// Rounded up, at least 1: 0 would say that it can be tried now.
fn whole_seconds(time: Duration) -> u64 {
    time.as_millis().div_ceil(1000).clamp(1, 32 * 86_400) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(error: &TierError) -> (u16, Option<String>) {
        let error = ApiError::from(error);
        (error.status.as_u16(), error.body.code)
    }

    #[test]
    fn each_failure_of_a_tier_has_its_status() {
        let context = TierError::ContextExceeded { prompt_tokens: 9, max_tokens: 1, context_length: 8 };
        assert_eq!(of(&context), (400, Some("context_length_exceeded".into())));
        assert_eq!(of(&TierError::Overloaded { retry_after: Duration::ZERO }).0, 429);
        assert_eq!(of(&TierError::NotReady { reason: String::new() }).0, 503);
        assert_eq!(of(&TierError::DeadlineExceeded).0, 504);
        assert_eq!(of(&TierError::Internal { message: "secret".into() }).0, 500);
        let upstream = |status| TierError::Upstream { status, message: "m".into(), retry_after: None };
        assert_eq!(of(&upstream(Some(401))).0, 502);
        assert_eq!(of(&upstream(Some(422))).0, 422);
        assert_eq!(of(&upstream(None)).0, 502);
    }

    #[test]
    fn our_own_failures_tell_the_client_nothing_of_the_inside() {
        let error = ApiError::from(&TierError::Internal { message: "at /secret/path".into() });
        assert!(!error.body.message.contains("secret"));
    }

    #[test]
    fn a_limit_is_told_in_openais_words() {
        let refused = Refused {
            scope: Scope::Key,
            what: What::TokensPerMinute,
            limit: 100,
            used: 90,
            need: 20,
            retry_after: Some(Duration::from_secs(7)),
        };
        let error = ApiError::from(refused);
        assert_eq!((error.status.as_u16(), error.body.kind.as_str()), (429, "tokens"));
        assert_eq!(error.body.code.as_deref(), Some("rate_limit_exceeded"));
        assert!(error.body.message.ends_with("limit 100, used 90, requested 20. Please try again in 7 s."));
        let headers = error.into_response().headers().clone();
        assert_eq!((&headers[RETRY_AFTER], headers.get("x-should-retry")), (&"7".parse().unwrap(), None));
        let budget = Refused { what: What::BudgetMoney, retry_after: None, ..refused };
        let error = ApiError::from(budget);
        assert_eq!(error.body.code.as_deref(), Some("insufficient_quota"));
        let headers = error.into_response().headers().clone();
        assert_eq!((headers.get(RETRY_AFTER), &headers["x-should-retry"]), (None, &"false".parse().unwrap()));
    }

    #[test]
    fn retry_after_is_whole_seconds_and_never_zero() {
        let response =
            ApiError::from(&TierError::Overloaded { retry_after: Duration::from_millis(10) }).into_response();
        assert_eq!(response.headers()[RETRY_AFTER], "1");
    }
}
