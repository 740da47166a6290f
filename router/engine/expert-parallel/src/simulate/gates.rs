use reprise_scheduler::{ExpertId, ModelLayout, SubLayerId, SubLayerKind, placement::Loads};

use crate::unit::{key, mix, unit};

/// Gates of no model: experts drawn by their loads, the same for a row whatever the order of events.
#[derive(Debug, Clone)]
pub struct Gates {
    seed: u64,
    /// Per gated sub-layer the loads' running sum.
    sums: Vec<Vec<f64>>,
    top_k: Vec<usize>,
}

impl Gates {
    #[must_use]
    pub fn new(layout: &ModelLayout, loads: &Loads, seed: u64) -> Self {
        let running = |sub_layer: usize| {
            let mut sum = 0.0;
            let add = |load: &f64| {
                sum += load;
                sum
            };
            loads.experts(sub_layer).iter().map(add).collect()
        };
        let top_k = |kind: &SubLayerKind| match kind {
            SubLayerKind::Experts { top_k, .. } => usize::from(*top_k),
            SubLayerKind::Attention | SubLayerKind::DenseFeedForward => 0,
        };
        Self {
            seed,
            sums: (0..layout.sub_layers.len()).map(running).collect(),
            top_k: layout.sub_layers.iter().map(top_k).collect(),
        }
    }

    /// Exponential loads: the least has `exp(-skew)` of the most, those between in a geometric row; which expert has which differs from
    /// sub-layer to sub-layer. 0 is even.
    #[must_use]
    pub fn skewed(layout: &ModelLayout, skew: f64, seed: u64) -> Loads {
        Loads::with(layout, |sub_layer, expert, experts| {
            let order = |expert: u16| mix(key(&[seed, sub_layer as u64, u64::from(expert)]));
            let rank = (0..experts).filter(|other| order(*other) < order(expert)).count();
            let last = f64::from(experts.saturating_sub(1).max(1));
            (-skew * rank as f64 / last).exp()
        })
    }

    /// Adds the experts of a row, all different.
    pub fn choose(&self, sub_layer: SubLayerId, row: u64, experts: &mut Vec<ExpertId>) {
        let (sums, first) = (&self.sums[sub_layer], experts.len());
        let Some(all) = sums.last().copied() else { return };
        let wanted = self.top_k[sub_layer].min(sums.len());
        let mut draw = 0;
        while experts.len() - first < wanted {
            let at = all * unit(key(&[self.seed, row, sub_layer as u64, draw]));
            draw += 1;
            let drawn = sums.partition_point(|sum| *sum <= at).min(sums.len() - 1);
            let mut expert = ExpertId::try_from(drawn).unwrap_or(0);
            // With loads near zero a draw may come again and again: then the next that is left.
            while draw > 64 && experts[first..].contains(&expert) {
                expert = (expert + 1) % ExpertId::try_from(sums.len()).unwrap_or(1);
            }
            if !experts[first..].contains(&expert) {
                experts.push(expert);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(experts: u16, top_k: u16) -> ModelLayout {
        ModelLayout {
            sub_layers: vec![SubLayerKind::Experts { experts, top_k }],
            vocabulary: 8,
            rows: 8,
            kv_blocks: 8,
            kv_block_tokens: 4,
            context_length: 32,
        }
    }

    #[test]
    fn shares_are_the_loads() {
        let layout = layout(4, 1);
        let loads = Gates::skewed(&layout, 3f64.ln(), 5);
        let of = loads.experts(0);
        let most = of.iter().fold(0.0f64, |a, b| a.max(*b));
        let least = of.iter().fold(f64::MAX, |a, b| a.min(*b));
        assert!((most / least - 3.0).abs() < 1e-9, "{of:?}");
        let gates = Gates::new(&layout, &loads, 9);
        let mut counts = [0.0; 4];
        for row in 0..20_000 {
            let mut experts = Vec::new();
            gates.choose(0, row, &mut experts);
            counts[usize::from(experts[0])] += 1.0;
        }
        let sum: f64 = of.iter().sum();
        for (count, load) in counts.iter().zip(of) {
            assert!((count / 20_000.0 - load / sum).abs() < 0.015, "{counts:?} for {of:?}");
        }
    }

    #[test]
    fn a_row_has_different_experts_and_always_the_same() {
        let layout = layout(4, 4);
        let gates = Gates::new(&layout, &Gates::skewed(&layout, 60.0, 1), 2);
        for row in 0..200 {
            let (mut once, mut again) = (Vec::new(), Vec::new());
            gates.choose(0, row, &mut once);
            gates.choose(0, row, &mut again);
            assert_eq!(once, again);
            once.sort_unstable();
            assert_eq!(once, [0, 1, 2, 3]);
        }
    }
}
