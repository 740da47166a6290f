//! What a route takes and gives, beside the route itself in its table.

use http::{Method, StatusCode};
use schemars::{JsonSchema, Schema, SchemaGenerator};

/// A schema that is made when the document is.
pub type Shape = fn(&mut SchemaGenerator) -> Schema;

/// Which headers come and go with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contract {
    /// Directives about cache and priority are read, and the answer tells what happened.
    Answer,
    /// The answer has the headers of the contract.
    Api,
    Admin,
    /// No key, and a request id alone.
    Open,
}

#[derive(Debug, Clone)]
pub struct Operation {
    pub method: Method,
    /// As OpenAPI writes it.
    pub path: String,
    pub id: &'static str,
    pub about: &'static str,
    pub contract: Contract,
    /// Its fields are the query's.
    pub query: Option<Shape>,
    pub body: Option<Body>,
    pub answers: Vec<Answer>,
    /// Statuses with an error's body.
    pub refusals: &'static [u16],
    /// Operations whose path takes the id that the answer tells, under this name.
    pub links: (&'static str, &'static [&'static str]),
}

#[derive(Debug, Clone, Copy)]
pub struct Body {
    pub shape: Shape,
    pub required: bool,
}

#[derive(Debug, Clone, Copy)]
pub struct Answer {
    pub status: StatusCode,
    pub kind: &'static str,
    /// Of the body, or of the data of each of its events; `None`: text.
    pub shape: Option<Shape>,
    /// The last event is `[DONE]`.
    pub done: bool,
}

pub const JSON: &str = "application/json";
pub const EVENTS: &str = "text/event-stream";

impl Operation {
    pub fn new(contract: Contract, id: &'static str, about: &'static str) -> Self {
        Self {
            method: Method::GET,
            path: String::new(),
            id,
            about,
            contract,
            query: None,
            body: None,
            answers: Vec::new(),
            refusals: &[],
            links: ("id", &[]),
        }
    }

    #[must_use]
    pub fn takes<T: JsonSchema>(mut self) -> Self {
        self.body = Some(Body { shape: shape::<T>, required: true });
        self
    }

    #[must_use]
    pub fn may_take<T: JsonSchema>(mut self) -> Self {
        self.body = Some(Body { shape: shape::<T>, required: false });
        self
    }

    #[must_use]
    pub fn asks<T: JsonSchema>(mut self) -> Self {
        self.query = Some(shape::<T>);
        self
    }

    #[must_use]
    pub fn gives<T: JsonSchema>(self) -> Self {
        self.answers_with(StatusCode::OK, JSON, Some(shape::<T>))
    }

    #[must_use]
    pub fn gives_at<T: JsonSchema>(self, status: StatusCode) -> Self {
        self.answers_with(status, JSON, Some(shape::<T>))
    }

    /// Server-sent events with such data.
    #[must_use]
    pub fn streams<T: JsonSchema>(self) -> Self {
        self.answers_with(StatusCode::OK, EVENTS, Some(shape::<T>))
    }

    /// The same, and `[DONE]` at the end.
    #[must_use]
    pub fn streams_until_done<T: JsonSchema>(mut self) -> Self {
        let (status, kind, shape) = (StatusCode::OK, EVENTS, Some(shape::<T> as Shape));
        self.answers.push(Answer { status, kind, shape, done: true });
        self
    }

    #[must_use]
    pub fn gives_text(self) -> Self {
        self.answers_with(StatusCode::OK, "text/plain", None)
    }

    #[must_use]
    pub fn refuses(mut self, statuses: &'static [u16]) -> Self {
        self.refusals = statuses;
        self
    }

    /// The field of the answer that these operations take as `id`.
    #[must_use]
    pub fn leads_to(mut self, field: &'static str, operations: &'static [&'static str]) -> Self {
        self.links = (field, operations);
        self
    }

    fn answers_with(mut self, status: StatusCode, kind: &'static str, shape: Option<Shape>) -> Self {
        self.answers.push(Answer { status, kind, shape, done: false });
        self
    }
}

fn shape<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}
