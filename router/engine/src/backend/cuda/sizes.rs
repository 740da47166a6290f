use reprise_cuda::CHUNK_TOKENS;

/// The largest tick that is recorded.
const MOST_RECORDED: usize = 256;

/// What the launches of a tick depend on, besides what they read on the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct StepSizes {
    /// Tokens, padding included.
    pub(super) rows: usize,
    /// Of them, from the first, those whose chunks of context are computed side by side.
    pub(super) alone: usize,
    /// Tiles of the others.
    pub(super) tiles: usize,
    /// Chunks of the longest context of those alone, at most.
    pub(super) chunks: usize,
    /// Rows whose logits are wanted, padding included.
    pub(super) heads: usize,
}

impl StepSizes {
    /// For a tick of `rows` tokens that all stand alone and want their logits: rounded up, so that few sizes are recorded. `None`: it is too
    /// large for that.
    pub(super) fn recorded(
        rows: usize,
        longest: usize,
        most_rows: usize,
        most_chunks: usize,
    ) -> Option<Self> {
        let rounded = rows.next_power_of_two();
        let rows = if rounded <= most_rows { rounded } else { most_rows };
        if rows > MOST_RECORDED {
            return None;
        }
        let chunks = longest.div_ceil(CHUNK_TOKENS).next_power_of_two().clamp(4, most_chunks.max(4));
        Some(Self { rows, alone: rows, tiles: 0, chunks, heads: rows })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_rounded_up_to_few() {
        let sizes = |rows, longest| StepSizes::recorded(rows, longest, 100, 128);
        assert_eq!(sizes(3, 100), Some(StepSizes { rows: 4, alone: 4, tiles: 0, chunks: 4, heads: 4 }));
        assert_eq!(sizes(70, 1000).map(|sizes| (sizes.rows, sizes.chunks)), Some((100, 16)));
        assert_eq!(StepSizes::recorded(257, 9, 2048, 128), None);
        assert_eq!(sizes(1, 8192).map(|sizes| sizes.chunks), Some(128));
        assert_eq!(
            StepSizes::recorded(1, 100, 8, 2).map(|sizes| sizes.chunks),
            Some(4),
            "as wide as a block of warps"
        );
    }
}
