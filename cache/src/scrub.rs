//! Takes out of a text what names a person or opens a door, before the text is stored.
//!
//! Patterns with checks (Luhn for cards, mod 97 for IBANs), since plain digit runs are what maths questions are made of.
//! Each finding becomes a mark in brackets, so that the text stays readable as an example. Scrubbing twice changes
//! nothing more.

use std::{borrow::Cow, sync::LazyLock};

use regex::{Captures, Regex};

struct Rule {
    pattern: Regex,
    mark: &'static str,
    /// Whether a match is what it looks like.
    holds: fn(&str) -> bool,
}

/// In order: what is most specific first.
static RULES: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    let always: fn(&str) -> bool = |_| true;
    [
        (r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(-----END [A-Z ]*PRIVATE KEY-----|\z)", "[KEY]", always),
        (r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*", "[TOKEN]", always),
        (
            r"\b(?:sk|pk|rk)[-_](?:[A-Za-z0-9]+[-_])*[A-Za-z0-9_-]{16,}|\bAKIA[0-9A-Z]{16}\b|\bgh[pousr]_[A-Za-z0-9]{20,}|\bgithub_pat_[A-Za-z0-9_]{20,}|\bxox[abprs]-[A-Za-z0-9-]{10,}|\bAIza[0-9A-Za-z_-]{30,}|\bhf_[A-Za-z0-9]{20,}",
            "[KEY]",
            always,
        ),
        (r"(?i)\bbearer\s+[a-z0-9._~+/-]{16,}=*", "[TOKEN]", always),
        (r"(?i)\b[a-z0-9._%+-]+@[a-z0-9-]+(?:\.[a-z0-9-]+)*\.[a-z]{2,}\b", "[EMAIL]", always),
        (r"\b[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b", "[IBAN]", is_iban),
        (r"\b[0-9](?:[ -]?[0-9]){12,18}\b", "[CARD]", is_card),
        (r"\b[0-9]{3}-[0-9]{2}-[0-9]{4}\b", "[SSN]", is_ssn),
        (r"\b(?:[0-9]{1,3}\.){3}[0-9]{1,3}\b", "[IP]", |text| text.parse::<std::net::Ipv4Addr>().is_ok()),
        (
            r"(?i)(?:[0-9a-f]{1,4}:){2,7}(?::?[0-9a-f]{1,4})+|(?:[0-9a-f]{1,4}:){1,6}:[0-9a-f]{1,4}\b",
            "[IP]",
            is_ipv6,
        ),
        (
            r"\+[0-9]{1,3}[ .-]?(?:\([0-9]{1,4}\)[ .-]?)?[0-9]{1,4}(?:[ .-]?[0-9]{2,4}){1,4}\b|\([0-9]{3}\) ?[0-9]{3}[ .-][0-9]{4}\b|\b[0-9]{3}[.-][0-9]{3}[.-][0-9]{4}\b",
            "[PHONE]",
            is_phone,
        ),
    ]
    .into_iter()
    // The patterns are constants, and a test compiles each: a rule that did not compile would be missing there.
    .filter_map(|(pattern, mark, holds)| Some(Rule { pattern: Regex::new(pattern).ok()?, mark, holds }))
    .collect()
});

/// The text without personal data and secrets; borrowed if there was nothing to take out.
#[must_use]
pub fn scrub(text: &str) -> Cow<'_, str> {
    let mut scrubbed = Cow::Borrowed(text);
    for rule in RULES.iter() {
        let replaced = rule.pattern.replace_all(&scrubbed, |found: &Captures<'_>| {
            let found = &found[0];
            if (rule.holds)(found) { rule.mark.to_owned() } else { found.to_owned() }
        });
        if let Cow::Owned(replaced) = replaced
            && replaced != *scrubbed
        {
            scrubbed = Cow::Owned(replaced);
        }
    }
    scrubbed
}

fn digits(text: &str) -> Vec<u32> {
    text.chars().filter_map(|c| c.to_digit(10)).collect()
}

