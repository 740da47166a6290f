use bytes::Bytes;
use serde::Serialize;

/// The event that ends every stream of OpenAI's.
pub const DONE: Bytes = Bytes::from_static(b"data: [DONE]\n\n");

/// One event with this data; a line end within becomes a further `data` line.
#[must_use]
pub fn data(text: &str) -> Bytes {
    let mut event = String::with_capacity(text.len() + 16);
    for line in text.replace("\r\n", "\n").split(['\n', '\r']) {
        event.push_str("data: ");
        event.push_str(line);
        event.push('\n');
    }
    event.push('\n');
    Bytes::from(event)
}

/// One event with this value as JSON, which holds no line end.
///
/// # Errors
/// Only where a value's own `Serialize` fails.
pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Bytes, serde_json::Error> {
    let mut event = Vec::with_capacity(256);
    event.extend_from_slice(b"data: ");
    serde_json::to_writer(&mut event, value)?;
    event.extend_from_slice(b"\n\n");
    Ok(Bytes::from(event))
}

/// A line that readers skip: keeps a silent connection open.
#[must_use]
pub fn comment(text: &str) -> Bytes {
    Bytes::from(format!(": {}\n\n", text.replace(['\n', '\r'], " ")))
}
