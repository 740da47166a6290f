/// What the weights of the chosen experts are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GateWeights {
    /// Their probabilities among all experts (`norm_topk_prob = false`: OLMoE, Qwen2-MoE).
    OfAll,
    /// Their probabilities scaled to the sum 1, which is the softmax over the chosen alone (Mixtral, Qwen3-MoE with
    /// `norm_topk_prob = true`).
    OfChosen,
}

/// The `top_k` experts of each row and their weights, largest logit first, ties to the lower index.
///
/// `logits` is `[rows, experts]`; `chosen` and `weights` are `[rows, top_k]`. A logit that is not a number counts as
/// the smallest.
///
/// # Panics
/// The lengths do not fit each other, or `top_k` is not in `1..=experts`, or there are more than 65,536 experts.
pub fn softmax_top_k(
    logits: &[f32],
    experts: usize,
    top_k: usize,
    kind: GateWeights,
    chosen: &mut [u16],
    weights: &mut [f32],
) {
    assert!((1..=experts).contains(&top_k) && experts <= 1 << 16, "{top_k} of {experts} experts");
    assert!(logits.len().is_multiple_of(experts), "{} logits of {experts} experts", logits.len());
    let rows = logits.len() / experts;
    assert!(chosen.len() == rows * top_k && weights.len() == rows * top_k, "not {rows} rows of {top_k}");
    let parts = chosen.chunks_exact_mut(top_k).zip(weights.chunks_exact_mut(top_k));
    for (logits, (chosen, weights)) in logits.chunks_exact(experts).zip(parts) {
        choose(logits, chosen, weights);
        // After `choose` the weights are the logits, the largest first.
        let largest = weights[0];
        let total: f32 = match kind {
            GateWeights::OfAll => logits.iter().map(|logit| (number(*logit) - largest).exp()).sum(),
            GateWeights::OfChosen => weights.iter().map(|logit| (logit - largest).exp()).sum(),
        };
        for weight in weights {
            *weight = (*weight - largest).exp() / total;
        }
    }
}

fn number(logit: f32) -> f32 {
    if logit.is_nan() { f32::MIN } else { logit.clamp(f32::MIN, f32::MAX) }
}

/// Insertion into the list of the best: `top_k` is 2 to 8 in practice.
fn choose(logits: &[f32], chosen: &mut [u16], best: &mut [f32]) {
    let mut filled = 0;
    for (expert, logit) in (0_u16..).zip(logits) {
        let logit = number(*logit);
        let Some(mut place) = (if filled < best.len() {
            filled += 1;
            Some(filled - 1)
        } else {
            (logit > best[filled - 1]).then_some(filled - 1)
        }) else {
            continue;
        };
        while place > 0 && logit > best[place - 1] {
            best[place] = best[place - 1];
            chosen[place] = chosen[place - 1];
            place -= 1;
        }
        best[place] = logit;
        chosen[place] = expert;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(logits: &[f32], experts: usize, top_k: usize, kind: GateWeights) -> (Vec<u16>, Vec<f32>) {
        let rows = logits.len() / experts;
        let (mut chosen, mut weights) = (vec![u16::MAX; rows * top_k], vec![f32::NAN; rows * top_k]);
        softmax_top_k(logits, experts, top_k, kind, &mut chosen, &mut weights);
        (chosen, weights)
    }

    #[test]
    fn ties_go_to_the_lower_index() {
        let (chosen, weights) = run(&[1.0, 3.0, 3.0, 1.0, 3.0], 5, 4, GateWeights::OfChosen);
        assert_eq!(chosen, [1, 2, 4, 0]);
        assert_eq!(weights[0].to_bits(), weights[2].to_bits());
    }

    #[test]
    fn what_is_not_a_number_comes_last() {
        let (chosen, weights) = run(&[f32::NAN, f32::NEG_INFINITY, -5.0, 0.0], 4, 3, GateWeights::OfAll);
        assert_eq!(chosen, [3, 2, 0]);
        assert!((weights.iter().sum::<f32>() - 1.0).abs() < 1e-6, "{weights:?}");
        assert_eq!(run(&[f32::NAN; 4], 4, 2, GateWeights::OfAll).1, [0.25, 0.25]);
    }

    proptest! {
        #[test]
        fn it_is_a_sort_and_a_softmax(
            logits in prop::collection::vec((-8_i8..8).prop_map(f32::from), 2 * 9),
            top_k in 1_usize..=9,
        ) {
            let (chosen, of_all) = run(&logits, 9, top_k, GateWeights::OfAll);
            let (same, of_chosen) = run(&logits, 9, top_k, GateWeights::OfChosen);
            prop_assert_eq!(&chosen, &same);
            for (row, logits) in logits.chunks(9).enumerate() {
                let range = row * top_k..(row + 1) * top_k;
                let mut order: Vec<u16> = (0..9).collect();
                order.sort_by(|a, b| logits[usize::from(*b)].total_cmp(&logits[usize::from(*a)]));
                prop_assert_eq!(&chosen[range.clone()], &order[..top_k]);
                let part = |expert: &u16| f64::from(logits[usize::from(*expert)]).exp();
                let all: f64 = order.iter().map(part).sum();
                let top: f64 = order[..top_k].iter().map(part).sum();
                for (slot, expert) in range.zip(&order) {
                    prop_assert!((f64::from(of_all[slot]) - part(expert) / all).abs() < 1e-6);
                    prop_assert!((f64::from(of_chosen[slot]) - part(expert) / top).abs() < 1e-6);
                }
            }
        }
    }
}
