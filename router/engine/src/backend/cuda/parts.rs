//! Parts of rows: what experts compute of them, and their sum.

use half::bf16;
use reprise_cuda::{
    CudaError, View,
    ops::{Join, Outcome, Product, TileSize, Tiles, gather_rows, join, multiply, scatter_rows},
};
use reprise_scheduler::{ExpertId, PartWork, Row, SubLayerId};

use super::{
    CudaBackend,
    arena::{numbers, small},
    model::ExpertsLayer,
};

impl CudaBackend {
    /// What the experts of `tiles` compute of so many parts, left in `work.parts`. `rows`: which row of `x` each part is of.
    pub(super) fn experts(
        &self,
        layer: &ExpertsLayer,
        x: View<'_, bf16>,
        rows: View<'_, u32>,
        tiles: Tiles<'_>,
        parts: usize,
    ) -> Result<(), CudaError> {
        let Self { device, work, model, .. } = self;
        let (hidden, width) = (model.sizes.hidden, layer.gate.rows());
        let middle = work.middle.range(0..parts * width)?;
        multiply(
            device,
            &Product {
                weights: &layer.gate,
                x,
                rows: Some(rows),
                tiles: Some(tiles),
                bias: None,
                out: Outcome::Gated { second: &layer.up, out: middle },
                pitch: width,
                tokens: parts,
            },
        )?;
        multiply(
            device,
            &Product {
                weights: &layer.down,
                x: middle,
                rows: None,
                tiles: Some(tiles),
                bias: None,
                out: Outcome::Round(work.parts.view()),
                pitch: hidden,
                tokens: parts,
            },
        )
    }

    /// `parts` in order of expert: so the host knows the tiles.
    pub(super) fn expert_parts(&self, sub_layer: SubLayerId, parts: &[PartWork]) -> Result<(), CudaError> {
        if parts.is_empty() {
            return Ok(());
        }
        let layer = self.experts_layer(sub_layer)?;
        if let Some(part) = parts.iter().find(|part| usize::from(part.expert) >= layer.experts) {
            return Err(CudaError::Shape(format!("expert {} of {}", part.expert, layer.experts)));
        }
        let Self { device, work, model, .. } = self;
        let (arena, hidden, count) = (self.arena_of()?, model.sizes.hidden, parts.len());
        let rows: Vec<u32> = parts.iter().map(|part| part.row.0).collect();
        let places: Vec<u32> = parts.iter().map(|part| arena.place(part)).collect();
        let (size, tiles) = tiles(parts.iter().map(|part| part.expert));
        let [rows, places, of_tiles, counted] =
            arena.sheets.put([&rows, &places, tiles.as_flattened(), &[small(tiles.len())]])?;
        let tiles = Tiles { size, tiles: of_tiles.cast()?, count: counted, most: tiles.len() };
        self.experts(layer, arena.normed.view(), rows, tiles, count)?;
        let (from, to) = (work.parts.view().cast::<f32>()?, arena.parts.view().cast::<f32>()?);
        scatter_rows(device, from, places, to, hidden / 2)
    }

    pub(super) fn join_rows(&self, sub_layer: SubLayerId, rows: &[Row]) -> Result<(), CudaError> {
        let layer = self.experts_layer(sub_layer)?;
        let Self { device, work, model, .. } = self;
        let (arena, hidden, count) = (self.arena_of()?, model.sizes.hidden, rows.len());
        let top_k = layer.top_k;
        let of_row = |row: &Row| row.0 as usize * arena.top_k..row.0 as usize * arena.top_k + top_k;
        let places: Vec<u32> = rows.iter().flat_map(|row| of_row(row).map(small)).collect();
        let weights: Vec<u32> =
            rows.iter().flat_map(|row| arena.weights[of_row(row)].iter().map(|w| w.to_bits())).collect();
        let [index, places, weights, counted] =
            arena.sheets.put([&numbers(rows), &places, &weights, &[small(count)]])?;
        let (from, to) = (arena.normed.view().cast::<f32>()?, work.normed.view().cast::<f32>()?);
        gather_rows(device, from, index, to, hidden / 2)?;
        let shared = self.shared(layer, count, work.normed.view())?;
        join(
            device,
            &Join {
                x: arena.states.view(),
                index: Some(index),
                parts: arena.parts.view(),
                part_of: places,
                weights: weights.cast()?,
                shared,
                norm: None,
                count: counted,
                rows: count,
                hidden,
                top_k,
                renormalised: layer.renormalise,
                eps: model.sizes.norm_eps,
            },
        )
    }
}

/// `{expert, first part, end, 0}`, as `group_parts` makes them; their size suits the experts that there are.
fn tiles(experts: impl Iterator<Item = ExpertId>) -> (TileSize, Vec<[u32; 4]>) {
    let experts: Vec<ExpertId> = experts.collect();
    let runs: Vec<&[ExpertId]> = experts.chunk_by(|a, b| a == b).collect();
    let size = TileSize::for_groups(experts.len(), runs.len().max(1));
    let (mut tiles, mut begin) = (Vec::new(), 0);
    for run in runs {
        // As equal as steps of 16 allow.
        let count = run.len().div_ceil(size.tokens());
        let each = run.len().div_ceil(count.max(1)).next_multiple_of(16);
        for first in (0..run.len()).step_by(each.max(1)) {
            let end = (first + each).min(run.len());
            tiles.push([run[0].into(), small(begin + first), small(begin + end), 0]);
        }
        begin += run.len();
    }
    (size, tiles)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_cover_each_part_once_and_hold_one_expert() {
        for counts in [vec![(3, 1)], vec![(0, 5), (7, 16)], vec![(1, 17), (2, 700), (5, 64)], vec![(4, 321)]]
        {
            let parts: Vec<ExpertId> = counts.iter().flat_map(|(expert, n)| vec![*expert; *n]).collect();
            let (size, tiles) = tiles(parts.iter().copied());
            let mut next = 0;
            for [expert, first, end, _] in &tiles {
                assert_eq!(*first, next);
                assert!(end > first && (end - first) as usize <= size.tokens(), "{size:?} {first} {end}");
                assert!(parts[*first as usize..*end as usize].iter().all(|of| u32::from(*of) == *expert));
                next = *end;
            }
            assert_eq!(next as usize, parts.len());
        }
    }
}
