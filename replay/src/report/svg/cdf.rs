use super::scale::{Scale, tick_label};
use super::{Anchor, Canvas, Style};

/// One run's values.
#[derive(Debug)]
pub struct Curve {
    pub style: Style,
    pub values: Vec<f64>,
}

const WIDTH: f64 = 520.0;
const HEIGHT: f64 = 320.0;
/// Left, right, top, bottom of the plot's frame.
const FRAME: (f64, f64, f64, f64) = (46.0, 508.0, 30.0, 268.0);

/// For each run, the share of requests answered within a time (logarithmic). Further left is faster.
pub fn cdf(title: &str, axis: &str, curves: &[Curve]) -> String {
    let (left, right, top, bottom) = FRAME;
    let mut canvas = Canvas::new(WIDTH, HEIGHT, &format!("{title}: share of requests by {axis}"));
    let x = Scale::log_around(curves.iter().flat_map(|curve| curve.values.iter().copied()), (left, right));
    let y = Scale::linear((0.0, 100.0), (bottom, top));
    canvas.text("title", (0.0, 14.0), Anchor::Start, title);
    for tick in [0.0, 25.0, 50.0, 75.0, 100.0] {
        canvas.line("grid", (left, y.at(tick)), (right, y.at(tick)));
        canvas.text("tick", (left - 6.0, y.at(tick) + 4.0), Anchor::End, &tick_label(tick));
    }
    for tick in x.log_ticks() {
        canvas.line("grid", (x.at(tick), top), (x.at(tick), bottom));
        canvas.text("tick", (x.at(tick), bottom + 15.0), Anchor::Middle, &tick_label(tick));
    }
    canvas.text("axis", ((left + right) / 2.0, bottom + 36.0), Anchor::Middle, axis);
    canvas.body.push_str(&format!(
        "<text class=\"axis\" transform=\"translate(11 {:.1}) rotate(-90)\" text-anchor=\"middle\">requests, %</text>",
        (top + bottom) / 2.0
    ));
    for curve in curves.iter().filter(|curve| !curve.values.is_empty()) {
        canvas.body.push_str(&format!(
            "<path d=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2\" stroke-dasharray=\"{}\"/>",
            steps(&curve.values, x, y),
            curve.style.colour(),
            curve.style.dashes()
        ));
    }
    canvas.finish()
}

/// The empirical distribution as a path of right angles: up by 1/n at every value.
fn steps(values: &[f64], x: Scale, y: Scale) -> String {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let mut path = String::new();
    for (index, value) in sorted.iter().enumerate() {
        let share = 100.0 * (index + 1) as f64 / sorted.len() as f64;
        if index == 0 {
            path.push_str(&format!("M{:.1} {:.1}", x.at(*value), y.at(0.0)));
        } else {
            path.push_str(&format!("H{:.1}", x.at(*value)));
        }
        path.push_str(&format!("V{:.1}", y.at(share)));
    }
    path
}
