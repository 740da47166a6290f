use crate::{SubLayerKind, Work};

use super::Stage;

/// Points of a measured curve, at most.
const KNOTS: usize = 10;

/// Predicted seconds of a call for `n` entries: what any call takes, and a curve through some points, level before the first of them and straight
/// behind the last. A roofline has one: reading the weights takes as long for few entries as for one, until computing takes longer.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Cost {
    fixed: f64,
    /// Entries, and seconds beyond `fixed`; neither falls from one to the next.
    knots: [(f64, f64); KNOTS],
    count: usize,
    /// Seconds of an entry behind the last.
    each: f64,
}

impl Cost {
    /// `fixed + max(floor, n * each)`, in seconds.
    #[must_use]
    pub const fn roofline(fixed: f64, floor: f64, each: f64) -> Self {
        let mut knots = [(0.0, 0.0); KNOTS];
        let corner = if each > 0.0 { floor / each } else { 1.0 };
        knots[0] = (corner, floor);
        Self { fixed, knots, count: 1, each }
    }

    /// Through points of entries and seconds, in order of their entries, of which `fixed` seconds do not depend on these. A point that is below
    /// the one before it is taken for noise and lifted to it. Points beyond the tenth are left out.
    #[must_use]
    pub fn through(points: impl IntoIterator<Item = (f64, f64)>, fixed: f64) -> Self {
        let (mut knots, mut count, mut least) = ([(0.0, 0.0); KNOTS], 0, 0.0f64);
        for ((entries, seconds), knot) in points.into_iter().zip(&mut knots) {
            least = least.max(seconds - fixed);
            *knot = (entries, least);
            count += 1;
        }
        let each = match knots[..count] {
            [.., (n, a), (m, b)] if m > n => (b - a) / (m - n),
            _ => 0.0,
        };
        Self { fixed, knots, count, each }
    }

    /// With what any call takes beside, and each of its entries.
    #[must_use]
    pub fn plus_line(mut self, fixed: f64, each: f64) -> Self {
        // Level before its first point, it must rise to there.
        let (first, seconds) = self.knots[0];
        if each > 0.0 && first > 0.0 && self.count < KNOTS {
            self.knots.copy_within(..self.count, 1);
            self.knots[0] = (0.0, seconds);
            self.count += 1;
        }
        self.knots[..self.count].iter_mut().for_each(|(entries, seconds)| *seconds += each * *entries);
        Self { fixed: self.fixed + fixed, each: self.each + each, ..self }
    }

    /// Of `times` as many entries.
    #[must_use]
    pub fn of_times(mut self, times: f64) -> Self {
        self.knots[..self.count].iter_mut().for_each(|(entries, _)| *entries /= times);
        Self { each: self.each * times, ..self }
    }

    /// Paid once in a call for several experts.
    #[must_use]
    pub const fn fixed(&self) -> f64 {
        self.fixed
    }

    #[must_use]
    pub fn seconds(&self, entries: usize) -> f64 {
        self.of(entries as f64)
    }

    pub(super) fn of(&self, entries: f64) -> f64 {
        let knots = &self.knots[..self.count];
        let behind = knots.partition_point(|(n, _)| *n <= entries);
        let (Some(first), Some(last)) = (knots.first(), knots.last()) else { return self.fixed };
        self.fixed
            + match (behind.checked_sub(1).map(|at| knots[at]), knots.get(behind)) {
                (None, _) => first.1,
                (Some((n, a)), Some((m, b))) => a + (b - a) * (entries - n) / (m - n),
                (Some(_), None) => last.1 + self.each * (entries - last.0),
            }
    }

    /// What one call for both saves over one for each.
    #[must_use]
    pub fn saved(&self, entries: usize, more: f64) -> f64 {
        let n = entries as f64;
        self.of(n) + self.of(more) - self.of(n + more)
    }
}

