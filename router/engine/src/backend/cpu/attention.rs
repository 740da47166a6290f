use reprise_kernels::{
    attention::{BLOCK_TOKENS, KvCache, Query, attend},
    matrix::{Input, Matrix, multiply_add},
    norm::rms_norm,
    pool::Pool,
    rope::Rotary,
};
use reprise_scheduler::AttentionRow;

use super::products::fill_and_multiply;
use crate::graph::{Attention, Sizes};

/// What an attention writes between its products.
#[derive(Debug)]
pub(super) struct Buffers {
    /// [rows, heads * head_dim]
    pub(super) q: Vec<f32>,
    /// [rows, kv_heads * head_dim]
    pub(super) k: Vec<f32>,
    pub(super) v: Vec<f32>,
    /// [rows, heads * head_dim]; normed queries and keys before it is used for the heads' results.
    pub(super) heads: Vec<f32>,
    positions: Vec<u32>,
    queries: QueryTable,
}

impl Buffers {
    pub(super) fn new(rows: usize, sizes: &Sizes) -> Self {
        Self {
            q: vec![0.0; rows * sizes.q_width()],
            k: vec![0.0; rows * sizes.kv_width()],
            v: vec![0.0; rows * sizes.kv_width()],
            heads: vec![0.0; rows * sizes.q_width()],
            positions: Vec::with_capacity(rows),
            queries: QueryTable::default(),
        }
    }
}

/// One attention sub-layer.
pub(super) struct Run<'a> {
    pub(super) pool: &'a Pool,
    pub(super) sizes: &'a Sizes,
    pub(super) rotary: &'a Rotary,
    pub(super) layer: &'a Attention<Matrix, Vec<f32>>,
    pub(super) kv_layer: usize,
}

impl Run<'_> {
    /// `states`: [rows, hidden].
    pub(super) fn run(
        &self,
        rows: &[AttentionRow<'_>],
        states: &mut [f32],
        kv: &mut KvCache,
        buffers: &mut Buffers,
        input: &mut Input,
        normed: &mut [f32],
    ) {
        let Self { pool, sizes, layer, .. } = self;
        let (q_width, kv_width) = (sizes.q_width(), sizes.kv_width());
        let normed = &mut normed[..states.len()];
        rms_norm(pool, states, &layer.norm, sizes.norm_eps, normed);

        let q = &mut buffers.q[..rows.len() * q_width];
        let k = &mut buffers.k[..rows.len() * kv_width];
        let v = &mut buffers.v[..rows.len() * kv_width];
        fill_and_multiply(
            pool,
            input,
            normed,
            &mut [(&layer.q, &mut *q), (&layer.k, &mut *k), (&layer.v, &mut *v)],
        );
        if let Some(norm) = &layer.qk_norm {
            for (x, weight) in [(&mut *q, &norm.q), (&mut *k, &norm.k)] {
                let normed = &mut buffers.heads[..x.len()];
                rms_norm(pool, x, weight, sizes.norm_eps, normed);
                x.copy_from_slice(normed);
            }
        }
        buffers.positions.clear();
        buffers.positions.extend(rows.iter().map(|row| row.position));
        self.rotary.turn_rows(pool, &buffers.positions, q, sizes.head_dim);
        self.rotary.turn_rows(pool, &buffers.positions, k, sizes.head_dim);
        for ((row, k), v) in rows.iter().zip(k.chunks_exact(kv_width)).zip(v.chunks_exact(kv_width)) {
            let position = row.position as usize;
            let block = row.blocks[position / BLOCK_TOKENS];
            kv.append(self.kv_layer, block.0, position % BLOCK_TOKENS, k, v);
        }

        let heads = &mut buffers.heads[..rows.len() * q_width];
        let scale = (sizes.head_dim as f32).sqrt().recip();
        buffers.queries.with(rows, |queries| {
            attend(pool, kv, self.kv_layer, q, queries, sizes.heads, scale, heads);
        });
        input.fill(pool, layer.output.input_form(), heads, q_width);
        multiply_add(pool, input, &layer.output, states);
    }
}

/// Block tables in the form that the kernel takes.
#[derive(Debug, Default)]
struct QueryTable {
    blocks: Vec<u32>,
    /// Of each row, the start and length of its table in `blocks`.
    tables: Vec<(usize, usize)>,
    /// Empty between calls: its memory is kept.
    queries: Vec<Query<'static>>,
}

impl QueryTable {
    fn with(&mut self, rows: &[AttentionRow<'_>], work: impl FnOnce(&[Query<'_>])) {
        self.blocks.clear();
        self.tables.clear();
        for (i, row) in rows.iter().enumerate() {
            // Rows of one sequence come with one table.
            let table = match self.tables.last() {
                Some(table) if std::ptr::eq(rows[i - 1].blocks, row.blocks) => *table,
                _ => {
                    let start = self.blocks.len();
                    self.blocks.extend(row.blocks.iter().map(|block| block.0));
                    (start, row.blocks.len())
                }
            };
            self.tables.push(table);
        }
        let mut queries = emptied(std::mem::take(&mut self.queries));
        queries.extend(rows.iter().zip(&self.tables).map(|(row, (start, len))| Query {
            position: row.position,
            blocks: &self.blocks[*start..start + len],
        }));
        work(&queries);
        self.queries = emptied(queries);
    }
}

/// The vector's memory for queries of another lifetime: collecting in place keeps it.
fn emptied<'b>(mut queries: Vec<Query<'_>>) -> Vec<Query<'b>> {
    queries.clear();
    queries.into_iter().map(|query| Query { position: query.position, blocks: &[] }).collect()
}

#[cfg(test)]
mod tests {
    use reprise_scheduler::{BlockId, Row};

    use super::*;

    #[test]
    fn tables_are_copied_once_and_memory_is_kept() {
        let (long, short) = ([BlockId(4), BlockId(2)], [BlockId(9)]);
        let row = |position, blocks| AttentionRow { row: Row(0), position, blocks };
        let rows = [row(31, &long[..]), row(32, &long), row(0, &short), row(40, &long)];
        let mut table = QueryTable::default();
        for round in 0..2 {
            let before = table.queries.capacity();
            table.with(&rows, |queries| {
                let seen: Vec<_> = queries.iter().map(|query| (query.position, query.blocks)).collect();
                let expected: [(u32, &[u32]); 4] = [(31, &[4, 2]), (32, &[4, 2]), (0, &[9]), (40, &[4, 2])];
                assert_eq!(seen, expected);
            });
            assert_eq!(table.blocks.len(), 5);
            assert!(round == 0 || (before >= 4 && table.queries.capacity() == before));
        }
    }
}
