//! `response_format`: what the answer has to be.

use std::sync::Arc;

use reprise_openai::chat::ResponseFormat;
use reprise_tier::JsonForm;
use serde_json::{Value, json};

use super::tools::check_name;
use crate::error::ApiError;

/// The form; and the field, if its kind is one that only a remote tier may know.
///
/// A schema is held to whether it calls itself strict or not: that is more than was asked for, never less.
///
/// # Errors
/// 400 that names the field.
pub fn form(sent: Option<&ResponseFormat>) -> Result<(Option<JsonForm>, Option<String>), ApiError> {
    let Some(sent) = sent else { return Ok((None, None)) };
    let form = match sent.kind.as_str() {
        "text" => None,
        "json_object" => Some(JsonForm::Object),
        "json_schema" => {
            let field = "response_format.json_schema";
            let named = sent.json_schema.as_ref();
            let named = named.ok_or_else(|| ApiError::missing(field))?;
            check_name(&format!("{field}.name"), &named.name)?;
            let schema = named.schema.clone().map_or_else(|| json!({"type": "object"}), Value::Object);
            Some(JsonForm::Schema(Arc::new(schema)))
        }
        _ => return Ok((None, Some("response_format".to_owned()))),
    };
    Ok((form, None))
}
