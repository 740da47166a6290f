//! The data fields of a stream of server-sent events, whatever the pieces it arrives in.

/// Collects bytes and gives out the data of each event that is complete.
#[derive(Debug, Default)]
pub(super) struct Events {
    rest: Vec<u8>,
    data: Vec<String>,
}

impl Events {
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        self.rest.extend_from_slice(bytes);
        let mut events = Vec::new();
        while let Some(end) = self.rest.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches(['\n', '\r']);
            if let Some(data) = line.strip_prefix("data:") {
                self.data.push(data.strip_prefix(' ').unwrap_or(data).to_owned());
            } else if line.is_empty() && !self.data.is_empty() {
                events.push(std::mem::take(&mut self.data).join("\n"));
            }
        }
        events
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_split_gives_the_same_events() {
        let stream =
            ": hello\ndata: {\"a\":\"\u{e9}\"}\n\nevent: x\r\ndata: one\r\ndata:two\r\n\r\ndata: [DONE]\n\n"
                .as_bytes();
        let whole = Events::default().push(stream);
        assert_eq!(whole, ["{\"a\":\"\u{e9}\"}", "one\ntwo", "[DONE]"]);
        for at in 0..stream.len() {
            let mut events = Events::default();
            let mut parts = events.push(&stream[..at]);
            parts.extend(events.push(&stream[at..]));
            assert_eq!(parts, whole, "split at {at}");
        }
    }
}
