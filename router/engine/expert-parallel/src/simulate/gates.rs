use reprise_scheduler::{ExpertId, ModelLayout, SubLayerId, SubLayerKind, placement::Loads};

use crate::unit::{key, mix, unit};

/// How often weights are fitted to the shares that they lead to, over so many rows each.
const FITS: usize = 8;
const FIT_ROWS: u64 = 4096;

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

    /// Gates by which each expert gets the share of a sub-layer's parts that it has of `loads`. Drawn by the loads themselves the most loaded would get less: a
    /// row has each expert once. An expert of every row cannot get more.
    #[must_use]
    pub fn with_shares(layout: &ModelLayout, loads: &Loads, seed: u64) -> Self {
        let mut gates = Self::new(layout, loads, seed);
        let mut weights = loads.clone();
        for _ in 0..FITS {
            let drawn = gates.draw(layout);
            weights = Loads::with(layout, |at, expert, _| {
                let times = if gates.top_k[at] > 1 {
                    share(loads, at, expert) / share(&drawn, at, expert)
                } else {
                    1.0
                };
                weights.experts(at)[usize::from(expert)] * times
            });
            gates = Self::new(layout, &weights, seed);
        }
        gates
    }

    /// Of some rows; none has no parts.
    fn draw(&self, layout: &ModelLayout) -> Loads {
        let mut drawn = Loads::with(layout, |_, _, _| 0.5);
        let mut experts = Vec::new();
        for (at, _) in self.sums.iter().enumerate().filter(|(at, _)| self.top_k[*at] > 1) {
            for row in 0..FIT_ROWS {
                experts.clear();
                self.choose(at, row, &mut experts);
                experts.iter().for_each(|expert| drawn.count(at, *expert, 1.0));
            }
        }
        drawn
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

/// Of a sub-layer's parts.
fn share(loads: &Loads, sub_layer: SubLayerId, expert: ExpertId) -> f64 {
    let of = loads.experts(sub_layer);
    of[usize::from(expert)] / of.iter().sum::<f64>().max(f64::MIN_POSITIVE)
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
    fn shares_are_those_that_were_wanted_where_a_row_has_several() {
        let layout = layout(4, 2);
        // The first in nine rows of ten; drawn by these loads it would be in seven of ten.
        let wanted = [0.45, 0.25, 0.2, 0.1];
        let loads = Loads::with(&layout, |_, expert, _| 1000.0 * wanted[usize::from(expert)]);
        let shares = |gates: &Gates| {
            let mut counts = [0.0; 4];
            for row in 50_000..70_000 {
                let mut experts = Vec::new();
                gates.choose(0, row, &mut experts);
                experts.iter().for_each(|expert| counts[usize::from(*expert)] += 1.0 / 40_000.0);
            }
            counts
        };
        let beyond = |found: [f64; 4]| {
            found.iter().zip(wanted).map(|(found, wanted)| (found - wanted).abs()).fold(0.0, f64::max)
        };
        assert!(beyond(shares(&Gates::new(&layout, &loads, 3))) > 0.05);
        let found = shares(&Gates::with_shares(&layout, &loads, 3));
        assert!(beyond(found) < 0.02, "{found:?}");
        // Each once, whatever is wanted; and those by loads where a row has one.
        let all = Loads::with(&layout, |_, expert, _| if expert == 2 { 1.0 } else { 0.0 });
        let mut experts = Vec::new();
        Gates::with_shares(&layout, &all, 3).choose(0, 7, &mut experts);
        assert!(experts.len() == 2 && experts[0] != experts[1] && experts.contains(&2), "{experts:?}");
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
