use super::{Cost, Foreseen, StageCosts};
use crate::placement::Hosting;

/// Halves must take less than this share of what all rows take together: what is foreseen is not what comes.
const CLEARLY: f64 = 0.97;

/// What rows take from one gate to the next, by how many there are of them, wherever they are, and how many go together.
///
/// Rows that go together read all weights once. Two halves, one after the other, read them once each; but while one is with its experts the other
/// attends, where these are on devices of their own, and while one is on its way the other is computed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Round {
    /// Of the parts of one device.
    experts: Cost,
    /// Devices with attention, and with experts.
    attends: f64,
    hosts: f64,
    /// None is both.
    apart: bool,
    /// Of each gate, the share in what comes before the first and behind the last.
    ends: f64,
    /// Of a row of one device, vectors that a parcel has.
    vectors: f64,
}

/// Of rows that go together, in seconds.
struct Times {
    attention: f64,
    experts: f64,
    /// Of the whole way.
    way: f64,
}

impl Round {
    pub(super) fn new(costs: &StageCosts, hosting: &Hosting, top_k: u16, gates: usize) -> Self {
        let Hosting { hosts, each, attends, apart, .. } = *hosting;
        let (attends, hosts) = (attends.max(1) as f64, hosts.max(1) as f64);
        let vectors = (f64::from(top_k) / hosts).min(1.0);
        let ends = 1.0 / gates.max(1) as f64;
        Self { experts: costs.spread(each), attends, hosts, apart, ends, vectors }
    }

    fn times(&self, costs: &StageCosts, rows: f64, foreseen: &Foreseen) -> Times {
        let Foreseen { most, alone, reach, .. } = *foreseen;
        let own = rows / self.attends;
        let vectors = self.vectors * own;
        // Each of the devices has a parcel to and one from each of those with the other role.
        let packing = |parcels: f64| 2.0 * parcels * costs.packing.of(vectors);
        let attention = costs.attend_share(own, alone)
            + (costs.context + costs.reach) * reach * own
            + costs.gate.of(own)
            + costs.join.of(own)
            + self.ends * (costs.embed.of(own) + costs.head.of(own))
            + packing(self.hosts);
        let experts = self.experts.of(most * rows) + packing(self.attends);
        Times { attention, experts, way: attention + experts + 2.0 * costs.link.of(vectors) }
    }

    /// Seconds until all rows have passed, in so many groups: as long as the busiest device takes for all of them, or each group alone.
    fn seconds(&self, costs: &StageCosts, groups: f64, foreseen: &Foreseen) -> f64 {
        let rows = foreseen.whole * foreseen.rows / groups;
        let Times { attention, experts, way } = self.times(costs, rows, foreseen);
        let busy = if self.apart { attention.max(experts) } else { attention + experts };
        way.max(groups * busy)
    }

    /// Entries of a queue that are a half of all rows, where two halves pass in clearly less time than all together.
    pub(super) fn half(&self, costs: &StageCosts, foreseen: &Foreseen) -> Option<f64> {
        let seconds = |groups| self.seconds(costs, groups, foreseen);
        (seconds(2.0) < CLEARLY * seconds(1.0)).then_some(foreseen.whole / 2.0)
    }

    /// Whether groups are made where rows enter: one device has them all. Of several each would wait for its own, and meet fewer of the others' at
    /// the experts.
    pub(super) fn gathers(&self) -> bool {
        self.attends <= 1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Attention and experts of so many milliseconds, whatever their rows, on devices of their own or not.
    fn round(attention: f64, experts: f64, each: f64, link: f64, apart: bool) -> (Round, StageCosts) {
        let cost = |ms: f64, each: f64| Cost::roofline(0.0, 1e-3 * ms, 0.0).plus_line(0.0, 1e-3 * each);
        let costs = StageCosts {
            attention: cost(attention, each),
            expert: cost(experts, each),
            link: Cost::roofline(1e-3 * link, 0.0, 0.0),
            ..StageCosts::default()
        };
        let hosting = Hosting { here: 1, share: 1.0, hosts: 1, each: 1.0, attends: 1, apart };
        (Round::new(&costs, &hosting, 1, 4), costs)
    }

    fn foreseen(whole: f64) -> Foreseen {
        Foreseen { soon: 0.0, whole, enter: 0.0, rows: 1.0, most: 1.0, alone: 1.0, reach: 0.0 }
    }

    #[test]
    fn halves_pay_where_one_is_computed_while_the_other_is_elsewhere() {
        let half = |(round, costs): (Round, StageCosts)| round.half(&costs, &foreseen(64.0));
        // All together 20, and each half too.
        assert_eq!(half(round(10.0, 10.0, 0.0, 0.0, true)), None);
        assert_eq!(half(round(10.0, 10.0, 0.0, 2.0, true)), None, "nor on their way");
        // 1 for each row: 148 together, 84 in halves.
        assert_eq!(half(round(10.0, 10.0, 1.0, 0.0, true)), Some(32.0));
        assert_eq!(half(round(10.0, 10.0, 1.0, 0.0, false)), None, "one device does both");
        // Experts read their weights for 40 each time: 50 together, 80 in halves.
        assert_eq!(half(round(10.0, 40.0, 0.0, 0.0, true)), None);
    }

    #[test]
    fn contexts_and_the_device_with_the_most_parts_count() {
        let (round, mut costs) = round(10.0, 40.0, 0.0, 0.0, true);
        costs.reach = 1e-5;
        let half = |foreseen| round.half(&costs, &foreseen);
        // 64 rows of 50 positions: 32 ms, 82 together; in halves 80 of experts, which is not clearly less.
        assert_eq!(half(Foreseen { reach: 50.0, ..foreseen(64.0) }), None);
        // Of 100: 114 together, in halves 84 of attention.
        assert_eq!(half(Foreseen { reach: 100.0, ..foreseen(64.0) }), Some(32.0));
        // Rows of prompts share what they read.
        assert_eq!(half(Foreseen { reach: 0.0, alone: 0.0, ..foreseen(64.0) }), None);
        // Another device has twice the parts of the mean: bound by computing there.
        let (round, costs) = self::round(10.0, 10.0, 1.0, 0.0, true);
        let at = |most: f64| round.times(&costs, 64.0, &Foreseen { most, ..foreseen(64.0) }).experts;
        assert!((at(2.0) - at(1.0) - 0.064).abs() < 1e-9);
    }
}
