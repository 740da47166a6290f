use super::scale::{Scale, tick_label};
use super::{Anchor, Canvas, Style};
use crate::report::format;
use crate::stats::Estimate;

/// One run: what an answer costs in time, and what it is worth.
#[derive(Debug)]
pub struct Point<'a> {
    pub label: &'a str,
    pub style: Style,
    pub seconds: f64,
    pub score: Estimate,
}

const WIDTH: f64 = 520.0;
const HEIGHT: f64 = 340.0;
/// Left, right, top, bottom of the plot's frame.
const FRAME: (f64, f64, f64, f64) = (50.0, 508.0, 30.0, 286.0);
/// About the width of a character of a label, and a label's height.
const GLYPH: (f64, f64) = (6.6, 13.0);

/// Score over time (logarithmic), with the score's interval. Up and left is better.
pub fn scatter(title: &str, x_axis: &str, y_axis: &str, points: &[Point<'_>]) -> String {
    let (left, right, top, bottom) = FRAME;
    let mut canvas = Canvas::new(WIDTH, HEIGHT, &format!("{title}: {y_axis} over {x_axis}"));
    let x = Scale::log_around(points.iter().map(|point| point.seconds), (left + 8.0, right - 8.0));
    let y = Scale::linear((0.0, 1.0), (bottom, top));
    canvas.text("title", (0.0, 14.0), Anchor::Start, title);
    for tick in [0.0, 0.25, 0.5, 0.75, 1.0] {
        canvas.line("grid", (left, y.at(tick)), (right, y.at(tick)));
        canvas.text("tick", (left - 6.0, y.at(tick) + 4.0), Anchor::End, &tick_label(tick));
    }
    for tick in x.log_ticks() {
        canvas.line("grid", (x.at(tick), top), (x.at(tick), bottom));
        canvas.text("tick", (x.at(tick), bottom + 15.0), Anchor::Middle, &tick_label(tick));
    }
    canvas.text("axis", ((left + right) / 2.0, bottom + 38.0), Anchor::Middle, x_axis);
    canvas.body.push_str(&format!(
        "<text class=\"axis\" transform=\"translate(11 {:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
        (top + bottom) / 2.0,
        format::escape(y_axis)
    ));
    // Labels keep clear of dots and of intervals.
    let mut taken: Vec<Area> = points
        .iter()
        .flat_map(|point| {
            let (across, score) = (x.at(point.seconds), point.score);
            let interval = Area { x: (across - 2.0, across + 2.0), y: (y.at(score.high), y.at(score.low)) };
            [Area::around((across, y.at(score.mean)), 7.0), interval]
        })
        .collect();
    for point in points {
        let centre = (x.at(point.seconds), y.at(point.score.mean));
        canvas.coloured_line(
            point.style,
            (centre.0, y.at(point.score.low)),
            (centre.0, y.at(point.score.high)),
        );
        let title = format!(
            "{}: {}, {} s",
            point.label,
            format::estimate(point.score),
            format::figures(point.seconds)
        );
        canvas.dot(point.style, centre, &title);
        let (at, anchor, area) = place(point.label, centre, &taken);
        canvas.text("label", at, anchor, point.label);
        taken.push(area);
    }
    canvas.finish()
}

#[derive(Debug, Clone, Copy)]
struct Area {
    x: (f64, f64),
    y: (f64, f64),
}

impl Area {
    fn around((x, y): (f64, f64), reach: f64) -> Self {
        Self { x: (x - reach, x + reach), y: (y - reach, y + reach) }
    }

    fn meets(&self, other: &Self) -> bool {
        self.x.0 < other.x.1 && other.x.0 < self.x.1 && self.y.0 < other.y.1 && other.y.0 < self.y.1
    }
}

/// The first place beside the point, then further up or down, where the label covers nothing and stays in the frame.
fn place(label: &str, (x, y): (f64, f64), taken: &[Area]) -> ((f64, f64), Anchor, Area) {
    let width = GLYPH.0 * label.chars().count() as f64;
    let candidate = |shift: f64, right_side: bool| {
        let base = y + 4.0 + shift;
        let start = if right_side { x + 10.0 } else { x - 10.0 - width };
        let area = Area { x: (start, start + width), y: (base - GLYPH.1 + 3.0, base + 3.0) };
        if right_side {
            ((x + 10.0, base), Anchor::Start, area)
        } else {
            ((x - 10.0, base), Anchor::End, area)
        }
    };
    let (left, right, top, bottom) = FRAME;
    [0.0, -13.0, 13.0, -26.0, 26.0, -39.0, 39.0]
        .into_iter()
        .flat_map(|shift| [candidate(shift, true), candidate(shift, false)])
        .find(|(_, _, area)| {
            let inside = area.x.0 >= left && area.x.1 <= right && area.y.0 >= top && area.y.1 <= bottom;
            inside && !taken.iter().any(|other| other.meets(area))
        })
        .unwrap_or_else(|| candidate(0.0, x + width + 12.0 < right))
}
