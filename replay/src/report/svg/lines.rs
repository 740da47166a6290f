use super::scale::{Scale, tick_label};
use super::{Anchor, Canvas, Style};

/// One run's values over time.
#[derive(Debug)]
pub struct Series {
    pub style: Style,
    /// Seconds and value, in the order of time.
    pub points: Vec<(f64, f64)>,
}

/// How values are laid out upwards.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Upwards {
    /// From 0 to this at least.
    Linear(f64),
    Log,
}

const WIDTH: f64 = 520.0;
const HEIGHT: f64 = 260.0;
/// Left, right, top, bottom of the plot's frame.
const FRAME: (f64, f64, f64, f64) = (46.0, 508.0, 30.0, 212.0);

/// A line for each run over the same span of time.
pub fn lines(title: &str, axis: &str, upwards: Upwards, series: &[Series]) -> String {
    let (left, right, top, bottom) = FRAME;
    let mut canvas = Canvas::new(WIDTH, HEIGHT, &format!("{title} over time: {axis}"));
    let points = || series.iter().flat_map(|one| one.points.iter().copied());
    let end = points().map(|(at, _)| at).fold(0.0, f64::max).max(1.0);
    let x = Scale::linear((0.0, end), (left, right));
    let (y, ticks) = match upwards {
        Upwards::Linear(least) => {
            let most =
                points().map(|(_, value)| value).filter(|value| value.is_finite()).fold(least, f64::max);
            let ticks = (0..=4).map(|step| most * f64::from(step) / 4.0).collect();
            (Scale::linear((0.0, most), (bottom, top)), ticks)
        }
        Upwards::Log => {
            let scale = Scale::log_around(points().map(|(_, value)| value), (bottom, top));
            (scale, scale.log_ticks())
        }
    };
    canvas.text("title", (0.0, 14.0), Anchor::Start, title);
    for tick in ticks {
        canvas.line("grid", (left, y.at(tick)), (right, y.at(tick)));
        canvas.text(
            "tick",
            (left - 6.0, y.at(tick) + 4.0),
            Anchor::End,
            &tick_label((tick * 1e3).round() / 1e3),
        );
    }
    for step in 0..=4 {
        let tick = end * f64::from(step) / 4.0;
        canvas.text("tick", (x.at(tick), bottom + 15.0), Anchor::Middle, &tick_label(tick.round()));
    }
    canvas.text(
        "axis",
        ((left + right) / 2.0, bottom + 36.0),
        Anchor::Middle,
        &format!("s; upwards: {axis}"),
    );
    for one in series.iter().filter(|one| !one.points.is_empty()) {
        canvas.body.push_str(&format!(
            "<path d=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2\" stroke-dasharray=\"{}\"/>",
            path(&one.points, x, y),
            one.style.colour(),
            one.style.dashes()
        ));
    }
    canvas.finish()
}

fn path(points: &[(f64, f64)], x: Scale, y: Scale) -> String {
    let finite = points.iter().filter(|(_, value)| value.is_finite());
    let step = |(index, (at, value)): (usize, &(f64, f64))| {
        format!("{}{:.1} {:.1}", if index == 0 { "M" } else { "L" }, x.at(*at), y.at(*value))
    };
    finite.enumerate().map(step).collect()
}
