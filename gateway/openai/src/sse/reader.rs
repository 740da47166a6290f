use std::borrow::Cow;
use std::convert::Infallible;

use memchr::{memchr, memchr2};

/// One event that has arrived whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Event {
    /// The `event` field; empty if there was none.
    pub name: String,
    /// All `data` lines, joined by line ends.
    pub data: String,
}

/// An event grew past the reader's limit: the sender is broken or hostile. The reader is of no more use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a server-sent event is longer than {limit} bytes")]
pub struct EventTooLong {
    pub limit: usize,
}

/// Why a stream is not read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unread<E> {
    TooLong(EventTooLong),
    /// By whoever takes the events.
    Refused(E),
}

impl<E> From<EventTooLong> for Unread<E> {
    fn from(error: EventTooLong) -> Self {
        Self::TooLong(error)
    }
}

/// Turns bytes, cut anywhere, into events.
#[derive(Debug)]
pub struct EventReader {
    limit: usize,
    line: Vec<u8>,
    name: String,
    data: String,
    has_data: bool,
    /// The last byte was a carriage return: a line feed right after it belongs to it.
    after_cr: bool,
    /// No line was seen yet: a byte order mark may stand before the first.
    at_start: bool,
}

const DEFAULT_LIMIT: usize = 4 << 20;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

impl Default for EventReader {
    fn default() -> Self {
        Self::with_limit(DEFAULT_LIMIT)
    }
}

impl EventReader {
    /// `limit`: the most bytes that one event may hold.
    #[must_use]
    pub fn with_limit(limit: usize) -> Self {
        Self {
            limit,
            line: Vec::new(),
            name: String::new(),
            data: String::new(),
            has_data: false,
            after_cr: false,
            at_start: true,
        }
    }

