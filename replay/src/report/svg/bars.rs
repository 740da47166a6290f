use super::dots::shortened;
use super::scale::{Scale, tick_label};
use super::{Anchor, Canvas, Style};
use crate::report::format;
use crate::stats::Estimate;

/// One run's share.
#[derive(Debug)]
pub struct Bar<'a> {
    pub label: &'a str,
    pub style: Style,
    pub share: Estimate,
}

const ROW: f64 = 24.0;
const LEFT: f64 = 148.0;
const WIDTH: f64 = 520.0;

/// Horizontal bars of a share in percent, with the interval over the bar's end.
pub fn bars(title: &str, axis: &str, rows: &[Bar<'_>]) -> String {
    let (top, bottom) = (26.0, 26.0 + ROW * rows.len() as f64);
    let mut canvas = Canvas::new(WIDTH, bottom + 40.0, &format!("{title}: {axis} by run"));
    let x = Scale::linear((0.0, 100.0), (LEFT, WIDTH - 56.0));
    canvas.text("title", (0.0, 14.0), Anchor::Start, title);
    for tick in [0.0, 25.0, 50.0, 75.0, 100.0] {
        canvas.line("grid", (x.at(tick), top), (x.at(tick), bottom));
        canvas.text("tick", (x.at(tick), bottom + 14.0), Anchor::Middle, &tick_label(tick));
    }
    canvas.text("axis", ((LEFT + WIDTH - 56.0) / 2.0, bottom + 32.0), Anchor::Middle, axis);
    for (index, row) in rows.iter().enumerate() {
        let y = top + ROW * (index as f64 + 0.5);
        let percent = |share: f64| x.at(100.0 * share);
        canvas.text("label", (LEFT - 12.0, y + 4.0), Anchor::End, &shortened(row.label));
        canvas.body.push_str(&format!(
            "<rect x=\"{LEFT:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"12\" rx=\"2\" fill=\"{}\" fill-opacity=\"0.75\"/>",
            y - 6.0,
            percent(row.share.mean) - LEFT,
            row.style.colour()
        ));
        canvas.line("whisker", (percent(row.share.low), y), (percent(row.share.high), y));
        let text = format!("{} %", format::decimals(100.0 * row.share.mean, 0));
        canvas.text("value", (WIDTH, y + 4.0), Anchor::End, &text);
    }
    canvas.finish()
}
