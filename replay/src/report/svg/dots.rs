use super::scale::{Scale, tick_label};
use super::{Anchor, Canvas, Style};
use crate::report::format;
use crate::stats::Estimate;

/// One run's mean with its interval.
#[derive(Debug)]
pub struct Dot<'a> {
    pub label: &'a str,
    pub style: Style,
    pub value: Estimate,
}

const ROW: f64 = 22.0;
const LEFT: f64 = 148.0;
const WIDTH: f64 = 520.0;

/// A row a run: dot at the mean, line over the interval, the number at the right. Shares and scores, 0 to 1.
pub fn dots(title: &str, axis: &str, rows: &[Dot<'_>]) -> String {
    let (top, bottom) = (26.0, 26.0 + ROW * rows.len() as f64);
    let mut canvas =
        Canvas::new(WIDTH, bottom + 40.0, &format!("{title}: {axis} by run, with 95 % intervals"));
    let x = Scale::linear((0.0, 1.0), (LEFT, WIDTH - 56.0));
    canvas.text("title", (0.0, 14.0), Anchor::Start, title);
    for tick in [0.0, 0.25, 0.5, 0.75, 1.0] {
        canvas.line("grid", (x.at(tick), top), (x.at(tick), bottom));
        canvas.text("tick", (x.at(tick), bottom + 14.0), Anchor::Middle, &tick_label(tick));
    }
    canvas.text("axis", ((LEFT + WIDTH - 56.0) / 2.0, bottom + 32.0), Anchor::Middle, axis);
    for (index, row) in rows.iter().enumerate() {
        let y = top + ROW * (index as f64 + 0.5);
        canvas.text("label", (LEFT - 12.0, y + 4.0), Anchor::End, &shortened(row.label));
        canvas.coloured_line(row.style, (x.at(row.value.low), y), (x.at(row.value.high), y));
        let title = format!("{}: {} (n = {})", row.label, format::estimate(row.value), row.value.n);
        canvas.dot(row.style, (x.at(row.value.mean), y), &title);
        canvas.text("value", (WIDTH, y + 4.0), Anchor::End, &format::decimals(row.value.mean, 2));
    }
    canvas.finish()
}

/// Labels share a fixed column.
pub(super) fn shortened(label: &str) -> String {
    if label.chars().count() <= 22 {
        return label.to_owned();
    }
    let kept: String = label.chars().take(21).collect();
    format!("{kept}\u{2026}")
}
