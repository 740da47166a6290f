//! Single sub-layers for rows of an arena: what schedules that keep micro-queues ask for.

use half::bf16;
use reprise_cuda::{
    Buffer, CudaError,
    ops::{
        Embedding, Grouping, Join, Norm, Outcome, Product, Routing, embed, gather_rows, group_parts, join,
        multiply, rms_norm, route, scatter_rows,
    },
};
use reprise_scheduler::{AttentionRow, ExpertId, PartWork, Row, SubLayerId};

use super::{
    CudaBackend, StepSizes,
    inputs::Placed,
    model::{ExpertsLayer, Layer},
};

/// Hidden states and what belongs to them between calls. Made by the first call.
#[derive(Debug, Default)]
pub(super) struct Arena {
    buffers: Option<Buffers>,
}

#[derive(Debug)]
pub(super) struct Buffers {
    /// [rows, hidden]
    states: Buffer<f32>,
    /// What the experts see of a row, [rows, hidden].
    pub(super) normed: Buffer<bf16>,
    /// Of the chosen experts, [rows, top_k].
    weights: Vec<f32>,
    /// Results of experts, [rows * top_k, hidden].
    pub(super) parts: Buffer<bf16>,
    /// [rows * top_k]
    pub(super) index: Buffer<u32>,
    pub(super) places: Buffer<u32>,
    call_weights: Buffer<f32>,
    pub(super) top_k: usize,
}

impl CudaBackend {
    pub(super) fn arena(&mut self) -> Result<&mut Buffers, CudaError> {
        if self.arena.buffers.is_none() {
            let (rows, hidden) = (self.layout.rows, self.model.sizes.hidden);
            let top_k = self.model.experts().map(|layer| layer.top_k).max().unwrap_or(0);
            let device = &self.device;
            self.arena.buffers = Some(Buffers {
                states: Buffer::new(device, rows * hidden)?,
                normed: Buffer::new(device, if top_k > 0 { rows * hidden } else { 0 })?,
                weights: vec![0.0; rows * top_k],
                parts: Buffer::new(device, rows * top_k * hidden)?,
                index: Buffer::new(device, rows * top_k.max(1))?,
                places: Buffer::new(device, rows * top_k)?,
                call_weights: Buffer::new(device, rows * top_k)?,
                top_k,
            });
        }
        self.arena.buffers.as_mut().ok_or_else(|| CudaError::Shape("no arena".into()))
    }

    pub(super) fn arena_of(&self) -> Result<&Buffers, CudaError> {
        self.arena.buffers.as_ref().ok_or_else(|| CudaError::Shape("a sub-layer before any embedding".into()))
    }

    /// Rows of the arena to `x`, and their norm.
    fn gather(&self, rows: &[Row], norm: &Buffer<f32>) -> Result<(), CudaError> {
        let Self { device, work, model, .. } = self;
        let arena = self.arena_of()?;
        let index: Vec<u32> = rows.iter().map(|row| row.0).collect();
        arena.index.view().upload(device, &index)?;
        let at = arena.index.range(0..rows.len())?;
        gather_rows(device, arena.states.view(), at, work.x.view(), model.sizes.hidden)?;
        let (x, out, eps) = (work.x.view(), work.normed.view(), model.sizes.norm_eps);
        rms_norm(device, &Norm { x, index: None, weight: norm.view(), out, rows: rows.len(), eps })
    }

    fn scatter(&self, rows: usize) -> Result<(), CudaError> {
        let arena = self.arena_of()?;
        let (at, hidden) = (arena.index.range(0..rows)?, self.model.sizes.hidden);
        scatter_rows(&self.device, self.work.x.view(), at, arena.states.view(), hidden)
    }

    fn layer(&self, sub_layer: SubLayerId) -> Result<&Layer, CudaError> {
        let layer = self.model.layers.get(sub_layer);
        layer.ok_or_else(|| CudaError::Shape(format!("there is no sub-layer {sub_layer}")))
    }

    fn experts_layer(&self, sub_layer: SubLayerId) -> Result<&ExpertsLayer, CudaError> {
        match self.layer(sub_layer)? {
            Layer::Experts(layer) => Ok(&**layer),
            other => Err(CudaError::Shape(format!(
                "experts of sub-layer {sub_layer}, which is {:?}",
                other.role()
            ))),
        }
    }

    pub(super) fn embed_rows(&mut self, rows: &[Row], tokens: &[u32]) -> Result<(), CudaError> {
        self.arena()?;
        let arena = self.arena_of()?;
        let Self { device, work, model, inputs, .. } = &*self;
        let index: Vec<u32> = rows.iter().map(|row| row.0).collect();
        arena.index.view().upload(device, &index)?;
        inputs.tokens()?.upload(device, tokens)?;
        let (matrix, out) = (&model.embedding, work.x.view());
        embed(device, &Embedding { matrix, tokens: inputs.tokens()?, out, rows: rows.len() })?;
        self.scatter(rows.len())
    }

