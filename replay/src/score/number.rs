/// The value of a text that is nothing but a number: `70,000`, `$18`, `-3.5`, `20%`.
pub(super) fn bare(text: &str) -> Option<f64> {
    let text = text.trim().trim_start_matches('$').trim_end_matches(['%', '.']);
    let digits = text.strip_prefix('-').unwrap_or(text);
    let valid = digits.starts_with(|c: char| c.is_ascii_digit())
        && digits.chars().all(|c| c.is_ascii_digit() || c == ',' || c == '.');
    if valid { text.replace(',', "").parse().ok() } else { None }
}

/// Every number of a text, in order. Commas group thousands; a minus counts only where no word or number ends before
/// it, so that `9-3` holds 9 and 3.
pub(super) fn all(text: &str) -> Vec<f64> {
    let chars: Vec<char> = text.chars().collect();
    let digit = |at: usize| chars.get(at).is_some_and(char::is_ascii_digit);
    let mut found = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        if !digit(at) {
            at += 1;
            continue;
        }
        let negative = at > 0
            && chars[at - 1] == '-'
            && !(at > 1 && (chars[at - 2].is_alphanumeric() || chars[at - 2] == ')'));
        let start = at;
        while digit(at) || (matches!(chars.get(at), Some('.' | ',')) && digit(at + 1)) {
            at += 1;
        }
        let plain: String = chars[start..at].iter().filter(|&&c| c != ',').collect();
        if let Ok(value) = plain.parse::<f64>() {
            found.push(if negative { -value } else { value });
        }
    }
    found
}

pub(super) fn same(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-6 * a.abs().max(b.abs()).max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_in_order() {
        assert_eq!(
            all("16 - 3 = 13, then 9-3 = -6 or $1,234.50."),
            [16.0, 3.0, 13.0, 9.0, 3.0, -6.0, 1234.5]
        );
        assert_eq!(all("v1.2.3"), Vec::<f64>::new());
        assert_eq!(all("none"), Vec::<f64>::new());
    }

    #[test]
    fn only_bare_numbers_are_bare() {
        assert_eq!(bare(" $70,000 "), Some(70000.0));
        assert_eq!(bare("20%"), Some(20.0));
        assert_eq!(bare("-3.5"), Some(-3.5));
        for text in ["", "-", "18 eggs", "1.2.3", "one", "1963-64"] {
            assert_eq!(bare(text), None, "{text}");
        }
    }
}
