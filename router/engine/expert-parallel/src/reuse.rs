//! Weights that were used a short while ago may still be in a cache: what calls take less then.

use std::collections::VecDeque;

use reprise_scheduler::{ExpertId, Stage, SubLayerId, SubLayerKind, Work, schedule::StageCosts};
use serde::{Deserialize, Serialize};

use crate::between::between;

/// Of calls for so many parts of one expert.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reuse {
    pub parts: usize,
    /// How many experts were used from its last use on, itself counted, ascending; microseconds that a call takes less than one whose weights come from
    /// memory, never more than of fewer.
    pub points: Vec<[f64; 2]>,
}

impl Reuse {
    /// Of the microseconds that calls took by the number of experts that took turns, ascending: with the last of them nothing is saved.
    pub(crate) fn of(parts: usize, took: &[[f64; 2]]) -> Self {
        let mut most = 0.0f64;
        let [.., [_, last]] = *took else { return Self { parts, points: Vec::new() } };
        let mut points: Vec<_> = took.iter().map(|[experts, us]| [*experts, last - us]).collect();
        for [_, saved] in points.iter_mut().rev() {
            most = most.max(*saved);
            *saved = most;
        }
        Self { parts, points }
    }

    fn saved_us(&self, experts: usize) -> f64 {
        let experts = experts as f64;
        let behind = self.points.partition_point(|[n, _]| *n <= experts);
        match (behind.checked_sub(1).map(|at| self.points[at]), self.points.get(behind)) {
            (None, first) => first.map_or(0.0, |[_, saved]| *saved),
            (Some([n, a]), Some([m, b])) => a + (b - a) * (experts - n) / (m - n),
            (Some(_), None) => 0.0,
        }
    }
}

/// Which experts a device used last.
#[derive(Debug, Clone, Default)]
pub(crate) struct Recent {
    /// By parts, ascending.
    reuse: Vec<Reuse>,
    /// The last first, each once; as many as anything was measured for.
    used: VecDeque<(SubLayerId, ExpertId)>,
    most: usize,
}

impl Recent {
    pub(crate) fn new(reuse: &[Reuse]) -> Self {
        let most = reuse.iter().filter_map(|of| of.points.last()).map(|[experts, _]| *experts as usize).max();
        Self { reuse: reuse.to_vec(), used: VecDeque::new(), most: most.unwrap_or(0) }
    }

    /// Seconds of a call, whose experts it uses: what the costs say, less what their last use saves.
    pub(crate) fn predict(&mut self, costs: &StageCosts, work: &Work<'_>, kinds: &[SubLayerKind]) -> f64 {
        let all = costs.call(work, kinds);
        match work.stage {
            Stage::Experts(sub_layer) if self.most > 0 => {
                let by_expert = work.parts.chunk_by(|a, b| a.expert == b.expert);
                let saved: f64 =
                    by_expert.map(|parts| self.use_one((sub_layer, parts[0].expert), parts.len())).sum();
                (all - 1e-6 * saved).max(costs.expert.fixed().min(all))
            }
            _ => all,
        }
    }

    fn use_one(&mut self, expert: (SubLayerId, ExpertId), parts: usize) -> f64 {
        let at = self.used.iter().position(|used| *used == expert);
        if let Some(at) = at {
            self.used.remove(at);
        }
        self.used.push_front(expert);
        self.used.truncate(self.most);
        at.map_or(0.0, |at| self.saved_us(parts, at + 1))
    }

    fn saved_us(&self, parts: usize, experts: usize) -> f64 {
        between(&self.reuse, parts as f64, |of| of.parts as f64, |of| of.saved_us(experts)).unwrap_or(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_falls_with_what_was_used_since() {
        let few = Reuse::of(1, &[[1.0, 40.0], [2.0, 43.0], [4.0, 42.0], [8.0, 80.0]]);
        assert_eq!(few.points, [[1.0, 40.0], [2.0, 38.0], [4.0, 38.0], [8.0, 0.0]]);
        let many = Reuse::of(5, &[[1.0, 99.0], [8.0, 100.0]]);
        let recent = Recent::new(&[few, many]);
        for (parts, experts, saved) in
            [(1, 1, 40.0), (1, 3, 38.0), (1, 6, 19.0), (1, 9, 0.0), (5, 1, 1.0), (9, 1, 1.0), (3, 1, 20.5)]
        {
            let found = recent.saved_us(parts, experts);
            assert!((found - saved).abs() < 1e-9, "{parts} parts, {experts} experts: {found}");
        }
        assert!(Reuse::of(1, &[]).points.is_empty());
    }

    #[test]
    fn who_was_used_last_is_remembered() {
        let mut recent = Recent::new(&[Reuse::of(1, &[[1.0, 1.0], [2.0, 2.0], [3.0, 5.0]])]);
        let mut saved = |sub_layer, expert| recent.use_one((sub_layer, expert), 1);
        assert_eq!([saved(1, 0), saved(1, 0), saved(1, 1), saved(1, 0)], [0.0, 4.0, 0.0, 3.0]);
        // Of the same name in another sub-layer; then it was three others ago.
        assert_eq!([saved(3, 0), saved(1, 1), saved(1, 0)], [0.0, 0.0, 0.0]);
        assert_eq!(Recent::new(&[]).use_one((1, 0), 1), 0.0);
    }
}
