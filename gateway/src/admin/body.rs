//! A JSON body whose faults come back in OpenAI's shape.

use axum::extract::{FromRequest, Request};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Admin, AdminError};
use crate::error::ApiError;
use crate::http::json_body;

/// The body read as `T`.
#[derive(Debug)]
pub struct Fields<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Admin> for Fields<T> {
    type Rejection = AdminError;

    async fn from_request(request: Request, admin: &Admin) -> Result<Self, AdminError> {
        let (head, body) = request.into_parts();
        let object = json_body(&head.headers, body, &admin.app().config().server).await?;
        let fields = serde_json::from_value(Value::Object(object));
        fields.map(Self).map_err(|error| ApiError::bad_body(error.to_string()).into())
    }
}
