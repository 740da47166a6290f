use crate::{ExpertId, ModelLayout, SubLayerId, SubLayerKind};

/// Parts that each expert of each sub-layer got, counted or assumed. Only their proportions within a sub-layer matter.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Loads(Vec<Vec<f64>>);

impl Loads {
    /// The same for all experts.
    #[must_use]
    pub fn even(layout: &ModelLayout) -> Self {
        Self::with(layout, |_, _, _| 1.0)
    }

    /// `load(sub-layer, expert, experts)`.
    #[must_use]
    pub fn with(layout: &ModelLayout, load: impl Fn(SubLayerId, ExpertId, u16) -> f64) -> Self {
        let of = |(sub_layer, kind): (usize, &SubLayerKind)| match kind {
            SubLayerKind::Experts { experts, .. } => {
                (0..*experts).map(|expert| load(sub_layer, expert, *experts)).collect()
            }
            SubLayerKind::Attention | SubLayerKind::DenseFeedForward => Vec::new(),
        };
        Self(layout.sub_layers.iter().enumerate().map(of).collect())
    }

    #[must_use]
    pub fn sub_layers(&self) -> usize {
        self.0.len()
    }

    /// Of each expert; empty where the sub-layer is not gated.
    #[must_use]
    pub fn experts(&self, sub_layer: SubLayerId) -> &[f64] {
        self.0.get(sub_layer).map_or(&[], Vec::as_slice)
    }

    pub fn count(&mut self, sub_layer: SubLayerId, expert: ExpertId, parts: f64) {
        if let Some(load) = self.0.get_mut(sub_layer).and_then(|experts| experts.get_mut(usize::from(expert)))
        {
            *load += parts;
        }
    }

    /// Of all experts of a group.
    #[must_use]
    pub fn group(&self, sub_layer: SubLayerId, group: usize, experts_per_group: u16) -> f64 {
        let experts = self.experts(sub_layer).chunks(usize::from(experts_per_group.max(1))).nth(group);
        experts.map_or(0.0, |experts| experts.iter().sum())
    }
}
