//! Single sub-layers for rows of an arena: what schedules that keep micro-queues ask for.

use reprise_cuda::{
    CudaError,
    ops::{Embedding, Outcome, Routing, argmax, choose, embed, scatter_rows},
};
use reprise_scheduler::{AttentionRow, ExpertId, Row, SubLayerId};

use super::{
    CudaBackend, StepSizes,
    arena::{numbers, small},
    inputs::Placed,
    model::{ExpertsLayer, Layer},
};

impl CudaBackend {
    fn layer(&self, sub_layer: SubLayerId) -> Result<&Layer, CudaError> {
        let layer = self.model.layers.get(sub_layer);
        layer.ok_or_else(|| CudaError::Shape(format!("there is no sub-layer {sub_layer}")))
    }

    pub(super) fn experts_layer(&self, sub_layer: SubLayerId) -> Result<&ExpertsLayer, CudaError> {
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
        let Self { device, work, model, .. } = &*self;
        let [index, tokens] = self.arena_of()?.sheets.put([&numbers(rows), tokens])?;
        let (matrix, out) = (&model.embedding, work.x.view());
        embed(device, &Embedding { matrix, tokens, out, rows: rows.len() })?;
        self.scatter(index)
    }

    pub(super) fn attention_rows(
        &mut self,
        sub_layer: SubLayerId,
        rows: &[AttentionRow<'_>],
    ) -> Result<(), CudaError> {
        let rows = beside_each_other(rows);
        let tokens: Vec<Placed<'_>> =
            rows.iter().map(|row| Placed { token: 0, position: row.position, blocks: row.blocks }).collect();
        // The last call has ended, and with it the last upload.
        let found = self.inputs.fill(&self.device, &tokens, rows.len(), std::iter::empty())?;
        let before = self.model.layers[..sub_layer.min(self.model.layers.len())].iter();
        let at = before.filter(|layer| matches!(layer, Layer::Attention(_))).count();
        let Layer::Attention(layer) = self.layer(sub_layer)? else {
            return Err(CudaError::Shape(format!("attention of sub-layer {sub_layer}")));
        };
        let of_rows: Vec<u32> = rows.iter().map(|row| row.row.0).collect();
        let [index] = self.arena_of()?.sheets.put([&of_rows])?;
        self.gather(index, &layer.norm)?;
        let sizes = StepSizes {
            rows: rows.len(),
            alone: found.alone,
            tiles: found.tiles,
            chunks: found.longest.div_ceil(reprise_cuda::CHUNK_TOKENS).max(1),
            heads: 0,
        };
        self.attend(layer, at, &sizes, self.work.x.view())?;
        self.scatter(index)
    }

    pub(super) fn feed_forward_rows(&self, sub_layer: SubLayerId, rows: &[Row]) -> Result<(), CudaError> {
        let Layer::FeedForward(layer) = self.layer(sub_layer)? else {
            return Err(CudaError::Shape(format!("feed-forward of sub-layer {sub_layer}")));
        };
        let [index] = self.arena_of()?.sheets.put([&numbers(rows)])?;
        self.gather(index, &layer.norm)?;
        let (device, work) = (&self.device, &self.work);
        layer.mlp.run(device, work, work.normed.view(), Outcome::Add(work.x.view()), rows.len())?;
        self.scatter(index)
    }

    pub(super) fn gate_rows(
        &mut self,
        sub_layer: SubLayerId,
        rows: &[Row],
        chosen: &mut Vec<ExpertId>,
    ) -> Result<(), CudaError> {
        let layer = self.experts_layer(sub_layer)?;
        let ExpertsLayer { experts, top_k, renormalise, .. } = *layer;
        let Self { device, work, model, .. } = &*self;
        let (arena, count) = (self.arena_of()?, rows.len());
        let [index, counted] = arena.sheets.put([&numbers(rows), &[small(count)]])?;
        self.gather(index, &layer.norm)?;
        // Pairs of bf16 as one f32: they are moved, not read.
        let (from, to) = (work.normed.view().cast::<f32>()?, arena.normed.view().cast::<f32>()?);
        scatter_rows(device, from, index, to, model.sizes.hidden / 2)?;
        let gates = work.gates.range(0..count * experts)?;
        layer.router.multiply(device, work.normed.view(), Outcome::Replace(gates), experts, count)?;
        let routing =
            Routing { logits: gates, chosen: work.chosen.view(), weights: work.weights.view(), renormalise };
        choose(device, &routing, counted, [count, experts, top_k])?;
        let Self { device, work, arena, .. } = self;
        let Some(arena) = arena.buffers_mut() else { return Ok(()) };
        work.chosen.range(0..count * top_k)?.download_pinned(device, &mut arena.chosen_here)?;
        work.weights.range(0..count * top_k)?.download_pinned(device, &mut arena.weights_here)?;
        device.synchronize()?;
        let found = &arena.chosen_here.as_slice()[..count * top_k];
        chosen.clear();
        chosen.extend(found.iter().map(|expert| ExpertId::try_from(*expert).unwrap_or(ExpertId::MAX)));
        let (pitch, weights) = (arena.top_k, arena.weights_here.as_slice());
        for (row, weights) in rows.iter().zip(weights.chunks_exact(top_k)) {
            arena.weights[row.0 as usize * pitch..][..top_k].copy_from_slice(weights);
        }
        Ok(())
    }

    pub(super) fn logits_rows(&self, rows: &[Row], logits: &mut Vec<f32>) -> Result<(), CudaError> {
        let (device, vocabulary) = (&self.device, self.layout.vocabulary);
        logits.clear();
        for rows in rows.chunks(self.heads_at_once()) {
            self.head_of(rows)?;
            let begin = logits.len();
            logits.resize(begin + rows.len() * vocabulary, 0.0);
            let found = self.work.logits.range(0..rows.len() * vocabulary)?;
            found.download(device, &mut logits[begin..])?;
        }
        Ok(())
    }

    /// The token with the largest logit, of each row.
    pub(super) fn greedy_rows(
        &mut self,
        rows: &[Row],
        tokens: &mut Vec<Option<u32>>,
    ) -> Result<(), CudaError> {
        for rows in rows.chunks(self.heads_at_once()) {
            self.head_of(rows)?;
            let Self { device, work, layout, .. } = &mut *self;
            argmax(device, work.logits.view(), layout.vocabulary, rows.len(), work.choices.view())?;
            work.choices.range(0..rows.len())?.download_pinned(device, &mut work.chosen_here)?;
            device.synchronize()?;
            let found = &work.chosen_here.as_slice()[..rows.len()];
            tokens.extend(found.iter().map(|[token, ..]| (*token != u32::MAX).then_some(*token)));
        }
        Ok(())
    }

    const fn heads_at_once(&self) -> usize {
        self.work.chosen_here.as_slice().len()
    }

    fn head_of(&self, rows: &[Row]) -> Result<(), CudaError> {
        let arena = self.arena_of()?;
        let [index] = arena.sheets.put([&numbers(rows)])?;
        self.head(arena.states.view(), index, rows.len())
    }
}

/// In micro-queues the rows of several sequences come in any order. Here those of one stand together, behind all that are alone: so each
/// needs its table once, and rows of a prompt are computed in tiles. Positions of a sequence still ascend.
fn beside_each_other<'a, 'b>(rows: &'a [AttentionRow<'b>]) -> Vec<&'a AttentionRow<'b>> {
    let of = |row: &AttentionRow<'_>| row.blocks.as_ptr() as usize;
    let mut sorted: Vec<_> = rows.iter().collect();
    sorted.sort_by_key(|row| of(row));
    let (mut alone, mut together) = (Vec::with_capacity(rows.len()), Vec::new());
    for run in sorted.chunk_by(|a, b| of(a) == of(b)) {
        let to = if run.len() == 1 { &mut alone } else { &mut together };
        to.extend_from_slice(run);
    }
    alone.append(&mut together);
    alone
}

#[cfg(test)]
mod tests {
    use reprise_scheduler::BlockId;

    use super::*;

    #[test]
    fn rows_of_a_sequence_stand_together_behind_those_alone() {
        let blocks: Vec<Vec<BlockId>> = (0..3).map(|i| vec![BlockId(i)]).collect();
        let row = |number, sequence: usize, position| AttentionRow {
            row: Row(number),
            position,
            blocks: &blocks[sequence],
        };
        let rows = [row(0, 0, 3), row(1, 1, 9), row(2, 0, 4), row(3, 2, 1), row(4, 0, 5)];
        let sorted = beside_each_other(&rows);
        let mut alone: Vec<_> = sorted[..2].iter().map(|row| row.row.0).collect();
        alone.sort_unstable();
        assert_eq!(alone, [1, 3]);
        assert_eq!(
            sorted[2..].iter().map(|row| (row.row.0, row.position)).collect::<Vec<_>>(),
            [(0, 3), (2, 4), (4, 5)]
        );
    }
}
