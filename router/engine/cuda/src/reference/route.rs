/// The `top_k` experts of a row, largest logit first, of equal ones the lower; and their weights.
#[must_use]
pub fn choose(logits: &[f32], top_k: usize, renormalise: bool) -> (Vec<u32>, Vec<f64>) {
    let mut order: Vec<usize> = (0..logits.len()).collect();
    // -0 + 0 is 0: the two are equal.
    let key = |expert: usize| logits[expert] + 0.0;
    order.sort_by(|a, b| key(*b).total_cmp(&key(*a)).then(a.cmp(b)));
    order.truncate(top_k);
    let top = f64::from(logits[order[0]]);
    let weight = |expert: usize| (f64::from(logits[expert]) - top).exp();
    let mass: f64 = if renormalise {
        order.iter().map(|e| weight(*e)).sum()
    } else {
        (0..logits.len()).map(weight).sum()
    };
    let weights = order.iter().map(|expert| weight(*expert) / mass).collect();
    (order.into_iter().map(|expert| expert as u32).collect(), weights)
}

/// Where each expert's parts begin and end, in order of experts: [experts + 1].
#[must_use]
pub fn group(chosen: &[u32], experts: usize) -> Vec<usize> {
    let mut bounds = vec![0; experts + 1];
    for expert in chosen {
        bounds[*expert as usize + 1] += 1;
    }
    for expert in 0..experts {
        bounds[expert + 1] += bounds[expert];
    }
    bounds
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng, rngs::SmallRng};
    use reprise_kernels::activation::{GateWeights, softmax_top_k};

    use super::*;

    #[test]
    fn choices_are_those_of_the_cpu() {
        let mut random = SmallRng::seed_from_u64(4);
        for (kind, renormalise) in [(GateWeights::OfChosen, true), (GateWeights::OfAll, false)] {
            // Steps of a quarter: some are equal.
            let logits: Vec<f32> = (0..64).map(|_| f32::from(random.random_range(-20i8..20)) / 4.0).collect();
            let (mut expected, mut weights) = (vec![0u16; 8], vec![0.0; 8]);
            softmax_top_k(&logits, 64, 8, kind, &mut expected, &mut weights);
            let (chosen, found) = choose(&logits, 8, renormalise);
            assert_eq!(chosen, expected.iter().map(|e| u32::from(*e)).collect::<Vec<_>>());
            assert!(found.iter().zip(&weights).all(|(a, b)| (a - f64::from(*b)).abs() < 1e-6));
        }
    }

    #[test]
    fn groups_hold_all_parts() {
        assert_eq!(group(&[2, 0, 2, 3], 5), [0, 1, 1, 3, 4, 4]);
    }
}
