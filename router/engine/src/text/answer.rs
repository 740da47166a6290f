use std::{collections::VecDeque, sync::Arc};

use reprise_tier::{Event, LikelyToken, TokenLogprob};

use super::{
    Vocabulary,
    stop::{Matched, StopMatcher},
    utf8::Utf8Stream,
};
use crate::sampling::{Chosen, Logprobs};

/// Puts an answer together from its tokens: whole code points, stop strings kept back, log probabilities beside the text
/// that they belong to.
///
/// A token's log probabilities are told with the text that holds the last of it. So the bytes of the tokens told, end to
/// end, are always what was told of the text or a beginning of it: a token that a stop string cuts is not told, nor is
/// one that stands for no text.
#[derive(Debug)]
pub(crate) struct AnswerBuilder {
    vocabulary: Arc<Vocabulary>,
    text: Utf8Stream,
    stop: StopMatcher,
    /// Bytes of text that tokens have made so far.
    made: usize,
    /// Of these, how many were told.
    told: usize,
    waiting: VecDeque<Waiting>,
}

/// Log probabilities of a token whose text was not told yet.
#[derive(Debug)]
struct Waiting {
    /// They may be told once so many bytes of text were.
    after: usize,
    logprob: TokenLogprob,
}

/// What a token, or the end of the tokens, adds to the answer.
#[derive(Debug)]
pub(crate) struct Piece {
    /// An [`Event::Delta`] to send.
    pub(crate) delta: Option<Event>,
    /// A stop string follows it: the answer ends here, and nothing more is to be pushed.
    pub(crate) stopped: bool,
}

impl AnswerBuilder {
    pub(crate) fn new(vocabulary: Arc<Vocabulary>, stops: &[String]) -> Self {
        Self {
            vocabulary,
            text: Utf8Stream::default(),
            stop: StopMatcher::new(stops),
            made: 0,
            told: 0,
            waiting: VecDeque::new(),
        }
    }

    /// The next token; never one that ends the turn.
    pub(crate) fn push(&mut self, chosen: &Chosen) -> Piece {
        let bytes = self.vocabulary.bytes(chosen.token);
        let text = self.text.push(bytes);
        self.made += text.len();
        if let Some(logprobs) = chosen.logprobs.as_ref().filter(|_| !bytes.is_empty()) {
            // A code point that is not whole yet stands after what was made.
            let after = self.made + usize::from(self.text.is_waiting());
            let logprob = self.logprob(chosen.token, logprobs);
            self.waiting.push_back(Waiting { after, logprob });
        }
        let matched = self.stop.push(&text);
        self.tell(matched)
    }

    /// No token follows.
    pub(crate) fn finish(&mut self) -> Piece {
        // What is left is half a code point, then perhaps the beginning of a stop string, in reverse order.
        let rest = self.text.finish();
        self.made += rest.len();
        let matched = match self.stop.push(&rest) {
            Matched::Text(text) => Matched::Text(text + &self.stop.finish()),
            stop => stop,
        };
        self.tell(matched)
    }

    fn tell(&mut self, matched: Matched) -> Piece {
        let (text, stopped) = match matched {
            Matched::Text(text) => (text, false),
            Matched::Stop(text) => (text, true),
        };
        self.told += text.len();
        let ready = self.waiting.partition_point(|waiting| waiting.after <= self.told);
        let logprobs = self.waiting.drain(..ready).map(|waiting| waiting.logprob).collect();
        Piece { delta: (!text.is_empty()).then_some(Event::Delta { text, logprobs }), stopped }
    }

    fn logprob(&self, token: u32, logprobs: &Logprobs) -> TokenLogprob {
        TokenLogprob {
            chosen: self.likely(token, logprobs.chosen),
            top: logprobs.top.iter().map(|(token, logprob)| self.likely(*token, *logprob)).collect(),
        }
    }

