//! Takes out of a text what names a person or opens a door, before the text is stored.
//!
//! Patterns with checks (Luhn and issued ranges for cards, mod 97 for IBANs), since plain digit runs are what maths
//! questions are made of. Each finding becomes a mark in brackets, so that the text stays readable as an example.
//! Scrubbing twice changes nothing more. Names and addresses of people are not found: that takes a model.

mod numbers;

use std::{
    borrow::Cow,
    net::{Ipv4Addr, Ipv6Addr},
    ops::Range,
    sync::LazyLock,
};

use regex::Regex;

struct Rule {
    mark: &'static str,
    pattern: Regex,
    /// Which part of a match is what it looks like, given the text before it.
    part: Part,
}

type Part = fn(before: &str, found: &str) -> Option<Range<usize>>;

/// In order: what is most specific first.
const PATTERNS: [(&str, &str, Part); 14] = [
    (
        "[KEY]",
        r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(-----END [A-Z ]*PRIVATE KEY-----|\z)",
        |_, found| all(found),
    ),
    ("[TOKEN]", r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*", |_, found| all(found)),
    ("[KEY]", r"\b(?:sk|pk|rk)[-_][A-Za-z0-9_-]{16,}", |_, found| all(found).filter(|_| is_random(found))),
    (
        "[KEY]",
        r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|\bgh[pousr]_[A-Za-z0-9]{20,}|\bgithub_pat_[A-Za-z0-9_]{20,}|\bglpat-[A-Za-z0-9_-]{16,}|\bxox[abprs]-[A-Za-z0-9-]{10,}|\bAIza[0-9A-Za-z_-]{30,}|\bhf_[A-Za-z0-9]{20,}",
        |_, found| all(found),
    ),
    ("[TOKEN]", r"(?i)\bbearer\s+[a-z0-9._~+/-]{16,}=*", |_, found| all(found).filter(|_| is_random(found))),
    ("[EMAIL]", r"[\w.%+-]+@[\w-]+(?:\.[\w-]+)*\.\p{L}{2,}", |_, found| all(found)),
    ("[IBAN]", r"\b[A-Z]{2}[0-9]{2}(?:[ -]?[A-Z0-9]{2,4}){2,8}\b", |_, found| numbers::iban(found)),
    ("[CARD]", r"\b[0-9](?:[ -]?[0-9]){12,22}\b", |_, found| numbers::card(found)),
    ("[SSN]", r"\b[0-9]{3}-[0-9]{2}-[0-9]{4}\b", |_, found| all(found).filter(|_| numbers::ssn(found))),
    ("[IP]", r"\b(?:[0-9]{1,3}\.){3}[0-9]{1,3}\b", |before, found| {
        all(found).filter(|_| is_ipv4(before, found))
    }),
    ("[IP]", r"(?i)\b(?:[0-9a-f]{1,4}:){2,7}(?::?[0-9a-f]{1,4})+\b", |_, found| {
        all(found).filter(|_| is_ipv6(found))
    }),
    ("[IP]", r"(?i)\b(?:[0-9a-f]{1,4}:){1,6}(?::[0-9a-f]{1,4})+\b", |_, found| {
        all(found).filter(|_| is_ipv6(found))
    }),
    (
        "[PHONE]",
        r"\+[0-9]{1,3}[ .-]?(?:\([0-9]{1,4}\)[ .-]?)?[0-9]{1,4}(?:[ .-]?[0-9]{2,4}){1,4}\b|\([0-9]{3}\) ?[0-9]{3}[ .-][0-9]{4}\b|\b[0-9]{3}[.-][0-9]{3}[.-][0-9]{4}\b",
        |before, found| all(found).filter(|_| is_phone(before, found)),
    ),
    (
        "[PHONE]",
        r"(?i)\b(?:tele)?(?:phone|tel|mobile|cell|fax|whatsapp|telefon|handy|t\u{e9}l)\b[.:]?(?: (?:number|no\.?|is|me at|at))*:? ?\(?[0-9](?:[ ()./-]{0,3}[0-9]){5,14}\b",
        |_, found| Some(found.find(['(', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9'])?..found.len()),
    ),
];

static RULES: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    PATTERNS
        .into_iter()
        // The patterns are constants, and a test compiles each: one that did not compile would be missing there.
        .filter_map(|(mark, pattern, part)| Some(Rule { mark, pattern: Regex::new(pattern).ok()?, part }))
        .collect()
});

/// The text without personal data and secrets; borrowed if there was nothing to take out.
#[must_use]
pub fn scrub(text: &str) -> Cow<'_, str> {
    let mut scrubbed = Cow::Borrowed(text);
    // Until nothing is found: taking one thing out can lay another bare. It ends, since no mark has digits, and every
    // finding is longer than nothing.
    while let Some(next) = pass(&scrubbed) {
        scrubbed = Cow::Owned(next);
    }
    scrubbed
}

/// True if only marks are left of a text that had more.
#[must_use]
pub fn is_only_marks(scrubbed: &str) -> bool {
    let mut rest = scrubbed.to_owned();
    for (mark, ..) in &PATTERNS {
        rest = rest.replace(mark, "");
    }
    rest.len() < scrubbed.len() && !rest.chars().any(char::is_alphanumeric)
}

fn pass(text: &str) -> Option<String> {
    let mut changed: Option<String> = None;
    for rule in RULES.iter() {
        if let Some(next) = rule.apply(changed.as_deref().unwrap_or(text)) {
            changed = Some(next);
        }
    }
    changed
}

impl Rule {
    fn apply(&self, text: &str) -> Option<String> {
        let mut scrubbed = String::new();
        let mut copied = 0;
        for found in self.pattern.find_iter(text) {
            let Some(part) = (self.part)(&text[..found.start()], found.as_str()) else { continue };
            scrubbed.push_str(&text[copied..found.start() + part.start]);
            scrubbed.push_str(self.mark);
            copied = found.start() + part.end;
        }
        if copied == 0 {
            return None;
        }
        scrubbed.push_str(&text[copied..]);
        Some(scrubbed)
    }
}

fn all(found: &str) -> Option<Range<usize>> {
    Some(0..found.len())
}

/// Letters and digits together, as keys have them and names of modules and functions hardly do.
fn is_random(text: &str) -> bool {
    let digits = numbers::digit_count(text);
    digits >= 2 && text.bytes().any(|byte| byte.is_ascii_alphabetic())
}

/// Not what every manual is full of: loopback, wildcards, masks, versions.
fn is_ipv4(before: &str, text: &str) -> bool {
    let before = before.trim_end().to_ascii_lowercase();
    let version = before.ends_with("version") || before.ends_with(['v', '.']) || before.ends_with("release");
    let harmless = |ip: Ipv4Addr| ip.is_loopback() || ip.is_unspecified() || ip.octets()[0] == 255;
    !version && text.parse().is_ok_and(|ip| !harmless(ip))
}

/// At least three colons: `12:30:45` is a time.
fn is_ipv6(text: &str) -> bool {
    let groups = text.matches(':').count() >= 3;
    groups && numbers::digit_count(text) > 0 && text.parse::<Ipv6Addr>().is_ok()
}

/// Not the second operand of a sum.
fn is_phone(before: &str, text: &str) -> bool {
    let operand = text.starts_with('+')
        && (before.ends_with(|c: char| c.is_alphanumeric() || c == '_')
            || before.trim_end().ends_with(|c: char| c.is_numeric() || matches!(c, ')' | ']')));
    (9..=15).contains(&numbers::digit_count(text)) && !operand
}

#[cfg(test)]
mod tests;
