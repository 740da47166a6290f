use std::ops::Range;

use reprise_scheduler::Row;

/// Hidden states and what the experts of a token leave until they are joined.
#[derive(Debug)]
pub(super) struct Arena {
    hidden: usize,
    top_k: usize,
    /// [rows, hidden]
    states: Vec<f32>,
    /// What the experts see of a row, [rows, hidden].
    pub(super) normed: Vec<f32>,
    /// Of the chosen experts, [rows, top_k].
    pub(super) weights: Vec<f32>,
    /// The experts' results, [rows, top_k, hidden].
    pub(super) parts: Vec<f32>,
}

impl Arena {
    /// `top_k`: the largest of any sub-layer, 0 for a model without experts.
    pub(super) fn new(rows: usize, hidden: usize, top_k: usize) -> Self {
        let with_experts = if top_k > 0 { rows } else { 0 };
        Self {
            hidden,
            top_k,
            states: vec![0.0; rows * hidden],
            normed: vec![0.0; with_experts * hidden],
            weights: vec![0.0; rows * top_k],
            parts: vec![0.0; rows * top_k * hidden],
        }
    }

    /// What [`Self::bytes`] will be.
    pub(super) const fn predicted_bytes(rows: usize, hidden: usize, top_k: usize) -> usize {
        let with_experts = if top_k > 0 { rows } else { 0 };
        4 * (rows * hidden + with_experts * hidden + rows * top_k + rows * top_k * hidden)
    }

    pub(super) fn bytes(&self) -> usize {
        let numbers =
            [&self.states, &self.normed, &self.weights, &self.parts].map(|buffer| buffer.capacity());
        4 * numbers.iter().sum::<usize>()
    }

    pub(super) fn state_mut(&mut self, row: Row) -> &mut [f32] {
        let range = range(row, self.hidden);
        &mut self.states[range]
    }

    pub(super) fn normed(&self, row: Row) -> &[f32] {
        &self.normed[range(row, self.hidden)]
    }

    pub(super) fn set_normed(&mut self, row: Row, normed: &[f32]) {
        self.normed[range(row, self.hidden)].copy_from_slice(normed);
    }

    /// The weights of a row's first `top_k` experts.
    pub(super) fn weights_mut(&mut self, row: Row, top_k: usize) -> &mut [f32] {
        let start = row.0 as usize * self.top_k;
        &mut self.weights[start..start + top_k]
    }

    pub(super) fn part(&self, row: Row, slot: u16) -> &[f32] {
        let part = row.0 as usize * self.top_k + usize::from(slot);
        &self.parts[part * self.hidden..(part + 1) * self.hidden]
    }

    pub(super) fn part_mut(&mut self, row: Row, slot: u16) -> &mut [f32] {
        let part = row.0 as usize * self.top_k + usize::from(slot);
        &mut self.parts[part * self.hidden..(part + 1) * self.hidden]
    }

    /// Adds the weighted parts of a row to `sum`, slot 0 first.
    pub(super) fn add_parts(&self, row: Row, top_k: usize, sum: &mut [f32]) {
        for (weight, part) in self.weighted_parts(row, top_k) {
            for (sum, part) in sum.iter_mut().zip(part) {
                *sum += weight * part;
            }
        }
    }

    /// The same for weights that sum to 1, as `part_0 + sum of w_i (part_i - part_0)`: where parts are equal the sum is that part, bit
    /// for bit. So a mixture whose experts are copies (sparse upcycling) computes exactly what its dense model computes; with
    /// `sum of w_i part_i` a rounding of 1e-7 can move an activation over a step of its 8 bits, and logits by whole units.
    pub(super) fn add_mean_of_parts(&self, row: Row, top_k: usize, sum: &mut [f32]) {
        let mut parts = self.weighted_parts(row, top_k);
        let Some((_, first)) = parts.next() else { return };
        for (sum, first) in sum.iter_mut().zip(first) {
            *sum += first;
        }
        for (weight, part) in parts {
            for ((sum, first), part) in sum.iter_mut().zip(first).zip(part) {
                *sum += weight * (part - first);
            }
        }
    }

    fn weighted_parts(&self, row: Row, top_k: usize) -> impl Iterator<Item = (f32, &[f32])> {
        let first = row.0 as usize * self.top_k;
        (first..first + top_k)
            .map(|slot| (self.weights[slot], &self.parts[slot * self.hidden..(slot + 1) * self.hidden]))
    }

    /// Runs `work` on the states of `rows`, [rows, hidden]: in place if they lie side by side, else on a copy in `gathered`, which is
    /// written back.
    pub(super) fn with_states(
        &mut self,
        rows: impl Iterator<Item = Row> + Clone,
        gathered: &mut [f32],
        work: impl FnOnce(&mut [f32]),
    ) {
        let hidden = self.hidden;
        if let Some(range) = contiguous(rows.clone()) {
            return work(&mut self.states[range.start * hidden..range.end * hidden]);
        }
        let mut count = 0;
        for (row, copy) in rows.clone().zip(gathered.chunks_exact_mut(hidden)) {
            copy.copy_from_slice(&self.states[range(row, hidden)]);
            count += 1;
        }
        let gathered = &mut gathered[..count * hidden];
        work(gathered);
        for (row, copy) in rows.zip(gathered.chunks_exact(hidden)) {
            self.states[range(row, hidden)].copy_from_slice(copy);
        }
    }
}

/// Where the rows lie if each follows the one before.
pub(super) fn contiguous(mut rows: impl Iterator<Item = Row>) -> Option<Range<usize>> {
    let first = rows.next().map_or(0, |row| row.0 as usize + 1);
    let mut end = first;
    for row in rows {
        if row.0 as usize != end {
            return None;
        }
        end += 1;
    }
    Some(first.saturating_sub(1)..end)
}

fn range(row: Row, width: usize) -> Range<usize> {
    let start = row.0 as usize * width;
    start..start + width
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(rows: &[u32]) -> Option<Range<usize>> {
        contiguous(rows.iter().map(|row| Row(*row)))
    }

    #[test]
    fn only_rows_in_order_lie_side_by_side() {
        assert_eq!(place(&[]), Some(0..0));
        assert_eq!(place(&[0]), Some(0..1));
        assert_eq!(place(&[7]), Some(7..8));
        assert_eq!(place(&[3, 4, 5]), Some(3..6));
        for apart in [&[3, 5][..], &[4, 3], &[0, 1, 3], &[2, 2]] {
            assert_eq!(place(apart), None, "{apart:?}");
        }
    }

    #[test]
    fn gathered_states_are_written_back() {
        let mut arena = Arena::new(4, 2, 0);
        for row in 0..4 {
            arena.state_mut(Row(row)).fill(row as f32);
        }
        let mut gathered = [0.0; 8];
        let mut seen = Vec::new();
        for rows in [&[3, 1][..], &[1, 2]] {
            arena.with_states(rows.iter().map(|row| Row(*row)), &mut gathered, |states| {
                seen.extend_from_slice(states);
                states.iter_mut().for_each(|state| *state += 10.0);
            });
        }
        assert_eq!(seen, [3.0, 3.0, 1.0, 1.0, 11.0, 11.0, 2.0, 2.0]);
        assert_eq!([0, 1, 2, 3].map(|row| arena.state_mut(Row(row))[0]), [0.0, 21.0, 12.0, 13.0]);
    }
}
