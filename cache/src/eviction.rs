//! What stays under the byte budget: a 0/1 knapsack of value under weight.
//!
//! Greedy by density (value / bytes), or the single most valuable item if that is worth more: at least half the optimum
//! (Dantzig 1957; Kellerer, Pferschy, Pisinger, "Knapsack Problems", 2004, section 2.1). With items that are tiny beside
//! the budget, as examples are, it is within one item of it; the tests compare it with the exact dynamic program.

/// Something that could be kept.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Item {
    /// At least 0.
    pub value: f64,
    pub bytes: usize,
}

/// For each item, whether it stays.
#[must_use]
pub fn keep(items: &[Item], budget: usize) -> Vec<bool> {
    let mut order: Vec<usize> = (0..items.len()).collect();
    let density = |i: usize| items[i].value / items[i].bytes.max(1) as f64;
    order.sort_by(|a, b| density(*b).total_cmp(&density(*a)));
    let mut kept = vec![false; items.len()];
    let (mut bytes, mut value) = (0_usize, 0.0);
    for i in order {
        if bytes.saturating_add(items[i].bytes) <= budget {
            kept[i] = true;
            bytes += items[i].bytes;
            value += items[i].value;
        }
    }
    let single = (0..items.len())
        .filter(|i| items[*i].bytes <= budget)
        .max_by(|a, b| items[*a].value.total_cmp(&items[*b].value));
    if let Some(single) = single
        && items[single].value > value
    {
        kept.fill(false);
        kept[single] = true;
    }
    kept
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn worth(items: &[Item], kept: &[bool]) -> (f64, usize) {
        items
            .iter()
            .zip(kept)
            .filter(|(_, kept)| **kept)
            .fold((0.0, 0), |(value, bytes), (item, _)| (value + item.value, bytes + item.bytes))
    }

    fn optimum(items: &[Item], budget: usize) -> f64 {
        let mut best = vec![0.0_f64; budget + 1];
        for item in items {
            for room in (item.bytes..=budget).rev() {
                best[room] = best[room].max(best[room - item.bytes] + item.value);
            }
        }
        best[budget]
    }

    #[test]
    fn a_great_item_beats_many_dense_ones() {
        let items = [Item { value: 2.0, bytes: 1 }, Item { value: 100.0, bytes: 100 }];
        assert_eq!(keep(&items, 100), [false, true]);
    }

    #[test]
    fn with_items_of_examples_sizes_it_is_within_one_percent() {
        let mut state = 7_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as f64 / f64::from(1_u32 << 31)
        };
        let items: Vec<Item> =
            (0..300).map(|_| Item { value: next() * 5.0, bytes: 30 + (next() * 100.0) as usize }).collect();
        let (value, _) = worth(&items, &keep(&items, 6000));
        assert!(value >= 0.99 * optimum(&items, 6000));
    }

    proptest! {
        #[test]
        fn under_budget_and_at_least_half_the_optimum(
            items in prop::collection::vec((0.0_f64..10.0, 1_usize..60), 0..14),
            budget in 0_usize..200,
        ) {
            let items: Vec<Item> = items.into_iter().map(|(value, bytes)| Item { value, bytes }).collect();
            let (value, bytes) = worth(&items, &keep(&items, budget));
            prop_assert!(bytes <= budget);
            prop_assert!(value >= 0.5 * optimum(&items, budget) - 1e-9);
        }
    }
}
