//! `POST /v1/embeddings`, by the embedder that the cache uses.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::{StreamExt, TryStreamExt, stream};
use http::{HeaderMap, StatusCode};
use reprise_cache::{EmbedError, Embedder, UnitVector};
use reprise_openai::{
    Embedding, EmbeddingInput, EmbeddingRequest, EmbeddingResponse, EmbeddingUsage, EmbeddingVector,
    ErrorBody, Usage,
};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::auth::Caller;
use crate::charge::Charge;
use crate::error::ApiError;
use crate::http::{Facts, json_body};
use crate::state::SharedState;

/// OpenAI's own.
const MOST_INPUTS: usize = 2048;
/// Texts given to the embedder at once: live requests wait in the same queue.
const AT_ONCE: usize = 16;
const RETRY: Duration = Duration::from_secs(1);

pub async fn embeddings(
    State(state): State<SharedState>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let _slot = Arc::clone(&state.slots).try_acquire_owned().map_err(|_| ApiError::busy())?;
    let config = state.config();
    let body = json_body(&headers, body, &config.server).await?;
    let request = EmbeddingRequest::from_body(&body)?;
    let model = config.embedder.model.clone();
    if request.model != model {
        return Err(ApiError::model_not_found(&request.model));
    }
    let base64 = wants_base64(&request)?;
    let memory = state.memory().ok_or_else(|| ApiError::unavailable("The embedder is not ready.", RETRY))?;
    check_dimensions(&request, memory.embedder.dimensions())?;
    let texts = texts(request.input)?;
    let (texts, tokens) = counted(Arc::clone(&memory.embedder), texts).await?;
    let mut charge = Charge::new(&state, &caller);
    charge.reserve(u64::from(tokens), 0)?;
    let embed = |text: String| {
        let embedder = Arc::clone(&memory.embedder);
        async move { embedder.embed(&text).await }
    };
    let embedding = stream::iter(texts.into_iter().map(embed)).buffered(AT_ONCE);
    let vectors: Vec<UnitVector> = timeout(config.server.request_timeout, embedding.try_collect())
        .await
        .map_err(|_| ApiError::deadline())?
        .map_err(refused)?;
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

fn wants_base64(request: &EmbeddingRequest) -> Result<bool, ApiError> {
    match request.encoding_format.as_deref() {
        None | Some("float") => Ok(false),
        Some("base64") => Ok(true),
        Some(other) => {
            let message = format!("Invalid 'encoding_format': '{other}' is neither 'float' nor 'base64'.");
            Err(ApiError::invalid("encoding_format", message))
        }
    }
}

/// As OpenAI does with its models that were not trained for it (Matryoshka, arXiv 2205.13147): vectors of MiniLM that are cut short
/// mean less in a way that nobody measured, so the client is told instead.
fn check_dimensions(request: &EmbeddingRequest, dimensions: usize) -> Result<(), ApiError> {
    match request.dimensions {
        Some(wanted) if usize::try_from(wanted) != Ok(dimensions) => {
            let message = format!(
                "Unsupported 'dimensions': this model's vectors have {dimensions} dimensions and cannot be shortened."
            );
            Err(ApiError::unsupported("dimensions", message))
        }
        _ => Ok(()),
    }
}

fn texts(input: EmbeddingInput) -> Result<Vec<String>, ApiError> {
    let texts = match input {
        EmbeddingInput::One(text) => vec![text],
        EmbeddingInput::Many(texts) => texts,
        EmbeddingInput::Tokens(_) | EmbeddingInput::ManyTokens(_) => {
            let message = "Unsupported 'input': ids of tokens are one model's own; send text.";
            return Err(ApiError::unsupported("input", message));
        }
    };
    if texts.is_empty() || texts.len() > MOST_INPUTS {
        return Err(ApiError::invalid("input", format!("'input' must hold 1 to {MOST_INPUTS} texts.")));
    }
    if texts.iter().any(|text| text.is_empty()) {
        return Err(ApiError::invalid("input", "'input' must not hold an empty text."));
    }
    Ok(texts)
}

/// The texts, and how many tokens they have together. One that would be read in part is refused, as OpenAI does.
async fn counted(embedder: Arc<dyn Embedder>, texts: Vec<String>) -> Result<(Vec<String>, u32), ApiError> {
    let counting = move || {
        let (mut all, most) = (0_usize, embedder.max_tokens());
        for (index, text) in texts.iter().enumerate() {
            let tokens = embedder.count_tokens(text).map_err(refused)?;
            if tokens > most {
                let message = format!(
                    "This model reads at most {most} tokens of a text, but input[{index}] has {tokens}."
                );
                let mut body = ErrorBody::context_length_exceeded(message);
                body.param = Some(format!("input[{index}]"));
                return Err(ApiError::new(StatusCode::BAD_REQUEST, body));
            }
            all += tokens;
        }
        Ok((texts, u32::try_from(all).unwrap_or(u32::MAX)))
    };
    spawn_blocking(counting).await.map_err(|_| ApiError::internal())?
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
    use reprise_router::PolicyKind;
    use serde_json::{Value, json};

    use super::*;
    use crate::chat::scripted::{self, Play, Scripted, Stage};

    async fn ask(fields: Value) -> (u16, Value) {
        let small = Scripted::new("small", 0.1, &[Play::Say("blue")]);
        let stage = Stage::new(PolicyKind::SmallPlain, &[&small]);
        let mut body = json!({ "model": stage.state.config().embedder.model });
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let response = stage.send_to("POST", "/v1/embeddings", &body, &[]).await;
        (response.status().as_u16(), scripted::json(response).await)
    }

    #[tokio::test]
    async fn each_text_has_its_vector_in_order_and_tokens_are_counted() {
        let texts: Vec<String> = (0..100).map(|n| format!("word{n}")).collect();
        let (status, answer) = ask(json!({ "input": texts, "dimensions": 256 })).await;
        assert_eq!((status, &answer["usage"]), (200, &json!({"prompt_tokens": 300, "total_tokens": 300})));
        let (_, last) = ask(json!({"input": "word99"})).await;
        assert_eq!(answer["data"][99]["embedding"], last["data"][0]["embedding"]);
        assert_eq!(
            (answer["data"][99]["index"].as_u64(), answer["data"].as_array().unwrap().len()),
            (Some(99), 100)
        );
    }

    #[tokio::test]
    async fn what_cannot_be_honoured_is_refused_by_name() {
        let long = vec!["word"; 15].join(" ");
        for (fields, param, code) in [
            (json!({"input": "a", "dimensions": 64}), "dimensions", "unsupported_parameter"),
            (json!({"input": "a", "dimensions": -1}), "dimensions", "unsupported_parameter"),
            (json!({"input": "a", "encoding_format": "int8"}), "encoding_format", "invalid_value"),
            (json!({"input": [1, 2, 3]}), "input", "unsupported_parameter"),
            (json!({"input": [[1], [2]]}), "input", "unsupported_parameter"),
            (json!({"input": ""}), "input", "invalid_value"),
            (json!({"input": ["a", ""]}), "input", "invalid_value"),
            (json!({"input": []}), "input", "invalid_value"),
            (json!({"input": vec!["a"; MOST_INPUTS + 1]}), "input", "invalid_value"),
            (json!({"input": ["a", long]}), "input[1]", "context_length_exceeded"),
        ] {
            let (status, answer) = ask(fields).await;
            let error = &answer["error"];
            assert_eq!(
                (status, &error["param"], &error["code"]),
                (400, &json!(param), &json!(code)),
                "{answer}"
            );
        }
        assert_eq!(ask(json!({"input": {}})).await.1["error"]["param"], "input");
        assert_eq!(ask(json!({"input": "a", "model": "other"})).await.0, 404);
    }

    #[test]
    fn base64_is_little_endian_floats() {
        let vector = UnitVector::try_new(vec![1.0, 0.0]).unwrap();
        assert_eq!(encode(&vector, true), EmbeddingVector::Base64("AACAPwAAAAA=".into()));
        assert_eq!(encode(&vector, false), EmbeddingVector::Float(vec![1.0, 0.0]));
    }
}
