//! The events of a stream differ in hardly more than their text: what stands around it is compared with the last one's, and only
//! what differs otherwise is parsed.

use memchr::memchr2;

/// An upstream whose events never are alike costs no more than this many looks.
const MOST_LEARNED: u32 = 4;

/// An event's JSON up to its text and after it.
#[derive(Debug, Default)]
pub struct Pattern {
    /// With the quotation mark that begins the text; empty as long as nothing was learned.
    before: String,
    /// With the one that ends it.
    after: String,
    learned: u32,
}

impl Pattern {
    /// The text of an event that is like the one learned of, but for its text. The rest of it says the same.
    pub fn text<'a>(&self, data: &'a str) -> Option<&'a str> {
        if self.before.is_empty() {
            return None;
        }
        let rest = data.strip_prefix(self.before.as_str())?;
        // What is written with a backslash, or may not stand in JSON, is the parser's.
        let (text, after) = rest.split_at_checked(memchr2(b'"', b'\\', rest.as_bytes())?)?;
        (after == self.after && text.bytes().all(|byte| byte >= b' ')).then_some(text)
    }

    /// Learns of an event in which everything but its text is usual. `text` is the part of `data` that holds it, with its
    /// quotation marks.
    pub fn learn(&mut self, data: &str, text: &str) {
        let begin = text.as_ptr().addr().checked_sub(data.as_ptr().addr());
        let Some((before, rest)) = begin.and_then(|begin| data.split_at_checked(begin)) else { return };
        let (Some(inner), Some(after)) = (text.strip_prefix('"'), rest.strip_prefix(text)) else { return };
        if inner.is_empty() || self.learned >= MOST_LEARNED {
            return;
        }
        self.learned += 1;
        (self.before, self.after) = (format!("{before}\""), format!("\"{after}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learned(data: &str, text: &str) -> Pattern {
        let mut pattern = Pattern::default();
        let at = data.find(text).unwrap();
        pattern.learn(data, &data[at..at + text.len()]);
        pattern
    }

    #[test]
    fn only_the_text_may_differ() {
        let pattern = learned(r#"{"a":1,"content":"hi","b":2}"#, r#""hi""#);
        assert_eq!(pattern.text(r#"{"a":1,"content":"you, \u00fc","b":2}"#), None, "for the parser");
        assert_eq!(pattern.text(r#"{"a":1,"content":"you, ü","b":2}"#), Some("you, ü"));
        assert_eq!(pattern.text(r#"{"a":1,"content":"","b":2}"#), Some(""));
        for other in [
            "",
            r#"{"a":1,"content":"hi","b":3}"#,
            r#"{"a":1,"content":"hi","b":2} "#,
            r#"{"a":1,"content":"hi"#,
            r#"{"a":1,"content":null,"b":2}"#,
            r#"{"a":2,"content":"hi","b":2}"#,
            "{\"a\":1,\"content\":\"h\ni\",\"b\":2}",
        ] {
            assert_eq!(pattern.text(other), None, "{other}");
        }
    }

    #[test]
    fn what_is_no_part_of_the_event_teaches_nothing() {
        let mut pattern = Pattern::default();
        pattern.learn(r#"{"content":"hi"}"#, &String::from(r#""hi""#));
        pattern.learn(r#"{"content":7}"#, "7");
        assert_eq!(pattern.text(r#"{"content":"hi"}"#), None);
    }

    #[test]
    fn events_that_are_never_alike_are_given_up() {
        let mut pattern = Pattern::default();
        for number in 0..10 {
            let data = format!(r#"{{"n":{number},"content":"a"}}"#);
            let at = data.find("\"a\"").unwrap();
            pattern.learn(&data, &data[at..at + 3]);
        }
        assert_eq!(pattern.text(r#"{"n":3,"content":"b"}"#), Some("b"));
        assert_eq!(pattern.text(r#"{"n":9,"content":"b"}"#), None);
    }
}
