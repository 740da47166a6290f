use crate::SubLayerKind;

use super::Stage;

/// Predicted seconds of a call for `n` entries: `fixed + base + max(floor, n * each)`. The floor is what reading the weights takes, which
/// does not depend on the entries; `each` is what computing one takes. The base does not depend on them either, and nothing of it is hidden behind
/// computing: a CPU that unpacks weights does both one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Cost {
    pub fixed: f64,
    pub base: f64,
    pub floor: f64,
    pub each: f64,
}

impl Cost {
    #[must_use]
    pub fn seconds(&self, entries: usize) -> f64 {
        self.of(entries as f64)
    }

    fn of(&self, entries: f64) -> f64 {
        self.fixed + self.base + self.floor.max(entries * self.each)
    }

    /// What one call for both saves over one for each.
    #[must_use]
    pub fn saved(&self, entries: usize, more: f64) -> f64 {
        let n = entries as f64;
        self.of(n) + self.of(more) - self.of(n + more)
    }

    /// Entries per second over the most that any number of entries reaches, in (0, 1]; 1 where an entry costs nothing.
    #[must_use]
    pub fn efficiency(&self, entries: usize) -> f64 {
        let seconds = self.seconds(entries);
        if seconds > 0.0 { (entries as f64 * self.each / seconds).min(1.0) } else { 1.0 }
    }
}

/// Predicted times of a model's calls on one device.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct StageCosts {
    pub embed: Cost,
    /// Without its context.
    pub attention: Cost,
    /// Seconds for each position that a row attends to.
    pub context: f64,
    /// Seconds for each position that is read, once for all rows of a sequence.
    pub reach: f64,
    pub feed_forward: Cost,
    pub gate: Cost,
    /// Of the parts of one expert; a call for several pays `fixed` once, all else for each.
    pub expert: Cost,
    /// Adding up one row's parts.
    pub join: f64,
    pub head: Cost,
    /// What the worker itself takes for each entry of any call.
    pub entry: f64,
}

impl StageCosts {
    /// Of a stage's own call, without context and join.
    #[must_use]
    pub fn of(&self, stage: Stage, kinds: &[SubLayerKind]) -> Cost {
        match stage {
            Stage::Embed => self.embed,
            Stage::Head => self.head,
            Stage::Experts { .. } => self.expert,
            Stage::SubLayer(at) => match kinds.get(at) {
                Some(SubLayerKind::Attention) => self.attention,
                Some(SubLayerKind::Experts { .. }) => self.gate,
                Some(SubLayerKind::DenseFeedForward) | None => self.feed_forward,
            },
        }
    }
}
