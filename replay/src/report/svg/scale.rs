/// Maps values to pixels along one axis.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scale {
    from: (f64, f64),
    to: (f64, f64),
    log: bool,
}

impl Scale {
    pub(super) fn linear(from: (f64, f64), to: (f64, f64)) -> Self {
        Self { from, to, log: false }
    }

    /// A logarithmic axis around positive values, widened by a tenth of a decade so that no mark sits on the frame.
    pub(super) fn log_around(values: impl Iterator<Item = f64>, to: (f64, f64)) -> Self {
        let (low, high) = values
            .filter(|value| *value > 0.0 && value.is_finite())
            .fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(value), high.max(value)));
        let (low, high) = if low <= high { (low, high) } else { (0.1, 1.0) };
        let margin = 10f64.powf(0.1);
        Self { from: (low / margin, high * margin), to, log: true }
    }

    pub(super) fn at(&self, value: f64) -> f64 {
        let of = |value: f64| if self.log { value.max(f64::MIN_POSITIVE).log10() } else { value };
        let (low, high) = (of(self.from.0), of(self.from.1));
        let share = if high > low { ((of(value) - low) / (high - low)).clamp(0.0, 1.0) } else { 0.5 };
        self.to.0 + share * (self.to.1 - self.to.0)
    }

    /// Round values within the axis: 1, 2 and 5 times powers of ten (only powers of ten over many decades).
    pub(super) fn log_ticks(&self) -> Vec<f64> {
        let decades = (self.from.1 / self.from.0).log10();
        let steps: &[f64] = if decades > 3.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
        let mut ticks = Vec::new();
        let mut power = self.from.0.log10().floor() as i32;
        while 10f64.powi(power) <= self.from.1 {
            for step in steps {
                let tick = step * 10f64.powi(power);
                if (self.from.0..=self.from.1).contains(&tick) {
                    ticks.push(tick);
                }
            }
            power += 1;
        }
        ticks
    }
}

/// A tick's label without needless zeros: 0.05, 2, 500.
pub(super) fn tick_label(value: f64) -> String {
    let text = format!("{value:.6}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_axes_have_round_ticks() {
        let scale = Scale::log_around([0.3, 4.0].into_iter(), (0.0, 100.0));
        assert_eq!(
            scale.log_ticks().iter().map(|&tick| tick_label(tick)).collect::<Vec<_>>(),
            ["0.5", "1", "2", "5"]
        );
        assert!(scale.at(0.3) > 0.0 && scale.at(4.0) < 100.0 && scale.at(1.0) < scale.at(2.0));
    }

    #[test]
    fn a_single_or_no_value_still_makes_an_axis() {
        assert!(Scale::log_around(std::iter::empty(), (0.0, 1.0)).at(0.5).is_finite());
        assert!(Scale::log_around([2.0].into_iter(), (0.0, 1.0)).at(2.0).is_finite());
        assert!((Scale::linear((0.0, 0.0), (0.0, 10.0)).at(3.0) - 5.0).abs() < 1e-9);
    }
}
