//! Numbers that prove what they are: cards and accounts carry check digits, networks and countries fix their lengths.

use std::ops::Range;

/// The first payment card in a run of digits with single blanks or hyphens between them; an expiry date may follow it.
pub fn card(run: &str) -> Option<Range<usize>> {
    let digits: Vec<(usize, u32)> =
        run.char_indices().filter_map(|(at, c)| Some((at, c.to_digit(10)?))).collect();
    let begins_group = |i: usize| i == 0 || digits[i - 1].0 + 1 != digits[i].0;
    let ends_group = |i: usize| i + 1 == digits.len() || digits[i].0 + 1 != digits[i + 1].0;
    for from in (0..digits.len()).filter(|i| begins_group(*i)) {
        for length in (13..=19).rev() {
            let Some(number) = digits.get(from..from + length) else { continue };
            let values: Vec<u32> = number.iter().map(|(_, digit)| *digit).collect();
            if ends_group(from + length - 1) && is_issued(&values) && luhn(&values) {
                return Some(number[0].0..number[length - 1].0 + 1);
            }
        }
    }
    None
}

/// ISO/IEC 7812: which lengths the large networks issue under which first digits.
fn is_issued(digits: &[u32]) -> bool {
    let first = |count: usize| digits[..count].iter().fold(0, |number, digit| number * 10 + digit);
    match (first(1), first(2), first(3), first(4)) {
        (4, ..) => matches!(digits.len(), 13 | 16 | 19),
        (_, 51..=55, ..) | (_, _, _, 2221..=2720) => digits.len() == 16,
        (_, 34 | 37, ..) => digits.len() == 15,
        (_, 36 | 38 | 39, ..) | (_, _, 300..=305, _) => (14..=19).contains(&digits.len()),
        (_, 62 | 65, ..) | (_, _, 644..=649, _) | (_, _, _, 6011 | 3528..=3589) => digits.len() >= 16,
        (_, 50 | 56..=58 | 67, ..) => digits.len() >= 13,
        _ => false,
    }
}

/// ISO/IEC 7812-1, annex B.
fn luhn(digits: &[u32]) -> bool {
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
    sum.is_multiple_of(10)
}

/// The account at the beginning of a run of letters and digits in groups; words may follow it.
pub fn iban(run: &str) -> Option<Range<usize>> {
    let compact: Vec<(usize, u32)> =
        run.char_indices().filter_map(|(at, c)| Some((at, c.to_digit(36)?))).collect();
    for length in (15..=34.min(compact.len())).rev() {
        let last = compact[length - 1].0;
        let ends = run.as_bytes().get(last + 1).is_none_or(|next| !next.is_ascii_alphanumeric());
        if ends && mod_97(&compact[..length]) == 1 {
            return Some(0..last + 1);
        }
    }
    None
}

/// ISO 13616: the first four characters moved to the end, letters as numbers, the whole modulo 97.
fn mod_97(account: &[(usize, u32)]) -> u32 {
    account[4..].iter().chain(&account[..4]).fold(0, |rest, (_, value)| {
        let shift = if *value > 9 { 100 } else { 10 };
        (rest * shift + value) % 97
    })
}

/// A social security number that was issued: 3-2-4 digits.
pub fn ssn(text: &str) -> bool {
    let mut groups = text.split('-');
    let (area, group, serial) = (groups.next(), groups.next(), groups.next());
    !matches!(area, Some("000" | "666") | None)
        && !text.starts_with('9')
        && group != Some("00")
        && serial != Some("0000")
}

pub fn digit_count(text: &str) -> usize {
    text.chars().filter(char::is_ascii_digit).count()
}
