//! What the admin interface refuses, and how the gateway's one error type says so.

use std::io;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use reprise_accounts::KeyError;
use reprise_cache::{CacheError, InvalidTenant};
use reprise_openai::{ErrorBody, kind};

use super::lease::LeaseError;
use super::origin::OriginError;
use super::pair::PairError;
use crate::error::ApiError;

#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    #[error("the admin key is missing or wrong: send it as Authorization: Bearer KEY")]
    Key,
    #[error(transparent)]
    Origin(#[from] OriginError),
    #[error("{message}")]
    Invalid { param: &'static str, message: String },
    #[error("there is no {0}")]
    NotFound(String),
    #[error(transparent)]
    Lease(#[from] LeaseError),
    #[error(transparent)]
    Cache(#[from] CacheError),
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// It may work in a moment.
    #[error("{0}")]
    Unavailable(String),
    #[error("the data directory cannot be used: {0}")]
    Disk(#[from] io::Error),
    /// A blocking task that died: a bug of ours.
    #[error(transparent)]
    Task(#[from] tokio::task::JoinError),
    #[error(transparent)]
    Api(#[from] ApiError),
}

impl AdminError {
    pub fn invalid(param: &'static str, message: impl Into<String>) -> Self {
        Self::Invalid { param, message: message.into() }
    }

    pub fn no_cache() -> Self {
        Self::Unavailable("the cache is switched off, or not up yet".to_owned())
    }
}

impl From<InvalidTenant> for AdminError {
    fn from(error: InvalidTenant) -> Self {
        Self::invalid("tenant", error.to_string())
    }
}

impl From<PairError> for AdminError {
    fn from(error: PairError) -> Self {
        Self::Api(ApiError::bad_body(error.to_string()))
    }
}

impl From<AdminError> for ApiError {
    fn from(error: AdminError) -> Self {
        let message = error.to_string();
        let not_found = |code: &str, message| {
            Self::new(StatusCode::NOT_FOUND, ErrorBody::new(kind::NOT_FOUND, message).with_code(code))
        };
        match error {
            AdminError::Key => Self::new(StatusCode::UNAUTHORIZED, ErrorBody::invalid_api_key(message)),
            AdminError::Origin(_) => {
                let body = ErrorBody::new(kind::PERMISSION, message).with_code("foreign_origin");
                Self::new(StatusCode::FORBIDDEN, body)
            }
            AdminError::Invalid { param, .. } => Self::invalid(param, message),
            AdminError::NotFound(_) => not_found("not_found", message),
            AdminError::Lease(LeaseError::Lost) => not_found("lease_lost", message),
            AdminError::Lease(LeaseError::Taken(holder)) => {
                let body = ErrorBody::new(kind::INVALID_REQUEST, message).with_code("lease_taken");
                let left = Duration::from_secs(holder.expires_in_s);
                Self::new(StatusCode::CONFLICT, body).retry_after(Some(left))
            }
            AdminError::Keys(KeyError::Unknown(_)) => not_found("not_found", message),
            AdminError::Keys(KeyError::Revoked(_)) => {
                let body = ErrorBody::new(kind::INVALID_REQUEST, message).with_code("key_revoked");
                Self::new(StatusCode::CONFLICT, body)
            }
            AdminError::Keys(KeyError::Io { .. } | KeyError::Damaged { .. }) => {
                Self::unavailable("the keys cannot be written", Duration::from_secs(1))
            }
            AdminError::Cache(CacheError::UnknownExample(_)) => not_found("not_found", message),
            AdminError::Cache(CacheError::Refused(_)) => Self::bad_body(message),
            AdminError::Cache(CacheError::Store(_)) => {
                Self::unavailable("the store cannot be written", Duration::from_secs(1))
            }
            AdminError::Unavailable(_) | AdminError::Disk(_) => {
                Self::unavailable(message, Duration::from_secs(1))
            }
            AdminError::Cache(_) | AdminError::Task(_) => Self::internal(),
            AdminError::Api(error) => error,
        }
    }
}

impl IntoResponse for AdminError {
    fn into_response(self) -> Response {
        if matches!(self, Self::Cache(_) | Self::Disk(_) | Self::Task(_) | Self::Keys(KeyError::Io { .. })) {
            tracing::error!(error = %self, "an admin call failed");
        }
        ApiError::from(self).into_response()
    }
}
