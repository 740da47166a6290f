//! All routes outside of `/admin/v1` and of the console's files, and what each takes and gives.

use http::StatusCode;
use reprise_openai::chat::{ChatCompletion, ChatCompletionChunk, ChatRequest};
use reprise_openai::completions::{Completion, CompletionRequest};
use reprise_openai::responses::{Deleted, InputItems, Response, ResponseEvent, ResponseRequest};
use reprise_openai::{EmbeddingRequest, EmbeddingResponse, Model, ModelList};

use super::health::Readiness;
use super::{health, models, scrape};
use crate::feedback::{Accepted, Feedback};
use crate::openapi::{self, Contract, Operation, Routes};
use crate::state::SharedState;
use crate::{chat, completions, embeddings, feedback, responses};

/// Whatever may go wrong between a body and an answer: the client's, the limits', a tier's, ours.
const ANSWERING: &[u16] = &[400, 401, 403, 404, 408, 413, 415, 422, 429, 500, 502, 503, 504];
const EMBEDDING: &[u16] = &[400, 401, 403, 404, 408, 413, 415, 429, 500, 503, 504];
const JUDGING: &[u16] = &[400, 401, 403, 404, 408, 413, 415, 500];
const FETCHING: &[u16] = &[400, 401, 403, 404, 500];

/// Those that need a key.
pub fn keyed() -> Routes<SharedState> {
    let answer = |id, about| Operation::new(Contract::Answer, id, about).refuses(ANSWERING);
    let api = |id, about, refusals| Operation::new(Contract::Api, id, about).refuses(refusals);
    Routes::under("")
        .post(
            "/v1/chat/completions",
            chat::completions,
            answer("createChatCompletion", "Answers a conversation.")
                .takes::<ChatRequest>()
                .gives::<ChatCompletion>()
                .streams_until_done::<ChatCompletionChunk>(),
        )
        .post(
            "/v1/completions",
            completions::completions,
            answer("createCompletion", "Goes on with a text as it stands.")
                .takes::<CompletionRequest>()
                .gives::<Completion>()
                .streams_until_done::<Completion>(),
        )
        .post(
            "/v1/responses",
            responses::create,
            answer("createResponse", "Answers, and keeps the answer to be gone on from.")
                .takes::<ResponseRequest>()
                .gives::<Response>()
                .leads_to("id", &["getResponse", "listInputItems", "deleteResponse"])
                .streams::<ResponseEvent>(),
        )
        .get(
            "/v1/responses/{id}",
            responses::get,
            api("getResponse", "A response that was kept.", FETCHING).gives::<Response>(),
        )
        .delete(
            "/v1/responses/{id}",
            responses::delete,
            api("deleteResponse", "Forgets a response that was kept.", FETCHING).gives::<Deleted>(),
        )
        .get(
            "/v1/responses/{id}/input_items",
            responses::input_items,
            api("listInputItems", "What a kept response answers.", FETCHING).gives::<InputItems>(),
        )
        .post(
            "/v1/embeddings",
            embeddings::embeddings,
            api("createEmbedding", "Texts as unit vectors.", EMBEDDING)
                .takes::<EmbeddingRequest>()
                .gives::<EmbeddingResponse>(),
        )
        .get(
            "/v1/models",
            models::list,
            api("listModels", "`auto`, and every tier by its name and by its model's id.", &[401, 403])
                .gives::<ModelList>(),
        )
        .get(
            "/v1/models/{*id}",
            models::one,
            api("retrieveModel", "One of them.", &[400, 401, 403, 404]).gives::<Model>(),
        )
        .post(
            "/v1/feedback",
            feedback::feedback,
            api(
                "giveFeedback",
                "How an answer was: exactly one of `rating`, `preference` and `corrected`.",
                JUDGING,
            )
            .takes::<Feedback>()
            .gives_at::<Accepted>(StatusCode::ACCEPTED),
        )
}

/// Those that need none: whoever may reach the gateway may know that it lives, and what its metrics are.
pub fn open() -> Routes<SharedState> {
    let open = |id, about| Operation::new(Contract::Open, id, about);
    Routes::under("")
        .get("/livez", health::livez, open("livez", "The process answers.").gives_text())
        .get(
            "/readyz",
            health::readyz,
            open("readyz", "A tier answers, and the cache has come up or failed to.")
                .gives::<Readiness>()
                .gives_at::<Readiness>(StatusCode::SERVICE_UNAVAILABLE),
        )
        .get(
            "/metrics",
            scrape::metrics,
            open("metrics", "Metrics in Prometheus' text format.").gives_text().refuses(&[500]),
        )
        .get(
            "/openapi.json",
            openapi::show,
            open("openapi", "This document.").gives::<serde_json::Map<String, serde_json::Value>>(),
        )
}
