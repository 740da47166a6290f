//! Likeness is not sameness: what tells two near-equal texts apart although an embedding hardly does.

use std::collections::BTreeMap;

const NEGATIONS: [&str; 14] = [
    "not", "no", "never", "none", "without", "cannot", "neither", "nor", "don't", "doesn't", "isn't",
    "aren't", "can't", "won't",
];

/// True if nothing speaks against taking one text for the other: the same numbers, the same negations.
#[must_use]
pub fn may_be_the_same(a: &str, b: &str) -> bool {
    marks(a) == marks(b)
}

/// Numbers (in order of value as text) and negation words, each with its count.
fn marks(text: &str) -> BTreeMap<String, usize> {
    let lower = text.to_lowercase().replace('\u{2019}', "'");
    let mut marks = BTreeMap::new();
    for word in lower.split(|c: char| !(c.is_alphanumeric() || c == '\'')) {
        let has_digit = word.chars().any(|c| c.is_numeric());
        if has_digit || NEGATIONS.contains(&word) {
            *marks.entry(word.to_owned()).or_insert(0) += 1;
        }
    }
    marks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digit_or_a_negation_makes_another_request() {
        assert!(may_be_the_same("What is 3 plus 4?", "what is 3 plus 4"));
        assert!(!may_be_the_same("What is 3 plus 4?", "What is 3 plus 5?"));
        assert!(!may_be_the_same("is it allowed", "is it not allowed"));
        assert!(!may_be_the_same("3 of 3", "3 of 4"));
        assert!(!may_be_the_same("I can\u{2019}t pay", "I can pay"));
    }
}