/// Predicted times of a model's calls on one device.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct StageCosts {
    pub embed: Cost,
    /// Without its context, of rows of a sequence each, and of rows of one sequence.
    pub attention: Cost,
    pub prompt: Cost,
    /// Seconds for each position that a row attends to.
    pub context: f64,
    /// Seconds for each position that is read, once for all rows of a sequence.
    pub reach: f64,
    pub feed_forward: Cost,
    pub gate: Cost,
    /// Of the parts of one expert alone.
    pub expert: Cost,
    /// Of one expert's beside many others' in the same call, which pays `fixed` once. Less than alone where one expert does not fill the
    /// device.
    pub beside: Cost,
    /// Adding up rows' parts.
    pub join: Cost,
    pub head: Cost,
    /// What the worker takes for a parcel of so many parts, when it comes.
    pub parcel: Cost,
    /// Of a parcel of so many vectors: what each of its ends takes its worker, and its way from one to the other.
    pub packing: Cost,
    pub link: Cost,
}

impl StageCosts {
    /// Of a call for several experts, by their numbers of parts: no less than the one with the most takes alone, nor than all take together.
    #[must_use]
    pub fn experts(&self, parts: impl IntoIterator<Item = usize>) -> f64 {
        let (mut most, mut together) = (0.0f64, 0.0);
        for parts in parts {
            most = most.max(self.expert.seconds(parts) - self.expert.fixed());
            together += self.beside.seconds(parts) - self.beside.fixed();
        }
        self.expert.fixed() + most.max(together)
    }

    /// Of a call for parts that are spread evenly over so many experts: few of them use few experts, and read the weights of these alone.
    #[must_use]
    pub fn spread(&self, experts: f64) -> Cost {
        if experts <= 1.0 {
            return self.expert;
        }
        let seconds = |parts: f64| {
            let used = experts * (1.0 - (1.0 - 1.0 / experts).powf(parts));
            let own = |cost: &Cost| cost.of(parts / used) - cost.fixed;
            self.expert.fixed + own(&self.expert).max(used * own(&self.beside))
        };
        // To 19,683 parts: far behind where computing takes longer than reading.
        let points = (0..KNOTS as i32).map(|at| 3.0f64.powi(at)).map(|parts| (parts, seconds(parts)));
        Cost::through(points, self.expert.fixed)
    }

    /// Of attention, without its context, for so many rows, of which so many are alone of their sequence.
    #[must_use]
    pub fn attend(&self, rows: usize, alone: usize) -> f64 {
        self.attend_share(rows as f64, alone as f64 / rows.max(1) as f64)
    }

    /// The same, of rows of which such a share is alone.
    pub(super) fn attend_share(&self, rows: f64, alone: f64) -> f64 {
        alone * self.attention.of(rows) + (1.0 - alone) * self.prompt.of(rows)
    }

    /// Of a call, with all that belongs to it.
    #[must_use]
    pub fn call(&self, work: &Work<'_>, kinds: &[SubLayerKind]) -> f64 {
        let own = match work.stage {
            Stage::Experts(_) => {
                self.experts(work.parts.chunk_by(|a, b| a.expert == b.expert).map(<[_]>::len))
            }
            Stage::SubLayer(at) if kinds.get(at) == Some(&SubLayerKind::Attention) => {
                let context = self.context * work.context as f64 + self.reach * work.reach as f64;
                self.attend(work.entries, work.alone) + context
            }
            stage => self.of(stage, kinds).seconds(work.entries),
        };
        own + work.join.map_or(0.0, |_| self.join.seconds(work.entries))
    }

