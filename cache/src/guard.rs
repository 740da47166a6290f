//! Likeness is not sameness: what tells two near-equal texts apart although an embedding hardly does.

use std::collections::BTreeMap;

const NEGATIONS: [&str; 14] = [
    "not", "no", "never", "none", "without", "cannot", "neither", "nor", "don't", "doesn't", "isn't",
    "aren't", "can't", "won't",
];

/// What changes a sum's meaning. A plain `-` only where it is no hyphen: beside a space or a digit.
const OPERATORS: [char; 13] =
    ['+', '*', '/', '%', '^', '<', '>', '=', '\u{2212}', '\u{d7}', '\u{f7}', '\u{2264}', '\u{2265}'];

/// True if nothing speaks against taking one text for the other: the same numbers and operators in the same order, the
/// same negations.
#[must_use]
pub fn may_be_the_same(a: &str, b: &str) -> bool {
    let (a, b) = (plain(a), plain(b));
    negations(&a) == negations(&b) && numbers(&a) == numbers(&b)
}

fn plain(text: &str) -> String {
    text.to_lowercase().replace('\u{2019}', "'")
}

fn negations(text: &str) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for word in text.split(|c: char| !(c.is_alphanumeric() || c == '\'')) {
        if NEGATIONS.contains(&word) {
            *counts.entry(word).or_insert(0) += 1;
        }
    }
    counts
}

/// Words with digits, and operators, as they come: from 3 to 5 is not from 5 to 3.
fn numbers(text: &str) -> Vec<&str> {
    let mut marks = Vec::new();
    let mut word = None;
    let mut before = ' ';
    let mut rest = text.char_indices().peekable();
    while let Some((at, c)) = rest.next() {
        if c.is_alphanumeric() {
            word.get_or_insert(at);
        } else {
            marks.extend(word.take().map(|from| &text[from..at]).filter(|word| has_digit(word)));
            let after = rest.peek().map_or(' ', |(_, c)| *c);
            let minus = c == '-' && [before, after].iter().any(|c| c.is_whitespace() || c.is_numeric());
            if minus || OPERATORS.contains(&c) {
                marks.push(&text[at..at + c.len_utf8()]);
            }
        }
        before = c;
    }
    marks.extend(word.map(|from| &text[from..]).filter(|word| has_digit(word)));
    marks
}

fn has_digit(word: &str) -> bool {
    word.chars().any(char::is_numeric)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_digit_or_a_negation_makes_another_request() {
        assert!(may_be_the_same("What is 3 plus 4?", "what is 3 plus 4"));
        assert!(!may_be_the_same("What is 3 plus 4?", "What is 3 plus 5?"));
        assert!(!may_be_the_same("is it allowed", "is it not allowed"));
        assert!(!may_be_the_same("3 of 3", "3 of 4"));
        assert!(!may_be_the_same("what is 8 - 3", "what is 8 + 3"));
        assert!(!may_be_the_same("what is 8-3?", "what is 8*3?"));
        assert!(!may_be_the_same("trains from 3 to 5", "trains from 5 to 3"));
        assert!(may_be_the_same("a well-known card", "a well known card"));
        assert!(!may_be_the_same("I can\u{2019}t pay", "I can pay"));
    }
    proptest! {
        #[test]
        fn any_text_may_be_itself(a in "(\\PC|[0-9+* -]){0,40}", b in "\\PC{0,20}") {
            prop_assert!(may_be_the_same(&a, &a));
            prop_assert_eq!(may_be_the_same(&a, &b), may_be_the_same(&b, &a));
        }
    }
}
