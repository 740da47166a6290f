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
    /// If it is still in its grace: its age in milliseconds.
    pub newcomer: Option<i64>,
}

/// For each item, whether it stays. Newcomers stay first ([`protected`]); what is left of the budget is the knapsack's.
#[must_use]
pub fn keep(items: &[Item], budget: usize, grace_bytes: usize) -> Vec<bool> {
    let mut kept = protected(items, grace_bytes.min(budget));
    let taken: usize = items.iter().zip(&kept).filter(|(_, kept)| **kept).map(|(item, _)| item.bytes).sum();
    fill(items, budget - taken, &mut kept);
    kept
}

/// For each item, whether it is a newcomer that stays whatever its value: the newest before the others, as far as so many
/// bytes hold them.
#[must_use]
pub fn protected(items: &[Item], grace_bytes: usize) -> Vec<bool> {
    let mut protected = vec![false; items.len()];
    let mut room = grace_bytes;
    let mut newcomers: Vec<(i64, usize)> =
        items.iter().enumerate().filter_map(|(i, item)| Some((item.newcomer?, i))).collect();
    newcomers.sort_unstable();
    for (_, i) in newcomers {
        if items[i].bytes <= room {
            protected[i] = true;
            room -= items[i].bytes;
        }
    }
    protected
}

/// Greedy by density over what is not kept yet.
fn fill(items: &[Item], budget: usize, kept: &mut [bool]) {
    let mut order: Vec<usize> = (0..items.len()).filter(|i| !kept[*i]).collect();
    let single = order
        .iter()
        .copied()
        .filter(|i| items[*i].bytes <= budget)
        .max_by(|a, b| items[*a].value.total_cmp(&items[*b].value));
    let density = |i: usize| items[i].value / items[i].bytes.max(1) as f64;
    order.sort_by(|a, b| density(*b).total_cmp(&density(*a)));
    let (mut taken, mut bytes, mut value) = (Vec::new(), 0_usize, 0.0);
    for i in order {
        if bytes.saturating_add(items[i].bytes) <= budget {
            taken.push(i);
            bytes += items[i].bytes;
            value += items[i].value;
        }
    }
    match single {
        Some(single) if items[single].value > value => kept[single] = true,
        _ => taken.into_iter().for_each(|i| kept[i] = true),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn item(value: f64, bytes: usize) -> Item {
        Item { value, bytes, newcomer: None }
    }

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
        let items = [item(2.0, 1), item(100.0, 100)];
        assert_eq!(keep(&items, 100, 0), [false, true]);
    }

    #[test]
    fn newcomers_stay_within_their_share_the_newest_first() {
        let new = |age| Item { newcomer: Some(age), ..item(0.1, 10) };
        let items = [item(9.0, 50), item(8.0, 50), new(30), new(10), new(20)];
        assert_eq!(keep(&items, 75, 20), [true, false, false, true, true]);
        assert_eq!(keep(&items, 100, 0), [true, true, false, false, false]);
    }

    #[test]
    fn with_items_of_examples_sizes_it_is_within_one_percent() {
        let mut state = 7_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as f64 / f64::from(1_u32 << 31)
        };
        let items: Vec<Item> = (0..300).map(|_| item(next() * 5.0, 30 + (next() * 100.0) as usize)).collect();
        let (value, _) = worth(&items, &keep(&items, 6000, 0));
        assert!(value >= 0.99 * optimum(&items, 6000));
    }

    proptest! {
        #[test]
        fn under_budget_and_at_least_half_the_optimum(
            items in prop::collection::vec((0.0_f64..10.0, 1_usize..60), 0..14),
            budget in 0_usize..200,
        ) {
            let items: Vec<Item> = items.into_iter().map(|(value, bytes)| item(value, bytes)).collect();
            let (value, bytes) = worth(&items, &keep(&items, budget, 0));
            prop_assert!(bytes <= budget);
            prop_assert!(value >= 0.5 * optimum(&items, budget) - 1e-9);
        }

        #[test]
        fn newcomers_never_break_the_budget(
            items in prop::collection::vec((0.0_f64..10.0, 1_usize..60, prop::option::of(0_i64..100)), 0..20),
            budget in 0_usize..300,
            grace in 0_usize..400,
        ) {
            let items: Vec<Item> =
                items.into_iter().map(|(value, bytes, newcomer)| Item { value, bytes, newcomer }).collect();
            let (_, bytes) = worth(&items, &keep(&items, budget, grace));
            prop_assert!(bytes <= budget);
        }
    }
}