    pub(super) fn attention_rows(
        &mut self,
        sub_layer: SubLayerId,
        rows: &[AttentionRow<'_>],
    ) -> Result<(), CudaError> {
        let tokens: Vec<Placed<'_>> =
            rows.iter().map(|row| Placed { token: 0, position: row.position, blocks: row.blocks }).collect();
        let found = self.inputs.fill(&self.device, &tokens, rows.len(), std::iter::empty())?;
        // What was queued for upload stays as it is until then.
        self.device.synchronize()?;
        let before = self.model.layers[..sub_layer.min(self.model.layers.len())].iter();
        let at = before.filter(|layer| matches!(layer, Layer::Attention(_))).count();
        let Layer::Attention(layer) = self.layer(sub_layer)? else {
            return Err(CudaError::Shape(format!("attention of sub-layer {sub_layer}")));
        };
        let index: Vec<Row> = rows.iter().map(|row| row.row).collect();
        self.gather(&index, &layer.norm)?;
        let sizes = StepSizes {
            rows: rows.len(),
            alone: found.alone,
            tiles: found.tiles,
            chunks: found.longest.div_ceil(reprise_cuda::CHUNK_TOKENS).max(1),
            heads: 0,
        };
        self.attend(layer, at, &sizes, self.work.x.view())?;
        self.scatter(rows.len())
    }

    pub(super) fn feed_forward_rows(&self, sub_layer: SubLayerId, rows: &[Row]) -> Result<(), CudaError> {
        let Layer::FeedForward(layer) = self.layer(sub_layer)? else {
            return Err(CudaError::Shape(format!("feed-forward of sub-layer {sub_layer}")));
        };
        self.gather(rows, &layer.norm)?;
        let (device, work) = (&self.device, &self.work);
        layer.mlp.run(device, work, work.normed.view(), Outcome::Add(work.x.view()), rows.len())?;
        self.scatter(rows.len())
    }

    pub(super) fn gate_rows(
        &mut self,
        sub_layer: SubLayerId,
        rows: &[Row],
        chosen: &mut Vec<ExpertId>,
    ) -> Result<(), CudaError> {
        let layer = self.experts_layer(sub_layer)?;
        let ExpertsLayer { experts, top_k, renormalise, .. } = *layer;
        self.gather(rows, &layer.norm)?;
        let Self { device, work, model, inputs, .. } = &*self;
        let (arena, count) = (self.arena_of()?, rows.len());
        // Pairs of bf16 as one f32: they are moved, not read.
        let (from, to) = (work.normed.view().cast::<f32>()?, arena.normed.view().cast::<f32>()?);
        scatter_rows(device, from, arena.index.range(0..count)?, to, model.sizes.hidden / 2)?;
        let gates = work.gates.range(0..count * experts)?;
        layer.router.multiply(device, work.normed.view(), Outcome::Replace(gates), experts, count)?;
        inputs.count()?.upload(device, &[u32::try_from(count).unwrap_or(u32::MAX)])?;
        let routing =
            Routing { logits: gates, chosen: work.chosen.view(), weights: work.weights.view(), renormalise };
        route(device, &routing, &self.grouping(count, experts, top_k)?)?;
        let mut found = vec![0u32; count * top_k];
        let mut weights = vec![0f32; count * top_k];
        work.chosen.range(0..count * top_k)?.download(device, &mut found)?;
        work.weights.range(0..count * top_k)?.download(device, &mut weights)?;
        chosen.clear();
        chosen.extend(found.iter().map(|expert| ExpertId::try_from(*expert).unwrap_or(ExpertId::MAX)));
        let arena = self.arena()?;
        let pitch = arena.top_k;
        for (row, weights) in rows.iter().zip(weights.chunks_exact(top_k)) {
            arena.weights[row.0 as usize * pitch..][..top_k].copy_from_slice(weights);
        }
        Ok(())
    }

    fn grouping(&self, rows: usize, experts: usize, top_k: usize) -> Result<Grouping<'_>, CudaError> {
        let Self { work, inputs, .. } = self;
        let tiles = work.tiles(rows, top_k, experts);
        let (part_of, row_of) = (work.part_of.view(), work.row_of.view());
        Ok(Grouping { part_of, row_of, tiles, count: inputs.count()?, rows, experts, top_k })
    }

