/// Finds stop strings in streamed text and never lets one, or its beginning, out.
///
/// The answer ends before the stop string that is complete first; of several complete at the same character,
/// before the longest. That does not depend on how the text was cut into tokens.
#[derive(Debug)]
pub(crate) struct StopMatcher {
    stops: Vec<String>,
    /// Text that may be the beginning of a stop string.
    held: String,
}

/// What a piece of text led to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Matched {
    /// Text that is part of the answer.
    Text(String),
    /// The rest of the answer: a stop string follows it.
    Stop(String),
}

impl StopMatcher {
    /// Empty stop strings are left out.
    pub(crate) fn new(stops: &[String]) -> Self {
        Self { stops: stops.iter().filter(|stop| !stop.is_empty()).cloned().collect(), held: String::new() }
    }

    pub(crate) fn push(&mut self, text: &str) -> Matched {
        if self.stops.is_empty() {
            return Matched::Text(text.to_owned());
        }
        self.held.push_str(text);
        if let Some(start) = first_stop(&self.held, &self.stops) {
            self.held.truncate(start);
            return Matched::Stop(std::mem::take(&mut self.held));
        }
        let keep =
            self.stops.iter().map(|stop| longest_beginning_at_end(&self.held, stop)).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - keep);
        Matched::Text(std::mem::replace(&mut self.held, rest))
    }

    /// What was held back, once no text follows.
    pub(crate) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

/// Where the answer ends, if a stop string is complete in `text`.
fn first_stop(text: &str, stops: &[String]) -> Option<usize> {
    stops
        .iter()
        .filter_map(|stop| text.find(stop.as_str()).map(|start| (start + stop.len(), start)))
        .min()
        .map(|(_, start)| start)
}

/// Bytes of the longest proper beginning of `stop` that `text` ends in.
fn longest_beginning_at_end(text: &str, stop: &str) -> usize {
    stop.char_indices()
        .map(|(at, _)| at)
        .rev()
        .find(|&at| text.ends_with(stop.get(..at).unwrap_or_default()))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run<'a>(stops: &[String], pieces: impl Iterator<Item = &'a str>) -> (String, bool) {
        let (mut matcher, mut answer) = (StopMatcher::new(stops), String::new());
        for piece in pieces {
            match matcher.push(piece) {
                Matched::Text(text) => answer.push_str(&text),
                Matched::Stop(text) => return (answer + &text, true),
            }
        }
        (answer + &matcher.finish(), false)
    }

    /// The definition, character by character.
    fn naive(stops: &[String], text: &str) -> (String, bool) {
        let ends = text.char_indices().map(|(at, c)| at + c.len_utf8());
        for end in ends {
            let starts = stops.iter().filter(|s| !s.is_empty() && text[..end].ends_with(s.as_str()));
            if let Some(start) = starts.map(|stop| end - stop.len()).min() {
                return (text[..start].to_owned(), true);
            }
        }
        (text.to_owned(), false)
    }

    #[test]
    fn a_stop_across_pieces_is_found_and_not_leaked() {
        let stops = vec!["END".to_owned()];
        let mut matcher = StopMatcher::new(&stops);
        assert_eq!(matcher.push("ab E"), Matched::Text("ab ".into()));
        assert_eq!(matcher.push("N"), Matched::Text(String::new()));
        assert_eq!(matcher.push("x EN"), Matched::Text("ENx ".into()));
        assert_eq!(matcher.push("Dc"), Matched::Stop(String::new()));
    }

    #[test]
    fn what_was_held_comes_at_the_end() {
        assert_eq!(run(&["\n\n".to_owned()], ["a\n"].into_iter()), ("a\n".to_owned(), false));
    }

    proptest! {
        #[test]
        fn any_split_equals_the_naive_search(
            text in "[abé]{0,24}",
            stops in proptest::collection::vec("[abé]{0,4}", 0..4),
            cuts in proptest::collection::vec(0usize..4, 24),
        ) {
            let mut pieces = Vec::new();
            let mut rest = text.as_str();
            for cut in cuts {
                let at = rest.char_indices().map(|(at, _)| at).nth(cut).unwrap_or(rest.len());
                let (head, tail) = rest.split_at(at);
                pieces.push(head);
                rest = tail;
            }
            pieces.push(rest);
            prop_assert_eq!(run(&stops, pieces.into_iter()), naive(&stops, &text));
        }
    }
}
