//! Word overlap of two texts, both in [0, 1] and symmetric. Words are case-folded runs of letters and digits.
//!
//! With LCS the length of the longest common subsequence and `P = LCS/|a|`, `R = LCS/|b|`:
//! `ROUGE-L = 2PR / (P + R) = 2 LCS / (|a| + |b|)` (Lin 2004, beta = 1; without stemming).

use std::collections::HashMap;

use super::normalise;

/// F1 of the longest common subsequence of words. Two texts without a word are compared as they are.
#[must_use]
pub fn rouge_l(a: &str, b: &str) -> f64 {
    f1(a, b, longest_common_subsequence)
}

/// F1 of the words two texts share, whatever their order.
#[must_use]
pub fn token_f1(a: &str, b: &str) -> f64 {
    f1(a, b, |a, b| {
        let mut counts: HashMap<&str, usize> = HashMap::new();
        for word in a {
            *counts.entry(word).or_default() += 1;
        }
        let mut shared = 0;
        for word in b {
            if let Some(count) = counts.get_mut(word.as_str()).filter(|count| **count > 0) {
                *count -= 1;
                shared += 1;
            }
        }
        shared
    })
}

fn f1(a: &str, b: &str, shared: impl Fn(&[String], &[String]) -> usize) -> f64 {
    let (left, right) = (normalise::words(a), normalise::words(b));
    if left.is_empty() && right.is_empty() {
        return f64::from(a.trim() == b.trim());
    }
    // Lengths of texts are far below 2^52.
    2.0 * shared(&left, &right) as f64 / (left.len() + right.len()) as f64
}

/// Two rows of the usual table: O(|a| |b|) time, O(|b|) memory.
fn longest_common_subsequence(a: &[String], b: &[String]) -> usize {
    let mut above = vec![0; b.len() + 1];
    let mut row = above.clone();
    for x in a {
        for (j, y) in b.iter().enumerate() {
            row[j + 1] = if x == y { above[j] + 1 } else { above[j + 1].max(row[j]) };
        }
        std::mem::swap(&mut above, &mut row);
    }
    above.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-12, "{a} is not {b}");
    }

    #[test]
    fn rouge_l_by_hand() {
        // police kill the gunman / police killed the gunman: LCS 3 of 4 and 4.
        close(rouge_l("police kill the gunman", "police killed the gunman"), 0.75);
        // LCS "police the" or "the gunman": 2 of 4 and 4.
        close(rouge_l("the gunman kill police", "police killed the gunman"), 0.5);
        // find name txt delete / find tmp name txt type f delete: LCS 4, lengths 4 and 7.
        close(rouge_l("find . -name '*.txt' -delete", "find /tmp -name '*.txt' -type f -delete"), 8.0 / 11.0);
        close(rouge_l("a", ""), 0.0);
        close(rouge_l("", ""), 1.0);
        close(rouge_l("<", ">"), 0.0);
    }

    #[test]
    fn token_f1_by_hand() {
        close(token_f1("the gunman kill police", "police killed the gunman"), 0.75);
        // "a" counts once: 2 * 1 / (2 + 1).
        close(token_f1("a a", "a"), 2.0 / 3.0);
    }

    proptest! {
        #[test]
        fn overlaps_are_symmetric_bounded_and_one_on_themselves(a in "[a-d ]{0,30}", b in "[a-d ]{0,30}") {
            for overlap in [rouge_l, token_f1] {
                let score = overlap(&a, &b);
                prop_assert!((0.0..=1.0).contains(&score));
                prop_assert!((score - overlap(&b, &a)).abs() < 1e-12);
                prop_assert!((overlap(&a, &a) - 1.0).abs() < 1e-12);
            }
            prop_assert!(rouge_l(&a, &b) <= token_f1(&a, &b) + 1e-12);
        }
    }
}
