//! A request is read as a chat request: what is wrong with it is told in the names of the Responses API.

use crate::error::ApiError;

/// `error` with the field named as the client knows it.
pub fn renamed(mut error: ApiError) -> ApiError {
    if let Some(param) = error.body.param.take() {
        let name = name(&param);
        error.body.message = error.body.message.replace(&format!("'{param}'"), &format!("'{name}'"));
        error.body.param = Some(name);
    }
    error
}

fn name(param: &str) -> String {
    if param.starts_with("messages") {
        // The turns before it are no part of this request, so that their numbers would say nothing.
        return "input".to_owned();
    }
    if let Some(rest) = param.strip_prefix("response_format") {
        let rest = rest.strip_prefix(".json_schema").unwrap_or(rest);
        return format!("text.format{rest}");
    }
    match param {
        "max_completion_tokens" => "max_output_tokens".to_owned(),
        "reasoning_effort" => "reasoning.effort".to_owned(),
        "verbosity" => "text.verbosity".to_owned(),
        _ if param.starts_with("tools") || param.starts_with("tool_choice") => param.replace(".function", ""),
        _ => param.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_have_the_names_that_the_client_knows() {
        for (chat, here) in [
            ("messages[3].content", "input"),
            ("response_format.json_schema.name", "text.format.name"),
            ("response_format", "text.format"),
            ("max_completion_tokens", "max_output_tokens"),
            ("tools[1].function.parameters", "tools[1].parameters"),
            ("tool_choice.function", "tool_choice"),
            ("temperature", "temperature"),
        ] {
            let error = renamed(ApiError::invalid(chat, format!("Invalid '{chat}': no.")));
            assert_eq!(error.body.param.as_deref(), Some(here));
            assert_eq!(error.body.message, format!("Invalid '{here}': no."));
        }
    }
}
