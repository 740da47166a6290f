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

    /// How steeply the loads fall: `ln load = a - skew * rank / (experts - 1)`, fitted by least squares in each gated sub-layer, the mean of
    /// all. 0 is even. An expert without load counts for half of a part.
    #[must_use]
    pub fn skew(&self) -> f64 {
        let fit = |experts: &Vec<f64>| {
            let mut logs: Vec<f64> = experts.iter().map(|load| load.max(0.5).ln()).collect();
            logs.sort_unstable_by(|a, b| b.total_cmp(a));
            let last = (logs.len() - 1) as f64;
            let mean = logs.iter().sum::<f64>() / logs.len() as f64;
            let ranks = || (0..logs.len()).map(|rank| rank as f64 / last - 0.5);
            let covariance: f64 = ranks().zip(&logs).map(|(rank, log)| rank * (log - mean)).sum();
            -covariance / ranks().map(|rank| rank * rank).sum::<f64>()
        };
        let fits: Vec<f64> = self.0.iter().filter(|experts| experts.len() > 1).map(fit).collect();
        fits.iter().sum::<f64>() / fits.len().max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skew_is_what_exponential_loads_were_made_with() {
        let falling = |skew: f64| (0..8).map(|rank| 1e4 * (-skew * f64::from(rank) / 7.0).exp()).collect();
        let mut shuffled: Vec<f64> = falling(3.0);
        shuffled.swap(0, 5);
        let loads = Loads(vec![Vec::new(), shuffled, vec![1.0; 8]]);
        assert!((loads.skew() - 1.5).abs() < 1e-9, "the mean of 3 and 0: {}", loads.skew());
        assert_eq!(Loads::default().skew(), 0.0);
    }
}