    /// Takes the next bytes; returns the events that they complete, in order.
    ///
    /// # Errors
    /// [`EventTooLong`], after which the stream has to be given up.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Event>, EventTooLong> {
        let mut events = Vec::new();
        let read = self.read(bytes, |name, data| {
            events.push(Event { name: name.to_owned(), data: data.to_owned() });
            Ok::<_, Infallible>(())
        });
        match read {
            Ok(()) => Ok(events),
            Err(Unread::TooLong(error)) => Err(error),
            Err(Unread::Refused(never)) => match never {},
        }
    }

    /// Takes the next bytes, and hands over each event that they complete as its name and its data.
    ///
    /// # Errors
    /// [`EventTooLong`], or what `each` says to one; after either the stream has to be given up.
    pub fn read<E>(
        &mut self,
        bytes: &[u8],
        mut each: impl FnMut(&str, &str) -> Result<(), E>,
    ) -> Result<(), Unread<E>> {
        let mut rest = bytes;
        if self.after_cr && !rest.is_empty() {
            self.after_cr = false;
            rest = rest.strip_prefix(b"\n").unwrap_or(rest);
        }
        while let Some(end) = memchr2(b'\n', b'\r', rest) {
            if let Some((data, after)) = self.plain(rest, end) {
                self.check(&rest[..end])?;
                each("", data).map_err(Unread::Refused)?;
                rest = after;
                continue;
            }
            let (last, carriage_return) = (&rest[..end], rest[end] == b'\r');
            rest = &rest[end + 1..];
            if carriage_return {
                match rest {
                    [] => self.after_cr = true,
                    [b'\n', after @ ..] => rest = after,
                    _ => {}
                }
            }
            if let Some(event) = self.end_line(last)? {
                each(&event.name, &event.data).map_err(Unread::Refused)?;
            }
        }
        self.check(rest)?;
        self.line.extend_from_slice(rest);
        Ok(())
    }

    /// An event of one line that is there whole, as all but always; `end` is that of its first line. Nothing of it is copied.
    fn plain<'a>(&self, rest: &'a [u8], end: usize) -> Option<(&'a str, &'a [u8])> {
        let fresh = self.line.is_empty() && self.name.is_empty() && !self.has_data && !self.at_start;
        let data = rest[..end].strip_prefix(b"data: ").filter(|_| fresh)?;
        let after = rest[end..].strip_prefix(b"\n\n").or_else(|| rest[end..].strip_prefix(b"\r\n\r\n"))?;
        Some((str::from_utf8(data).ok()?, after))
    }

    fn check(&self, part: &[u8]) -> Result<(), EventTooLong> {
        if self.line.len() + self.data.len() + part.len() > self.limit {
            return Err(EventTooLong { limit: self.limit });
        }
        Ok(())
    }

    /// A line with its last part. Seldom is there another: then nothing is copied.
    fn end_line(&mut self, last: &[u8]) -> Result<Option<Event>, EventTooLong> {
        self.check(last)?;
        if self.line.is_empty() {
            return Ok(self.line(last));
        }
        let mut line = std::mem::take(&mut self.line);
        line.extend_from_slice(last);
        let event = self.line(&line);
        line.clear();
        self.line = line;
        Ok(event)
    }

    fn line(&mut self, line: &[u8]) -> Option<Event> {
        let line = if std::mem::take(&mut self.at_start) {
            line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line)
        } else {
            line
        };
        if line.is_empty() {
            return self.dispatch();
        }
        let (field, value) = match memchr(b':', line) {
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (line, &[][..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        // Checking is much faster than mending, and all but always enough.
        let value = str::from_utf8(value).map_or_else(|_| String::from_utf8_lossy(value), Cow::Borrowed);
        match field {
            b"data" => {
                if self.has_data {
                    self.data.push('\n');
                }
                self.data.push_str(&value);
                self.has_data = true;
            }
            b"event" => self.name = value.into_owned(),
            // Comments (an empty field), `id`, `retry` and unknown fields mean nothing to this reader.
            _ => {}
        }
        None
    }

    fn dispatch(&mut self) -> Option<Event> {
        let name = std::mem::take(&mut self.name);
        let data = std::mem::take(&mut self.data);
        std::mem::take(&mut self.has_data).then_some(Event { name, data })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sse::writer;

    fn read(bytes: &[u8]) -> Vec<Event> {
        EventReader::default().push(bytes).unwrap()
    }

    fn datas(bytes: &[u8]) -> Vec<String> {
        read(bytes).into_iter().map(|event| event.data).collect()
    }

    #[test]
    fn fields_comments_and_line_ends() {
        let stream =
            b"\xef\xbb\xbf: hello\r\n\r\nevent: ping\rid: 3\rdata:one\r\ndata:  two\n\ndata\n\nretry: 3\n\n";
        let events = read(stream);
        assert_eq!(events[0], Event { name: "ping".into(), data: "one\n two".into() });
        assert_eq!(events[1], Event::default());
        assert_eq!(events.len(), 2);
    }

    #[test]
    fn an_event_without_its_end_is_not_given_out() {
        assert!(read(b"data: half\n").is_empty());
    }

    #[test]
    fn an_endless_event_is_refused() {
        let mut reader = EventReader::with_limit(10);
        assert!(reader.push(b"data: 1\n\n").is_ok());
        assert_eq!(reader.push(b"data: 12345678"), Err(EventTooLong { limit: 10 }));
        let mut reader = EventReader::with_limit(10);
        assert!(reader.push(b"data: 123456\ndata: 7\n").is_err());
    }

    #[test]
    fn written_events_are_read_back() {
        let mut stream = writer::comment("keep\nalive").to_vec();
        stream.extend_from_slice(&writer::json(&serde_json::json!({"a": "x\ny"})).unwrap());
        stream.extend_from_slice(&writer::DONE);
        assert_eq!(datas(&stream), [r#"{"a":"x\ny"}"#, "[DONE]"]);
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_events(
            lines in prop::collection::vec(("(data|event|id|: c|x)?:? ?[ -~é€]{0,12}", "\n|\r\n|\r"), 0..24),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..16),
        ) {
            let stream: String = lines.into_iter().map(|(line, end)| line + &end).collect();
            let stream = stream.as_bytes();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            let mut reader = EventReader::default();
            let mut events = Vec::new();
            for pair in cuts.windows(2) {
                events.extend(reader.push(&stream[pair[0]..pair[1]]).unwrap());
            }
            prop_assert_eq!(events, read(stream));
        }

        #[test]
        fn what_is_written_is_read_however_it_is_cut(
            events in prop::collection::vec((any::<bool>(), "(?s).{0,24}"), 0..8),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..16),
        ) {
            let mut stream = Vec::new();
            for (as_json, text) in &events {
                stream.extend_from_slice(&writer::comment(text));
                let event = if *as_json { writer::json(text).unwrap() } else { writer::data(text) };
                stream.extend_from_slice(&event);
            }
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            let mut reader = EventReader::default();
            let mut read = Vec::new();
            for pair in cuts.windows(2) {
                read.extend(reader.push(&stream[pair[0]..pair[1]]).unwrap());
            }
            // A line end comes back as one, whichever it was.
            let told = |(as_json, text): &(bool, String)| match as_json {
                true => serde_json::to_string(text).unwrap(),
                false => text.replace("\r\n", "\n").replace('\r', "\n"),
            };
            prop_assert_eq!(
                read.into_iter().map(|event| event.data).collect::<Vec<_>>(),
                events.iter().map(told).collect::<Vec<_>>()
            );
        }

        #[test]
        fn no_bytes_are_too_much(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..8)) {
            let mut reader = EventReader::with_limit(64);
            for piece in &pieces {
                if reader.push(piece).is_err() {
                    break;
                }
            }
        }

        #[test]
        fn what_is_written_is_read(texts in prop::collection::vec("[ -~\n]{0,40}", 0..8)) {
            let stream: Vec<u8> = texts.iter().flat_map(|text| writer::data(text)).collect();
            prop_assert_eq!(datas(&stream), texts);
        }
    }
}
