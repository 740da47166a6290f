use crate::SubLayerKind;

use super::Stage;

/// Predicted seconds of a call for `n` entries: `fixed + max(floor, n * each)`. The floor is what reading the weights takes, which
/// does not depend on the entries; `each` is what computing one takes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Cost {
    pub fixed: f64,
    pub floor: f64,
    pub each: f64,
}

impl Cost {
    #[must_use]
    pub fn seconds(&self, entries: usize) -> f64 {
        self.fixed + self.floor.max(entries as f64 * self.each)
    }

    /// What one call for both saves over one for each.
    #[must_use]
    pub fn saved(&self, entries: usize, more: f64) -> f64 {
        let seconds = |entries: f64| self.fixed + self.floor.max(entries * self.each);
        let n = entries as f64;
        seconds(n) + seconds(more) - seconds(n + more)
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
    pub feed_forward: Cost,
    pub gate: Cost,
    /// Of the parts of one expert; a call for several pays `fixed` once.
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