    /// Of a stage's own call, without context and join.
    #[must_use]
    pub fn of(&self, stage: Stage, kinds: &[SubLayerKind]) -> Cost {
        match stage {
            Stage::Embed => self.embed,
            Stage::Head => self.head,
            Stage::Experts(_) => self.expert,
            Stage::SubLayer(at) => match kinds.get(at) {
                Some(SubLayerKind::Attention) => self.attention,
                Some(SubLayerKind::Experts { .. }) => self.gate,
                Some(SubLayerKind::DenseFeedForward) | None => self.feed_forward,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_roofline_is_level_until_computing_takes_longer() {
        let cost = Cost::roofline(5.0, 20.0, 2.0);
        for (entries, seconds) in [(1, 25.0), (10, 25.0), (11, 27.0), (40, 85.0)] {
            assert!((cost.seconds(entries) - seconds).abs() < 1e-9, "{entries}");
        }
        assert!((Cost::roofline(3.0, 4.0, 0.0).seconds(99) - 7.0).abs() < 1e-9);
        assert_eq!(Cost::default().seconds(7), 0.0);
        // 6 and 6 in one call: the second is free. 20 and 20: a call's own time alone.
        assert!((cost.saved(5, 5.0) - 25.0).abs() < 1e-9 && (cost.saved(20, 20.0) - 5.0).abs() < 1e-9);
    }

    #[test]
    fn experts_of_a_call_share_what_one_leaves() {
        let costs = StageCosts {
            expert: Cost::through([(1.0, 13.0), (64.0, 28.0)], 10.0),
            beside: Cost::through([(1.0, 13.0), (64.0, 16.0)], 10.0),
            ..StageCosts::default()
        };
        // Three of one part read their weights each; of 64 parts one leaves most of the device to others.
        for (parts, seconds) in [
            (vec![1; 3], 19.0),
            (vec![64], 28.0),
            (vec![64; 3], 28.0),
            (vec![64; 4], 34.0),
            (vec![64, 1], 28.0),
        ] {
            assert!((costs.experts(parts.clone()) - seconds).abs() < 1e-9, "{parts:?}");
        }
    }

    #[test]
    fn parts_that_are_spread_use_as_many_experts_as_they_meet() {
        let level = |fixed, seconds| Cost::roofline(fixed, seconds, 0.0);
        let costs =
            StageCosts { expert: level(10.0, 3.0), beside: level(10.0, 3.0), ..StageCosts::default() };
        let spread = costs.spread(4.0);
        // One expert; of three parts some meet another's; at last all.
        let met = |parts| 4.0 * (1.0 - 0.75f64.powi(parts));
        for (parts, used) in [(1, 1.0), (3, met(3)), (9, met(9)), (729, 4.0), (100_000, 4.0)] {
            let found = spread.seconds(parts);
            assert!((found - 10.0 - 3.0 * used).abs() < 1e-6, "{parts}: {found}");
        }
        assert!((spread.saved(9, 720.0) - spread.seconds(9)).abs() < 0.1, "the others read all weights");
        assert_eq!(costs.spread(1.0), costs.expert);
        assert_eq!(costs.spread(0.0), costs.expert);
        // A row of three parts.
        assert!((spread.of_times(3.0).seconds(1) - spread.seconds(3)).abs() < 1e-9);
        // Bound by computing, one call for two saves next to nothing but its own time.
        let bound = Cost::roofline(10.0, 3.0, 0.01);
        let spread = StageCosts { expert: bound, beside: bound, ..StageCosts::default() }.spread(4.0);
        assert!((spread.saved(3000, 3000.0) - 10.0).abs() < 1.0, "{}", spread.saved(3000, 3000.0));
    }

    #[test]
    fn attention_is_for_rows_alone_and_for_rows_of_prompts() {
        let level = |seconds| Cost::roofline(0.0, seconds, 0.0);
        let costs = StageCosts { attention: level(8.0), prompt: level(4.0), ..StageCosts::default() };
        for (rows, alone, seconds) in [(6, 6, 8.0), (6, 0, 4.0), (6, 3, 6.0)] {
            assert!((costs.attend(rows, alone) - seconds).abs() < 1e-9, "{rows}, {alone}");
        }
    }

    #[test]
    fn what_each_entry_takes_besides_counts_from_the_first() {
        let cost = Cost::roofline(5.0, 20.0, 2.0).plus_line(1.0, 0.5);
        for (entries, seconds) in [(1, 26.5), (10, 31.0), (20, 56.0)] {
            assert!((cost.seconds(entries) - seconds).abs() < 1e-9, "{entries}: {}", cost.seconds(entries));
        }
    }

    #[test]
    fn a_curve_goes_through_what_was_measured() {
        let cost =
            Cost::through([(1.0, 10.0), (8.0, 9.0), (16.0, 18.0), (32.0, 26.0)], 4.0).plus_line(1.0, 0.0);
        for (entries, seconds) in
            [(1, 11.0), (4, 11.0), (8, 11.0), (12, 15.0), (16, 19.0), (32, 27.0), (64, 43.0)]
        {
            assert!((cost.seconds(entries) - seconds).abs() < 1e-9, "{entries}: {}", cost.seconds(entries));
        }
        assert!((cost.fixed() - 5.0).abs() < 1e-9);
    }
}
