//! Parts of rows: what experts compute of them, and their sum.

use half::bf16;
use reprise_cuda::{
    CudaError, View,
    ops::{Blocks, Join, Outcome, Product, Tiles, cut, gather_rows, join, multiply_in, scatter_rows, tiles},
};
use reprise_scheduler::{PartWork, Row, SubLayerId};

use super::{
    CudaBackend,
    arena::{numbers, small},
    model::ExpertsLayer,
};

impl CudaBackend {
    /// What the experts of `tiles` compute of so many parts, left in `work.parts`. `rows`: which row of `x` each part is of; blocks: of the gated
    /// product and of the product down.
    pub(super) fn experts(
        &self,
        layer: &ExpertsLayer,
        x: View<'_, bf16>,
        rows: View<'_, u32>,
        tiles: Tiles<'_>,
        [gated, down]: [Blocks; 2],
        parts: usize,
    ) -> Result<(), CudaError> {
        let Self { device, work, model, .. } = self;
        let (hidden, width) = (model.sizes.hidden, layer.gate.rows());
        let middle = work.middle.range(0..parts * width)?;
        multiply_in(
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
            gated,
        )?;
        multiply_in(
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
            down,
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
        let runs =
            parts.chunk_by(|a, b| a.expert == b.expert).map(|run| (u32::from(run[0].expert), run.len()));
        let runs: Vec<(u32, usize)> = runs.collect();
        let cut =
            cut(device, &layer.gate, &layer.down, &runs.iter().map(|(_, count)| *count).collect::<Vec<_>>());
        let tiles = tiles(runs, cut.size);
        let [rows, places, of_tiles, counted] =
            arena.sheets.put([&rows, &places, tiles.as_flattened(), &[small(tiles.len())]])?;
        let tiles = Tiles { size: cut.size, tiles: of_tiles.cast()?, count: counted, most: tiles.len() };
        self.experts(layer, arena.normed.view(), rows, tiles, [cut.gated, cut.down], count)?;
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
