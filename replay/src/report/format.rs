//! Numbers as people read them.

use super::Line;
use super::measure::Spread;
use crate::stats::Estimate;

/// The columns of the tables, in the order of [`cells`].
pub(super) const HEADINGS: [&str; 13] = [
    "run",
    "n",
    "score",
    "over large-plain",
    "over small-plain",
    "wins over large-plain",
    "offloaded",
    "TTFT p50 / p99, s",
    "end to end p50 / p99, s",
    "examples",
    "example / prompt tokens",
    "overhead p50 / p99, ms",
    "errors / cut",
];

pub(super) fn cells(line: &Line) -> [String; 13] {
    let measured = &line.measured;
    let (large, small) = (line.over_large.as_ref(), line.over_small.as_ref());
    [
        line.run.clone(),
        measured.requests.to_string(),
        optional(measured.score, estimate),
        optional(large.map(|paired| paired.difference), signed),
        optional(small.map(|paired| paired.difference), signed),
        optional(large.map(|paired| paired.win_rate), percent),
        optional(measured.offloaded, percent),
        optional(measured.ttft_s, spread),
        optional(measured.e2e_s, spread),
        optional(measured.examples, |value| decimals(value, 1)),
        format!(
            "{} / {}",
            optional(measured.example_tokens, |value| decimals(value, 0)),
            optional(measured.prompt_tokens, |value| decimals(value, 0))
        ),
        optional(measured.overhead_ms, spread),
        format!("{} / {}", measured.errors, measured.cut),
    ]
}

pub(super) fn optional<T>(value: Option<T>, show: impl FnOnce(T) -> String) -> String {
    value.map(show).unwrap_or_default()
}

pub(super) fn decimals(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    // No "-0.00".
    match text.strip_prefix('-') {
        Some(rest) if rest.chars().all(|c| c == '0' || c == '.') => rest.to_owned(),
        _ => text,
    }
}

pub(super) fn estimate(value: Estimate) -> String {
    format!("{} [{}, {}]", decimals(value.mean, 2), decimals(value.low, 2), decimals(value.high, 2))
}

pub(super) fn signed(value: Estimate) -> String {
    let sign = |value: f64| {
        let text = decimals(value, 2);
        if text.starts_with('-') || text == "0.00" { text } else { format!("+{text}") }
    };
    format!("{} [{}, {}]", sign(value.mean), sign(value.low), sign(value.high))
}

pub(super) fn percent(value: Estimate) -> String {
    let of = |value: f64| decimals(100.0 * value, 0);
    format!("{} % [{}, {}]", of(value.mean), of(value.low), of(value.high))
}

pub(super) fn spread(value: Spread) -> String {
    format!("{} / {}", figures(value.p50), figures(value.p99))
}

/// Three significant figures for what is small, whole numbers for what is large.
pub(super) fn figures(value: f64) -> String {
    let size = value.abs();
    let digits = if size >= 100.0 {
        0
    } else if size >= 10.0 {
        1
    } else if size >= 1.0 {
        2
    } else {
        3
    };
    decimals(value, digits)
}

/// Text made safe for HTML content and quoted attributes.
pub(super) fn escape(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        let value = Estimate { n: 3, mean: -0.001, low: -0.126, high: 0.05 };
        assert_eq!(signed(value), "0.00 [-0.13, +0.05]");
        assert_eq!(percent(Estimate { n: 1, mean: 0.5, low: 0.254, high: 1.0 }), "50 % [25, 100]");
        assert_eq!(
            [figures(0.01234), figures(1.234), figures(12.34), figures(1234.5)],
            ["0.012", "1.23", "12.3", "1234"]
        );
        assert_eq!(escape("<a href=\"x\">&'"), "&lt;a href=&quot;x&quot;&gt;&amp;&#39;");
    }
}
