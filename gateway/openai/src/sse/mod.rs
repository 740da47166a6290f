//! Server-sent events, both ways (<https://html.spec.whatwg.org/multipage/server-sent-events.html>).
//!
//! Reading takes bytes in any pieces and is bounded; an adapter over a stream of bytes would tie this crate to one
//! HTTP client.

mod reader;
mod writer;

pub use reader::{Event, EventReader, EventTooLong, Unread};
pub use writer::{DONE, comment, data, json};
