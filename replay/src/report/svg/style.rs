/// How a run is drawn. Colour says the tier or policy, a ring or dashes say "without examples", so that the pairs that
/// matter are told apart without reading the legend, and without colour vision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    colour: usize,
    plain: bool,
}

/// CSS variables of the page, each with a light and a dark value.
const COLOURS: [&str; 9] = [
    "var(--blue)",
    "var(--orange)",
    "var(--green)",
    "var(--grey)",
    "var(--purple)",
    "var(--pink)",
    "var(--brown)",
    "var(--teal)",
    "var(--gold)",
];

impl Style {
    pub fn of(policy: &str) -> Self {
        let colour = match policy {
            "small-plain" | "small-examples" => 0,
            "large-plain" | "large-examples" => 1,
            "bandit" => 2,
            "random" => 3,
            "reuse" => 4,
            "static-threshold" => 5,
            "win-probability" => 6,
            _ => 7,
        };
        Self { colour, plain: policy.ends_with("-plain") }
    }

    /// With a colour that none of these has, as long as there is one.
    pub fn apart_from(self, others: &[Self]) -> Self {
        let free = (0..COLOURS.len()).find(|colour| others.iter().all(|other| other.colour != *colour));
        Self { colour: free.unwrap_or(self.colour), ..self }
    }

    pub(super) fn colour(self) -> &'static str {
        COLOURS[self.colour % COLOURS.len()]
    }

    pub(super) fn hollow(self) -> bool {
        self.plain
    }

    pub(super) fn dashes(self) -> &'static str {
        if self.plain { "5 4" } else { "none" }
    }
}

impl Style {
    /// A legend's sample of the line and the dot.
    pub fn swatch(self) -> String {
        let (colour, fill) = (self.colour(), if self.plain { "var(--paper)" } else { self.colour() });
        format!(
            "<svg width=\"30\" height=\"12\" aria-hidden=\"true\"><line x1=\"0\" y1=\"6\" x2=\"30\" y2=\"6\" stroke=\"{colour}\" \
             stroke-width=\"2\" stroke-dasharray=\"{}\"/><circle cx=\"15\" cy=\"6\" r=\"4\" fill=\"{fill}\" stroke=\"{colour}\" \
             stroke-width=\"2\"/></svg>",
            self.dashes()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_run_of_a_policy_is_told_from_all_others() {
        let mut drawn: Vec<Style> = ["small-examples", "bandit", "large-plain"].map(Style::of).into();
        for _ in 3..COLOURS.len() {
            let next = Style::of("bandit").apart_from(&drawn);
            assert!(drawn.iter().all(|other| other.colour != next.colour));
            drawn.push(next);
        }
        assert_eq!(Style::of("bandit").apart_from(&drawn), Style::of("bandit"), "there is none left");
    }
}
