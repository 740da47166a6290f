//! A simulated run cut into windows of equal length: what happened to the requests that arrived in each.

use crate::simulate::run::Moment;
use crate::stats::quantile;

const WINDOWS: usize = 48;

/// The requests that arrived in one window; a value is missing where no request has one.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Window {
    /// Its middle.
    pub at_s: f64,
    pub score: Option<f64>,
    /// Share that the dearest tier did not answer, of those that were answered.
    pub offloaded: Option<f64>,
    /// Share that found no room.
    pub refused: Option<f64>,
    pub p50_s: Option<f64>,
    pub p99_s: Option<f64>,
    pub bias: Option<f64>,
}

/// Empty for a run without moments.
#[must_use]
pub fn windows(moments: &[Moment], dearest: Option<&str>) -> Vec<Window> {
    let Some(last) = moments.last() else { return Vec::new() };
    let width = (last.at_s / WINDOWS as f64).max(f64::MIN_POSITIVE);
    let of = |window: usize| {
        let index = |moment: &Moment| ((moment.at_s / width) as usize).min(WINDOWS - 1);
        let within: Vec<&Moment> = moments.iter().filter(|moment| index(moment) == window).collect();
        let mean =
            |values: Vec<f64>| (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64);
        let share = |of: &[&Moment], holds: &dyn Fn(&Moment) -> bool| {
            mean(of.iter().map(|moment| f64::from(u8::from(holds(moment)))).collect())
        };
        let answered: Vec<&Moment> = within.iter().copied().filter(|moment| moment.e2e_s.is_some()).collect();
        let times: Vec<f64> = answered.iter().filter_map(|moment| moment.e2e_s).collect();
        Window {
            at_s: (window as f64 + 0.5) * width,
            score: mean(within.iter().map(|moment| moment.score.unwrap_or(0.0)).collect()),
            offloaded: share(&answered, &|moment| moment.tier.as_deref() != dearest),
            refused: share(&within, &|moment| moment.tier.is_none()),
            p50_s: quantile(&times, 0.5),
            p99_s: quantile(&times, 0.99),
            bias: mean(within.iter().map(|moment| moment.bias).collect()),
        }
    };
    (0..WINDOWS).map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_request_counts_in_the_window_it_arrived_in() {
        let moment = |at_s: f64, tier: Option<&str>| Moment {
            at_s,
            load: 0.0,
            bias: 0.1,
            tier: tier.map(str::to_owned),
            examples: false,
            score: tier.map(|_| 1.0),
            e2e_s: tier.map(|_| at_s),
        };
        let moments = [
            moment(1.0, Some("small")),
            moment(1.5, Some("large")),
            moment(96.0, None),
            moment(96.0, Some("large")),
        ];
        let windows = windows(&moments, Some("large"));
        assert_eq!(windows.len(), WINDOWS);
        let first = windows[0];
        assert_eq!(
            (first.at_s, first.score, first.offloaded, first.refused),
            (1.0, Some(1.0), Some(0.5), Some(0.0))
        );
        assert_eq!(first.p50_s, Some(1.25));
        let last = windows[WINDOWS - 1];
        assert_eq!((last.score, last.offloaded, last.refused), (Some(0.5), Some(0.0), Some(0.5)));
        assert_eq!((windows[5].score, windows[5].p99_s), (None, None));
        assert!(super::windows(&[], None).is_empty());
    }
}