/// Luhn, and a leading digit that card networks use.
fn is_card(text: &str) -> bool {
    let digits = digits(text);
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(i, digit)| match (i % 2, digit * 2) {
            (0, _) => *digit,
            (_, double) if double > 9 => double - 9,
            (_, double) => double,
        })
        .sum();
    (13..=19).contains(&digits.len()) && matches!(digits[0], 2..=6) && sum.is_multiple_of(10)
}

/// ISO 13616: the first four characters moved to the end, letters as numbers, the whole modulo 97 is 1.
fn is_iban(text: &str) -> bool {
    let compact: Vec<char> = text.chars().filter(|c| !c.is_whitespace()).collect();
    if !(15..=34).contains(&compact.len()) {
        return false;
    }
    let rotated = compact[4..].iter().chain(&compact[..4]);
    let rest = rotated.fold(0_u32, |rest, c| match c.to_digit(36) {
        Some(value) if value > 9 => (rest * 100 + value) % 97,
        Some(value) => (rest * 10 + value) % 97,
        None => 0,
    });
    rest == 1
}

fn is_ssn(text: &str) -> bool {
    let area = &text[..3];
    area != "000" && area != "666" && !area.starts_with('9') && &text[4..6] != "00" && &text[7..] != "0000"
}

/// At least four groups: `12:30:45` is a time.
fn is_ipv6(text: &str) -> bool {
    text.parse::<std::net::Ipv6Addr>().is_ok() && text.matches(':').count() >= 3
}

fn is_phone(text: &str) -> bool {
    (9..=15).contains(&digits(text).len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_pattern_compiles() {
        assert_eq!(RULES.len(), 11);
    }

    #[test]
    fn personal_data_and_secrets_become_marks() {
        for (text, expected) in [
            ("write to ana.b+c@mail.example.org today", "write to [EMAIL] today"),
            ("card 4111 1111 1111 1111 please", "card [CARD] please"),
            ("pay DE89 3704 0044 0532 0130 00 now", "pay [IBAN] now"),
            ("GB82WEST12345698765432", "[IBAN]"),
            ("host 192.168.0.17 down", "host [IP] down"),
            ("at 2001:db8:85a3:0:0:8a2e:370:7334.", "at [IP]."),
            ("my ssn is 123-45-6789", "my ssn is [SSN]"),
            ("call +49 30 1234567 or (212) 555-0147", "call [PHONE] or [PHONE]"),
            ("key sk-proj-abcdEFGH1234abcdEFGH1234", "key [KEY]"),
            ("AKIAIOSFODNN7EXAMPLE and ghp_abcdefghijklmnopqrst0123", "[KEY] and [KEY]"),
            ("Authorization: Bearer abcdefghijklmnop123456", "Authorization: [TOKEN]"),
            ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abcDEF_123", "[TOKEN]"),
        ] {
            assert_eq!(scrub(text), expected);
        }
    }

    #[test]
    fn ordinary_numbers_stay() {
        for text in [
            "Natalia sold clips to 48 friends, 1,234,567 in all; 3.14159 and 2026-11-24 at 12:30:45",
            "What is 1234567890123456 + 1?",
            "version 1.2.3.4000 and 999.999.999.999",
            "for i in range(10): x[i] = 0xDEADBEEF ** 2",
            "find . -mtime +30 -size +100 -name '*.rs' | xargs wc -l",
            "Order 4111 1111 1111 1112 has a wrong check digit",
            "std::net::Ipv6Addr::new(a::b)",
        ] {
            assert!(matches!(scrub(text), Cow::Borrowed(_)), "{} -> {}", text, scrub(text));
        }
    }

    proptest! {
        #[test]
        fn scrubbing_twice_changes_nothing_more(text in "(\\PC|[0-9@. +-]|[a-f0-9]:){0,80}") {
            let once = scrub(&text).into_owned();
            prop_assert_eq!(scrub(&once).into_owned(), once);
        }
    }
}
