use super::{Loads, Placement};

/// By so much less the busiest devices must have to do, as a share: else the halves are not held apart.
const WORTH: f64 = 0.02;

/// How many gated sub-layers one half of ping-pong best is behind the other.
///
/// While one half is with the experts of a sub-layer the other comes to those of the sub-layer so far behind it, or of the next. Where loads are
/// skewed the two wait for each other if their hot experts lie on the same device, and this they do sub-layer after sub-layer once they are close
/// together: who is served second stays right behind. So the distance is taken at which the busiest device of both together has least to do, summed
/// over the sub-layers; 0 if none is better than being close.
pub(super) fn of(placement: &Placement, loads: &Loads) -> usize {
    let gated = (0..placement.hosts.len()).filter(|at| !placement.hosts[*at].is_empty());
    let shares: Vec<Vec<f64>> = gated.map(|at| shares(placement.device_loads(at, loads))).collect();
    let count = shares.len();
    let together = |distance: usize| -> f64 {
        let others = shares.iter().cycle().skip(distance);
        let most = |(one, other): (&Vec<f64>, &Vec<f64>)| {
            one.iter().zip(other).map(|(one, other)| one + other).fold(0.0, f64::max)
        };
        shares.iter().zip(others).map(most).sum()
    };
    let around = |distance: usize| together(distance) + together(distance + 1);
    let best = (1..=count / 2).reduce(|best, other| if around(other) < around(best) { other } else { best });
    best.filter(|best| around(*best) < (1.0 - WORTH) * around(0)).unwrap_or(0)
}

fn shares(mut loads: Vec<f64>) -> Vec<f64> {
    let all: f64 = loads.iter().sum();
    loads.iter_mut().for_each(|load| *load /= all.max(f64::MIN_POSITIVE));
    loads
}

#[cfg(test)]
mod tests {
    use crate::placement::{Roles, fixture};

    /// Of a model of so many layers with as many experts as devices.
    fn stagger(layers: usize, devices: u16, load: impl Fn(usize, u16) -> f64) -> usize {
        let layout = fixture::layout(layers, devices);
        fixture::place(&layout, load, devices, Roles::Shared, 0).expect("fits").stagger()
    }

    #[test]
    fn halves_are_held_apart_only_where_hot_experts_would_meet() {
        assert_eq!(stagger(16, 4, |_, _| 1.0), 0);
        assert_eq!(stagger(1, 4, |_, expert| f64::from(expert)), 0);
        assert_eq!(
            stagger(16, 2, |_, expert| f64::from(1 + 3 * expert)),
            0,
            "whatever the distance they meet in every second layer"
        );
        // The hottest lies on another device in each layer, the next hot one beside it: two of eight away from both.
        let apart = stagger(16, 8, |_, expert| (-f64::from(expert)).exp());
        assert!((2..=5).contains(&apart), "{apart}");
    }
}