    pub(super) fn expert_parts(&self, sub_layer: SubLayerId, parts: &[PartWork]) -> Result<(), CudaError> {
        let layer = self.experts_layer(sub_layer)?;
        let Self { device, work, model, inputs, .. } = self;
        let (arena, hidden, count) = (self.arena_of()?, model.sizes.hidden, parts.len());
        let expert_of: Vec<u32> = parts.iter().map(|part| part.expert.into()).collect();
        // Parts are rows of their own here, each of one expert.
        work.chosen.view().upload(device, &expert_of)?;
        inputs.count()?.upload(device, &[u32::try_from(count).unwrap_or(u32::MAX)])?;
        let grouping = self.grouping(count, layer.experts, 1)?;
        group_parts(device, work.chosen.view(), &grouping)?;
        // The place of each part in the experts' order, to the row of its states and to the slot of its result.
        let mut order = vec![0u32; count];
        work.row_of.range(0..count)?.download(device, &mut order)?;
        let of = |part: &u32| &parts[*part as usize];
        let rows: Vec<u32> = order.iter().map(|part| of(part).row.0).collect();
        let slots: Vec<u32> =
            order.iter().map(|part| of(part).row.0 * arena.top_k as u32 + u32::from(of(part).slot)).collect();
        arena.index.view().upload(device, &rows)?;
        arena.places.view().upload(device, &slots)?;
        let width = layer.gate.rows();
        let middle = work.middle.range(0..count * width)?;
        multiply(
            device,
            &Product {
                weights: &layer.gate,
                x: arena.normed.view(),
                rows: Some(arena.index.view()),
                tiles: Some(grouping.tiles),
                bias: None,
                out: Outcome::Gated { second: &layer.up, out: middle },
                pitch: width,
                tokens: count,
            },
        )?;
        multiply(
            device,
            &Product {
                weights: &layer.down,
                x: middle,
                rows: None,
                tiles: Some(grouping.tiles),
                bias: None,
                out: Outcome::Round(work.parts.view()),
                pitch: hidden,
                tokens: count,
            },
        )?;
        let (from, to) = (work.parts.view().cast::<f32>()?, arena.parts.view().cast::<f32>()?);
        scatter_rows(device, from, arena.places.range(0..count)?, to, hidden / 2)
    }

    pub(super) fn join_rows(&self, sub_layer: SubLayerId, rows: &[Row]) -> Result<(), CudaError> {
        let layer = self.experts_layer(sub_layer)?;
        let Self { device, work, model, inputs, .. } = self;
        let (arena, hidden, count) = (self.arena_of()?, model.sizes.hidden, rows.len());
        let top_k = layer.top_k;
        let index: Vec<u32> = rows.iter().map(|row| row.0).collect();
        let of_row = |row: &Row| row.0 as usize * arena.top_k..row.0 as usize * arena.top_k + top_k;
        let places: Vec<u32> = rows.iter().flat_map(|row| of_row(row).map(|place| place as u32)).collect();
        let weights: Vec<f32> =
            rows.iter().flat_map(|row| arena.weights[of_row(row)].iter().copied()).collect();
        arena.index.view().upload(device, &index)?;
        arena.places.view().upload(device, &places)?;
        arena.call_weights.view().upload(device, &weights)?;
        inputs.count()?.upload(device, &[u32::try_from(count).unwrap_or(u32::MAX)])?;
        let at = arena.index.range(0..count)?;
        let (from, to) = (arena.normed.view().cast::<f32>()?, work.normed.view().cast::<f32>()?);
        gather_rows(device, from, at, to, hidden / 2)?;
        let shared = self.shared(layer, count, work.normed.view())?;
        join(
            device,
            &Join {
                x: arena.states.view(),
                index: Some(at),
                parts: arena.parts.view(),
                part_of: arena.places.view(),
                weights: arena.call_weights.view(),
                shared,
                norm: None,
                count: inputs.count()?,
                rows: count,
                hidden,
                top_k,
                renormalised: layer.renormalise,
                eps: model.sizes.norm_eps,
            },
        )
    }

    pub(super) fn logits_rows(&self, rows: &[Row], logits: &mut Vec<f32>) -> Result<(), CudaError> {
        let (device, vocabulary) = (&self.device, self.layout.vocabulary);
        let arena = self.arena_of()?;
        logits.clear();
        let most = self.work.chosen_here.as_slice().len();
        for rows in rows.chunks(most) {
            let index: Vec<u32> = rows.iter().map(|row| row.0).collect();
            arena.index.view().upload(device, &index)?;
            self.head(arena.states.view(), arena.index.view(), rows.len())?;
            let begin = logits.len();
            logits.resize(begin + rows.len() * vocabulary, 0.0);
            let found = self.work.logits.range(0..rows.len() * vocabulary)?;
            found.download(device, &mut logits[begin..])?;
        }
        Ok(())
    }
}
