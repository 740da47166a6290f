use super::{BLOCK_TOKENS, PARTITION, Query};

/// Most (row, head) pairs of a tile.
pub const MAX_PAIRS: usize = 8;

/// Query heads that read the keys and values of one KV head together: pairs of a row and one of the heads that share the
/// KV head. Rows are neighbours of one sequence, so their visible tokens differ by a few at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tile<'a> {
    pub pairs: Vec<Pair>,
    /// Those of the row that sees most.
    pub blocks: &'a [u32],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pair {
    pub row: usize,
    /// Index among the heads that share a KV head.
    pub head: usize,
    /// Visible tokens, at least 1; they ascend within a tile.
    pub tokens: usize,
}

impl Tile<'_> {
    pub fn tokens(&self) -> usize {
        self.pairs.last().map_or(0, |pair| pair.tokens)
    }

    pub fn partitions(&self) -> usize {
        self.tokens().div_ceil(PARTITION)
    }
}

/// Cuts the rows into tiles of at most `most` pairs.
pub fn tiles<'a>(queries: &[Query<'a>], group: usize, most: usize) -> Vec<Tile<'a>> {
    let mut tiles = Vec::new();
    let mut begin = 0;
    for end in 1..=queries.len() {
        if end < queries.len() && follows(&queries[end - 1], &queries[end]) {
            continue;
        }
        let pairs: Vec<Pair> = (begin..end)
            .flat_map(|row| {
                let tokens = queries[row].position as usize + 1;
                (0..group).map(move |head| Pair { row, head, tokens })
            })
            .collect();
        tiles.extend(pairs.chunks(most).map(|pairs| Tile {
            pairs: pairs.to_vec(),
            blocks: pairs.last().map_or(&[], |pair| queries[pair.row].blocks),
        }));
        begin = end;
    }
    tiles
}

/// Whether `next` sees what `query` sees, and at most one token more.
fn follows(query: &Query<'_>, next: &Query<'_>) -> bool {
    let blocks = query.position as usize / BLOCK_TOKENS + 1;
    next.position.checked_sub(query.position).is_some_and(|more| more <= 1)
        && query.blocks[..blocks] == next.blocks[..blocks]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_of_one_sequence_share_tiles_and_others_do_not() {
        let (one, other) = ([3, 4], [7, 8]);
        let query = |position, blocks| Query { position, blocks };
        // A decode row, three rows of a prompt over the border of a block, a row of the same prompt further on.
        let queries = [
            query(5, &other[..]),
            query(31, &one[..1]),
            query(32, &one[..]),
            query(33, &one[..]),
            query(40, &one[..]),
        ];
        let tiles = tiles(&queries, 2, 4);
        let rows = |tile: &Tile<'_>| tile.pairs.iter().map(|pair| (pair.row, pair.head)).collect::<Vec<_>>();
        assert_eq!(
            tiles.iter().map(rows).collect::<Vec<_>>(),
            [
                vec![(0, 0), (0, 1)],
                vec![(1, 0), (1, 1), (2, 0), (2, 1)],
                vec![(3, 0), (3, 1)],
                vec![(4, 0), (4, 1)]
            ]
        );
        assert_eq!(tiles[1].tokens(), 33);
        assert_eq!(tiles[1].blocks, one);
    }
}
