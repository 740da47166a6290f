use std::sync::Arc;

use reprise_cuda::{BLOCK_TOKENS, Buffer, CudaError, Device, Pinned, View, ops::PrefillTile};
use reprise_scheduler::{BlockId, ModelLayout};

use super::CudaOptions;

/// What the device must know of the tokens of a tick, at fixed places, so that recorded launches find it.
#[derive(Debug)]
pub(super) struct Inputs {
    /// Tokens, positions, starts of tables (`rows` each), rows whose logits are wanted (`sequences`), count of rows (1), tables.
    host: Pinned<u32>,
    here: Buffer<u32>,
    tiles_host: Pinned<[u32; 4]>,
    tiles_here: Buffer<[u32; 4]>,
    rows: usize,
    sequences: usize,
    heads_per_kv_head: usize,
}

/// A token and where its KV lies.
#[derive(Debug, Clone, Copy)]
pub(super) struct Placed<'a> {
    pub(super) token: u32,
    pub(super) position: u32,
    pub(super) blocks: &'a [BlockId],
}

/// What was found of a tick's tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Tokens from the first on that have no other of their sequence beside them.
    pub(super) alone: usize,
    /// Tiles of the others.
    pub(super) tiles: usize,
    /// Tokens of the longest context of those alone.
    pub(super) longest: usize,
    tables: usize,
}

impl Inputs {
    pub(super) fn new(
        device: &Arc<Device>,
        layout: &ModelLayout,
        options: &CudaOptions,
        heads_per_kv_head: usize,
    ) -> Result<Self, CudaError> {
        let (rows, sequences) = (options.rows, options.sequences);
        // One table for each sequence; a tick never has rows of more.
        let tables = sequences * layout.context_length.div_ceil(BLOCK_TOKENS);
        let len = 3 * rows + sequences + 1 + tables;
        Ok(Self {
            host: Pinned::new(device, len)?,
            here: Buffer::new(device, len)?,
            tiles_host: Pinned::new(device, rows)?,
            tiles_here: Buffer::new(device, rows)?,
            rows,
            sequences,
            heads_per_kv_head,
        })
    }

    /// Writes a tick, `padded` rows of it; those behind the real ones are of no sequence. `heads`: rows whose logits are wanted.
    pub(super) fn fill(
        &mut self,
        device: &Device,
        tokens: &[Placed<'_>],
        padded: usize,
        heads: impl Iterator<Item = usize>,
    ) -> Result<Found, CudaError> {
        let Self { rows, sequences, .. } = *self;
        let wrong = |what: &str| CudaError::Shape(format!("a tick of {} tokens: {what}", tokens.len()));
        if tokens.len() > padded || padded > rows {
            return Err(wrong("more than there is room for"));
        }
        let tables_at = 3 * rows + sequences + 1;
        let mut found =
            find(tokens, PrefillTile::most(self.heads_per_kv_head), self.tiles_host.as_mut_slice());
        let host = self.host.as_mut_slice();
        let (fixed, tables) = host.split_at_mut(tables_at);
        let (of_rows, others) = fixed.split_at_mut(3 * rows);
        for i in 0..padded {
            let Some(token) = tokens.get(i) else {
                (of_rows[i], of_rows[rows + i], of_rows[2 * rows + i]) = (0, u32::MAX, 0);
                continue;
            };
            let same = i > 0 && std::ptr::eq(tokens[i - 1].blocks, token.blocks);
            if !same {
                let end = found.tables + token.blocks.len();
                let place = tables.get_mut(found.tables..end).ok_or_else(|| wrong("tables too long"))?;
                place.iter_mut().zip(token.blocks).for_each(|(place, block)| *place = block.0);
            }
            let begin = if same { of_rows[2 * rows + i - 1] as usize } else { found.tables };
            found.tables = found.tables.max(begin + token.blocks.len());
            (of_rows[i], of_rows[rows + i]) = (token.token, token.position);
            of_rows[2 * rows + i] = u32::try_from(begin).unwrap_or(u32::MAX);
        }
        let mut wanted = others[..sequences].iter_mut();
        for row in heads {
            let place = wanted.next().ok_or_else(|| wrong("more logits than sequences"))?;
            *place = u32::try_from(row).unwrap_or(u32::MAX);
        }
        others[sequences] = u32::try_from(tokens.len()).unwrap_or(u32::MAX);
        self.here.view().upload_pinned(device, &self.host, tables_at + found.tables)?;
        if found.tiles > 0 {
            self.tiles_here.view().upload_pinned(device, &self.tiles_host, found.tiles)?;
        }
        Ok(found)
    }

    pub(super) fn tokens(&self) -> Result<View<'_, u32>, CudaError> {
        self.here.range(0..self.rows)
    }

    pub(super) fn positions(&self) -> Result<View<'_, i32>, CudaError> {
        self.here.range(self.rows..2 * self.rows)?.cast()
    }

    pub(super) fn table_of(&self) -> Result<View<'_, u32>, CudaError> {
        self.here.range(2 * self.rows..3 * self.rows)
    }

    pub(super) fn heads(&self) -> Result<View<'_, u32>, CudaError> {
        self.here.range(3 * self.rows..3 * self.rows + self.sequences)
    }

    pub(super) fn count(&self) -> Result<View<'_, u32>, CudaError> {
        let at = 3 * self.rows + self.sequences;
        self.here.range(at..at + 1)
    }

    pub(super) fn tables(&self) -> Result<View<'_, u32>, CudaError> {
        self.here.range(3 * self.rows + self.sequences + 1..self.here.len())
    }

    pub(super) const fn tiles(&self) -> View<'_, [u32; 4]> {
        self.tiles_here.view()
    }
}

/// Tokens that follow each other in one sequence are computed together, `most` to a tile.
fn find(tokens: &[Placed<'_>], most: usize, tiles: &mut [[u32; 4]]) -> Found {
    let mut found = Found::default();
    let mut places = tiles.iter_mut();
    let mut first = 0;
    let follows = |a: &Placed<'_>, b: &Placed<'_>| {
        std::ptr::eq(a.blocks, b.blocks) && a.position.wrapping_add(1) == b.position
    };
    for run in tokens.chunk_by(follows) {
        if run.len() == 1 && found.alone == first {
            found.alone += 1;
            found.longest = found.longest.max(run[0].position as usize + 1);
        } else {
            for begin in (0..run.len()).step_by(most) {
                let count = most.min(run.len() - begin);
                let small = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
                if let Some(place) = places.next() {
                    *place = PrefillTile { first: small(first + begin), count: small(count) }.raw();
                    found.tiles += 1;
                }
            }
        }
        first += run.len();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_alone_come_first_and_runs_are_cut_into_tiles() {
        let blocks: Vec<Vec<BlockId>> = (0..4).map(|i| vec![BlockId(i)]).collect();
        let token = |sequence: usize, position| Placed { token: 0, position, blocks: &blocks[sequence] };
        let tokens = [
            token(0, 40),
            token(1, 7),
            token(2, 0),
            token(2, 1),
            token(2, 2),
            token(2, 3),
            token(2, 4),
            token(3, 9),
        ];
        let mut tiles = [[9; 4]; 8];
        let found = find(&tokens, 2, &mut tiles);
        assert_eq!(found, Found { alone: 2, tiles: 4, longest: 41, tables: 0 });
        assert_eq!(tiles[..4], [[2, 2, 0, 0], [4, 2, 0, 0], [6, 1, 0, 0], [7, 1, 0, 0]]);
    }
}
