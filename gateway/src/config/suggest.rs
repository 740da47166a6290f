//! The key that was probably meant, out of serde's own list of what it expected: there is no second list to keep.

/// For "unknown field `a`, expected one of `b`, `c`", the expected word nearest to `a`, if it is near.
pub(super) fn suggestion(message: &str) -> Option<&str> {
    if !message.starts_with("unknown ") {
        return None;
    }
    let mut words = message.split('`').skip(1).step_by(2);
    let given = words.next()?;
    let near = words.min_by_key(|word| distance(given, word))?;
    (distance(given, near) <= near.len().max(given.len()).div_ceil(3)).then_some(near)
}

/// Levenshtein's distance, in bytes: keys are ASCII.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, byte) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, other) in b.bytes().enumerate() {
            let substituted = diagonal + usize::from(byte != other);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_if_it_is_near() {
        let message =
            |given: &str| format!("unknown field `{given}`, expected one of `listen`, `data_dir`, `cache`");
        assert_eq!(suggestion(&message("lisen")), Some("listen"));
        assert_eq!(suggestion(&message("data-dir")), Some("data_dir"));
        assert_eq!(suggestion(&message("gpu")), None);
        assert_eq!(suggestion("invalid type: string \"x\", expected u16"), None);
    }

    #[test]
    fn distances() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("same", "same"), 0);
    }
}
