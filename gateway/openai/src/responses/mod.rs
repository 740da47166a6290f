//! `POST /v1/responses` and what was stored of its answers.

mod request;
mod response;

pub use request::{InputItem, ResponseInput, ResponseRequest, ResponseTool};
pub use response::{
    Deleted, IncompleteDetails, InputItems, InputTokensDetails, OutputItem, OutputPart, OutputTokensDetails,
    Response, ResponseError, ResponseEvent, ResponseUsage,
};
