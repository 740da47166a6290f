//! `POST /v1/embeddings`, by the embedder that the cache uses.

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::future::try_join_all;
use http::HeaderMap;
use reprise_cache::{EmbedError, UnitVector};
use reprise_openai::{
    Embedding, EmbeddingRequest, EmbeddingResponse, EmbeddingUsage, EmbeddingVector, Usage,
};

use crate::auth::Caller;
use crate::charge::Charge;
use crate::error::ApiError;
use crate::http::{Facts, json_body};
use crate::state::SharedState;

const MOST_INPUTS: usize = 256;
const RETRY: std::time::Duration = std::time::Duration::from_secs(1);

pub async fn embeddings(
    State(state): State<SharedState>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let _slot = std::sync::Arc::clone(&state.slots).try_acquire_owned().map_err(|_| ApiError::busy())?;
    let body = json_body(&headers, body, &state.config().server).await?;
    let request = EmbeddingRequest::from_body(&body)?;
    let model = state.config().embedder.model.clone();
    if request.model != model {
        return Err(ApiError::model_not_found(&request.model));
    }
    let base64 = match request.encoding_format.as_deref() {
        None | Some("float") => false,
        Some("base64") => true,
        Some(other) => {
            let message = format!("Invalid 'encoding_format': '{other}' is neither 'float' nor 'base64'.");
            return Err(ApiError::invalid("encoding_format", message));
        }
    };
    let memory = state.memory().ok_or_else(|| ApiError::unavailable("The embedder is not ready.", RETRY))?;
    let dimensions = memory.embedder.dimensions();
    if request.dimensions.is_some_and(|wanted| usize::try_from(wanted) != Ok(dimensions)) {
        return Err(ApiError::invalid("dimensions", format!("This model has {dimensions} dimensions.")));
    }
    let texts = request.input.into_vec();
    if texts.is_empty() || texts.len() > MOST_INPUTS {
        return Err(ApiError::invalid("input", format!("'input' must hold 1 to {MOST_INPUTS} texts.")));
    }
    if texts.iter().any(|text| text.is_empty()) {
        return Err(ApiError::invalid("input", "'input' must not hold an empty text."));
    }
    // Estimated from the text's length: the embedder does not say.
    let tokens: usize = texts.iter().map(|text| text.len().div_ceil(4)).sum();
    let tokens = u32::try_from(tokens).unwrap_or(u32::MAX);
    let mut charge = Charge::new(&state, &caller);
    charge.reserve(u64::from(tokens), 0)?;
    let vectors =
        try_join_all(texts.iter().map(|text| memory.embedder.embed(text))).await.map_err(refused)?;
    let data = vectors.iter().enumerate().map(|(index, vector)| Embedding {
        object: "embedding".to_owned(),
        index,
        embedding: encode(vector, base64),
    });
    charge.answered(&model, Usage::new(tokens, 0));
    charge.recorded().await?;
    let response = EmbeddingResponse {
        object: "list".to_owned(),
        data: data.collect(),
        model,
        usage: EmbeddingUsage { prompt_tokens: tokens, total_tokens: tokens },
    };
    let facts = Facts { standing: charge.standing(), ..Facts::default() };
    let mut response = Json(response).into_response();
    response.extensions_mut().insert(facts);
    Ok(response)
}

fn encode(vector: &UnitVector, base64: bool) -> EmbeddingVector {
    if !base64 {
        return EmbeddingVector::Float(vector.as_slice().to_vec());
    }
    let bytes: Vec<u8> = vector.as_slice().iter().flat_map(|value| value.to_le_bytes()).collect();
    EmbeddingVector::Base64(STANDARD.encode(bytes))
}

fn refused(error: EmbedError) -> ApiError {
    match error {
        EmbedError::Overloaded => ApiError::busy(),
        EmbedError::Vector(_) => ApiError::invalid("input", "A text has no meaning that could be embedded."),
        EmbedError::Stopped => ApiError::unavailable("The embedder has stopped.", RETRY),
        EmbedError::Failed(reason) => {
            tracing::error!(reason, "the embedder failed");
            ApiError::internal()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_little_endian_floats() {
        let vector = UnitVector::try_new(vec![1.0, 0.0]).unwrap();
        assert_eq!(encode(&vector, true), EmbeddingVector::Base64("AACAPwAAAAA=".into()));
        assert_eq!(encode(&vector, false), EmbeddingVector::Float(vec![1.0, 0.0]));
    }
}