    fn likely(&self, token: u32, logprob: f32) -> LikelyToken {
        let bytes = self.vocabulary.bytes(token);
        let text = match bytes {
            [] => self.vocabulary.control_name(token).unwrap_or_default().to_owned(),
            bytes => String::from_utf8_lossy(bytes).into_owned(),
        };
        let bytes = (!bytes.is_empty()).then(|| bytes.to_vec());
        LikelyToken { text, bytes, logprob: logprob.max(LikelyToken::LEAST) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;
    use crate::{gguf::Gguf, testing::small_model};

    static VOCABULARY: LazyLock<Arc<Vocabulary>> = LazyLock::new(|| {
        Arc::new(Vocabulary::from_gguf(&Gguf::open(&small_model()).expect("opens")).expect("builds"))
    });

    fn chosen(token: u32) -> Chosen {
        let logprobs = Logprobs { chosen: -1.0, top: vec![(token, f32::NEG_INFINITY)] };
        Chosen { token, logprobs: Some(logprobs) }
    }

    #[derive(Debug, Default)]
    struct Told {
        text: String,
        tokens: Vec<LikelyToken>,
        stopped: bool,
    }

    impl Told {
        fn by(tokens: &[u32], stops: &[String]) -> Self {
            let mut answer = AnswerBuilder::new(Arc::clone(&VOCABULARY), stops);
            let mut told = Self::default();
            for token in tokens {
                told.add(answer.push(&chosen(*token)));
                if told.stopped {
                    return told;
                }
            }
            told.add(answer.finish());
            told
        }

        fn add(&mut self, piece: Piece) {
            self.stopped = piece.stopped;
            match piece.delta {
                Some(Event::Delta { text, logprobs }) => {
                    assert!(!text.is_empty());
                    self.text += &text;
                    self.tokens.extend(logprobs.into_iter().map(|logprob| logprob.chosen));
                }
                None => {}
                other => panic!("{other:?}"),
            }
        }

        fn bytes(&self) -> Vec<u8> {
            self.tokens.iter().flat_map(|token| token.bytes.clone().expect("text")).collect()
        }
    }

    #[test]
    fn each_token_is_told_with_its_text() {
        let tokens = VOCABULARY.encode("The capital of Germany is Berlin. 😀!").expect("encodes");
        let told = Told::by(&tokens, &[]);
        assert_eq!(told.tokens.len(), tokens.len());
        assert_eq!(told.bytes(), told.text.as_bytes());
        assert_eq!(told.tokens[1].text, " capital");
        // The emoji is several tokens here, none of which is text by itself.
        assert!(told.tokens.iter().any(|token| token.text.contains('\u{FFFD}')));
    }

    #[test]
    fn what_a_stop_string_cuts_is_not_told() {
        let tokens = VOCABULARY.encode("The capital of Germany is Berlin.").expect("encodes");
        // It begins within " capital" and ends within " Germany".
        let told = Told::by(&tokens, &["ital of Ger".to_owned()]);
        assert_eq!((told.text.as_str(), told.stopped), ("The cap", true));
        assert_eq!(told.bytes(), b"The");
        // One that does not come keeps nothing back in the end.
        let told = Told::by(&tokens, &["Berlin.!".to_owned()]);
        assert_eq!((told.tokens.len(), told.stopped), (tokens.len(), false));
    }

    #[test]
    fn a_control_token_has_a_name_and_no_bytes() {
        let answer = AnswerBuilder::new(Arc::clone(&VOCABULARY), &[]);
        let token = (0..VOCABULARY.len() as u32).find(|id| VOCABULARY.is_end(*id)).expect("turns end");
        let told = answer.logprob(token, &Logprobs { chosen: f32::NEG_INFINITY, top: Vec::new() }).chosen;
        assert!(told.text.starts_with("<|"), "{told:?}");
        assert_eq!((told.bytes, told.logprob), (None, -9999.0));
        assert!(Told::by(&[token], &[]).tokens.is_empty());
    }

    #[test]
    fn without_logprobs_there_are_none() {
        let token = VOCABULARY.encode("a").expect("encodes")[0];
        let piece = AnswerBuilder::new(Arc::clone(&VOCABULARY), &[]).push(&Chosen { token, logprobs: None });
        assert_eq!(piece.delta, Some(Event::Delta { text: "a".into(), logprobs: Vec::new() }));
    }

    proptest! {
        #[test]
        fn tokens_told_are_a_beginning_of_the_text(
            tokens in prop::collection::vec(prop_oneof![0u32..400, 0u32..49_000], 0..30),
            stops in prop::collection::vec("[a-e ]{1,2}", 0..3),
        ) {
            let told = Told::by(&tokens, &stops);
            let joined = String::from_utf8_lossy(&told.bytes()).into_owned();
            // Half a code point at the cut may still have become whole in the text.
            prop_assert!(told.text.starts_with(joined.trim_end_matches('\u{FFFD}')), "{:?}", told);
            if !told.stopped {
                prop_assert_eq!(&told.text, &joined);
                let with_text = tokens.iter().filter(|token| !VOCABULARY.bytes(**token).is_empty()).count();
                prop_assert_eq!(told.tokens.len(), with_text);
            }
            prop_assert!(stops.iter().all(|stop| !told.text.contains(stop)));
        }
    }
}
