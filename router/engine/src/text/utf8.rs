/// Joins tokens' bytes to text: a code point that tokens share appears once it is whole.
#[derive(Debug, Default)]
pub(crate) struct Utf8Stream {
    /// The beginning of a code point: at most three bytes.
    rest: Vec<u8>,
}

impl Utf8Stream {
    /// Text that `bytes` completes. Bytes that can be no text become U+FFFD.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> String {
        self.rest.extend_from_slice(bytes);
        let mut text = String::new();
        let mut done = 0;
        while let Some(rest) = self.rest.get(done..).filter(|rest| !rest.is_empty()) {
            match std::str::from_utf8(rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    done += valid.len();
                }
                Err(error) => {
                    let (valid, _) = rest.split_at(error.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(valid));
                    done += error.valid_up_to();
                    let Some(invalid) = error.error_len() else { break };
                    text.push(char::REPLACEMENT_CHARACTER);
                    done += invalid;
                }
            }
        }
        self.rest.drain(..done);
        text
    }

    /// True while a code point is not whole.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.rest.is_empty()
    }

    /// What is left when no byte follows.
    pub(crate) fn finish(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.rest)).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_code_point_is_held_until_whole() {
        let mut stream = Utf8Stream::default();
        assert_eq!(stream.push(&"😀".as_bytes()[..2]), "");
        assert_eq!(stream.push(&"😀".as_bytes()[2..]), "😀");
        assert_eq!(stream.push(&[b'a', 0xC3]), "a");
        assert_eq!(stream.push(b"b"), "\u{FFFD}b");
        assert_eq!(stream.push(&[0xE2, 0x82]), "");
        assert_eq!(stream.finish(), "\u{FFFD}");
        assert_eq!(stream.finish(), "");
    }

    proptest! {
        #[test]
        fn any_split_gives_the_lossy_whole(
            text in "\\PC{0,12}",
            noise in proptest::collection::vec(any::<u8>(), 0..12),
            cuts in proptest::collection::vec(1usize..5, 0..40),
        ) {
            let bytes = [text.as_bytes(), &noise, text.as_bytes()].concat();
            let (mut stream, mut joined, mut rest) = (Utf8Stream::default(), String::new(), bytes.as_slice());
            for cut in cuts {
                let (head, tail) = rest.split_at(cut.min(rest.len()));
                joined.push_str(&stream.push(head));
                rest = tail;
            }
            joined.push_str(&stream.push(rest));
            joined.push_str(&stream.finish());
            prop_assert_eq!(joined, String::from_utf8_lossy(&bytes));
        }
    }
}
