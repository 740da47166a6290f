/// Case folded, runs of white space made one, punctuation and white space taken off both ends. A text of nothing but
/// punctuation keeps it, else all such answers would be equal.
pub(super) fn phrase(text: &str) -> String {
    let folded = text.to_lowercase().split_whitespace().collect::<Vec<_>>().join(" ");
    let bare = folded.trim_matches(|c: char| !c.is_alphanumeric());
    if bare.is_empty() { folded } else { bare.to_owned() }
}

/// Case-folded runs of letters and digits.
pub(super) fn words(text: &str) -> Vec<String> {
    text.to_lowercase()
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(Into::into)
        .collect()
}
