//! The report's plots: small SVG text, coloured by the page's own CSS variables so that they follow light and dark.

mod bars;
mod cdf;
mod dots;
mod lines;
mod scale;
mod scatter;
mod style;

pub(super) use bars::{Bar, bars};
pub(super) use cdf::{Curve, cdf};
pub(super) use dots::{Dot, dots};
pub(super) use lines::{Series, Upwards, lines};
pub(super) use scatter::{Point, scatter};
pub(super) use style::Style;

use super::format::escape;

/// How text lies to its position.
#[derive(Debug, Clone, Copy)]
enum Anchor {
    Start,
    Middle,
    End,
}

/// One picture under construction. Coordinates in pixels, y downwards.
#[derive(Debug)]
struct Canvas {
    width: f64,
    height: f64,
    label: String,
    body: String,
}

impl Canvas {
    /// `label` is read out in place of the picture.
    fn new(width: f64, height: f64, label: &str) -> Self {
        Self { width, height, label: escape(label), body: String::new() }
    }

    fn line(&mut self, class: &str, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) {
        self.body.push_str(&format!(
            "<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>"
        ));
    }

    fn coloured_line(&mut self, style: Style, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) {
        self.body.push_str(&format!(
            "<line stroke=\"{}\" stroke-width=\"2\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>",
            style.colour()
        ));
    }

    fn text(&mut self, class: &str, (x, y): (f64, f64), anchor: Anchor, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        self.body.push_str(&format!(
            "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>",
            escape(text)
        ));
    }

    /// A filled dot, or a ring for runs without examples. `title` shows on hover.
    fn dot(&mut self, style: Style, (x, y): (f64, f64), title: &str) {
        let colour = style.colour();
        let fill = if style.hollow() { "var(--paper)" } else { colour };
        self.body.push_str(&format!(
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4.5\" fill=\"{fill}\" stroke=\"{colour}\" stroke-width=\"2\">\
             <title>{}</title></circle>",
            escape(title)
        ));
    }

    fn finish(self) -> String {
        format!(
            "<svg role=\"img\" aria-label=\"{}\" viewBox=\"0 0 {w:.0} {h:.0}\" width=\"{w:.0}\" height=\"{h:.0}\">{}</svg>",
            self.label,
            self.body,
            w = self.width,
            h = self.height
        )
    }
}
