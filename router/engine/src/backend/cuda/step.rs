use half::bf16;
use reprise_cuda::{
    CudaError, LaunchGraph, View,
    ops::{
        Attention, Embedding, Grouping, Join, Norm, Outcome, Product, Rotation, Routing, SharedPart, argmax,
        attention_decode, attention_prefill, embed, join, multiply, rms_norm, rotate, route,
    },
};
use reprise_kernels::rope::Pairing;
use reprise_scheduler::{Head, Heads, StepRow};

use super::{
    CudaBackend, StepSizes,
    inputs::Placed,
    model::{AttentionLayer, ExpertsLayer, Layer},
};

impl CudaBackend {
    pub(super) fn run_step(&mut self, rows: &[StepRow<'_>], heads: &mut Heads) -> Result<(), CudaError> {
        let tokens: Vec<Placed<'_>> = rows
            .iter()
            .map(|row| Placed { token: row.token, position: row.position, blocks: row.blocks })
            .collect();
        let wanted: Vec<usize> = (0..rows.len()).filter(|row| rows[*row].head != Head::Nothing).collect();
        let sizes = self.upload(&tokens, &wanted)?;
        match sizes {
            Ok(recorded) => self.repeat(recorded)?,
            Err(sizes) => self.launch(&sizes)?,
        }
        if !wanted.is_empty() {
            let Self { device, work, .. } = self;
            work.choices.range(0..wanted.len())?.download_pinned(device, &mut work.chosen_here)?;
        }
        self.device.synchronize()?;
        self.collect(rows, &wanted, heads)
    }

    /// `Ok`: of a size that is recorded.
    fn upload(
        &mut self,
        tokens: &[Placed<'_>],
        wanted: &[usize],
    ) -> Result<Result<StepSizes, StepSizes>, CudaError> {
        let count = tokens.len();
        let alone = wanted.len() == count;
        let longest = tokens.iter().map(|token| token.position as usize + 1).max().unwrap_or(0);
        let most = self.layout.rows.min(self.work.chosen_here.as_slice().len());
        let most_chunks = self.layout.context_length.div_ceil(reprise_cuda::CHUNK_TOKENS).next_power_of_two();
        let recorded = StepSizes::recorded(count, longest, most, most_chunks).filter(|_| alone);
        let padded = recorded.map_or(count, |sizes| sizes.rows);
        // Padding reads the first row.
        let heads = wanted.iter().copied().chain(std::iter::repeat(0)).take(if alone {
            padded
        } else {
            wanted.len()
        });
        let found = self.inputs.fill(&self.device, tokens, padded, heads)?;
        Ok(match recorded {
            Some(sizes) if found.alone == count => Ok(sizes),
            _ => Err(StepSizes {
                rows: count,
                alone: found.alone,
                tiles: found.tiles,
                chunks: found.longest.div_ceil(reprise_cuda::CHUNK_TOKENS).max(1),
                heads: wanted.len(),
            }),
        })
    }

    fn repeat(&mut self, sizes: StepSizes) -> Result<(), CudaError> {
        if let Some(graph) = self.graphs.get(&sizes) {
            return graph.launch();
        }
        // A kernel's first launch may load it, which cannot be recorded.
        self.launch(&sizes)?;
        let graph = LaunchGraph::record(&self.device, || self.launch(&sizes))?;
        self.graphs.insert(sizes, graph);
        Ok(())
    }

    fn collect(
        &mut self,
        rows: &[StepRow<'_>],
        wanted: &[usize],
        heads: &mut Heads,
    ) -> Result<(), CudaError> {
        let vocabulary = self.layout.vocabulary;
        for (at, row) in wanted.iter().enumerate() {
            if rows[*row].head == Head::Greedy {
                let [token, ..] = self.work.chosen_here.as_slice()[at];
                heads.greedy.push((token != u32::MAX).then_some(token));
            } else {
                let Self { device, work, .. } = self;
                let logits = work.logits.range(at * vocabulary..(at + 1) * vocabulary)?;
                logits.download_pinned(device, &mut work.logits_here)?;
                device.synchronize()?;
                heads.logits.extend_from_slice(&work.logits_here.as_slice()[..vocabulary]);
            }
        }
        Ok(())
    }

    /// All launches of a tick.
    fn launch(&self, sizes: &StepSizes) -> Result<(), CudaError> {
        let Self { device, model, work, inputs, .. } = self;
        let (hidden, eps, rows) = (model.sizes.hidden, model.sizes.norm_eps, sizes.rows);
        let x = work.x.range(0..rows * hidden)?;
        let normed = work.normed.range(0..rows * hidden)?;
        let tokens = inputs.tokens()?;
        embed(device, &Embedding { matrix: &model.embedding, tokens, out: x, rows })?;
        let last_attention =
            model.layers.iter().rposition(|layer| matches!(layer, Layer::Attention(_))).unwrap_or(0);
        // The norm of the next layer, where what was before has done it.
        let mut ready = false;
        let mut attentions = 0;
        for (at, layer) in model.layers.iter().enumerate() {
            if sizes.heads == 0 && at > last_attention {
                // Only the KV was wanted, and it is written.
                return Ok(());
            }
            if !ready {
                let weight = layer.norm().view();
                rms_norm(device, &Norm { x, index: None, weight, out: normed, rows, eps })?;
            }
            ready = false;
            match layer {
                Layer::Attention(layer) => {
                    self.attend(layer, attentions, sizes, x)?;
                    attentions += 1;
                }
                Layer::FeedForward(layer) => layer.mlp.run(device, work, normed, Outcome::Add(x), rows)?,
                Layer::Experts(layer) => {
                    let next = model.layers.get(at + 1).map(Layer::norm);
                    self.mix(layer, rows, x, next.map(reprise_cuda::Buffer::view))?;
                    ready = next.is_some();
                }
            }
        }
        if sizes.heads == 0 {
            return Ok(());
        }
        self.head(x, inputs.heads()?, sizes.heads)?;
        argmax(device, work.logits.view(), self.layout.vocabulary, sizes.heads, work.choices.view())
    }

    /// Leaves logits of some rows of `x`.
    pub(super) fn head(&self, x: View<'_, f32>, rows: View<'_, u32>, count: usize) -> Result<(), CudaError> {
        let Self { device, model, work, .. } = self;
        let (weight, out) = (model.final_norm.view(), work.head_normed.view());
        let index = Some(rows);
        rms_norm(device, &Norm { x, index, weight, out, rows: count, eps: model.sizes.norm_eps })?;
        let (weights, bias) = model.head();
        multiply(
            device,
            &Product {
                weights,
                x: out,
                rows: None,
                tiles: None,
                bias,
                out: Outcome::Replace(work.logits.view()),
                pitch: self.layout.vocabulary,
                tokens: count,
            },
        )
    }

    /// From the normed states on: `x += attention`.
    pub(super) fn attend(
        &self,
        layer: &AttentionLayer,
        at: usize,
        sizes: &StepSizes,
        x: View<'_, f32>,
    ) -> Result<(), CudaError> {
        let Self { device, model, work, inputs, .. } = self;
        let of = &model.sizes;
        let rows = sizes.rows;
        let width = of.q_width() + 2 * of.kv_width();
        let mut begin = 0;
        for projection in &layer.projections {
            let out = work.qkv.range(begin..rows * width)?;
            projection.multiply(device, work.normed.view(), Outcome::Half(out), width, rows)?;
            begin += projection.matrix.rows();
        }
        let (keys, values) = &work.kv[at];
        let (positions, table_of) = (inputs.positions()?, inputs.table_of()?);
        let scale = std::f32::consts::LOG2_E / (of.head_dim as f32).sqrt();
        rotate(
            device,
            &Rotation {
                qkv: work.qkv.view(),
                norms: layer.qk_norm.as_ref().map(|(q, k)| (q.view(), k.view())),
                turns: self.turns.view(),
                positions,
                table_of,
                tables: inputs.tables()?,
                q: work.q.view(),
                keys: keys.view(),
                values: values.view(),
                heads: of.heads,
                kv_heads: of.kv_heads,
                head_dim: of.head_dim,
                interleaved: model.rope.pairing == Pairing::Interleaved,
                eps: of.norm_eps,
                scale,
                rows,
            },
        )?;
        let attention = Attention {
            q: work.q.view(),
            keys: keys.view(),
            values: values.view(),
            positions,
            table_of,
            tables: inputs.tables()?,
            out: work.attended.view(),
            heads: of.heads,
            kv_heads: of.kv_heads,
            head_dim: of.head_dim,
            tokens: rows,
        };
        let share = work.sums_of_attention.len() / (of.heads * sizes.chunks).max(1);
        for first in (0..sizes.alone).step_by(share.max(1)) {
            let tokens = share.max(1).min(sizes.alone - first);
            let part = Attention {
                q: work.q.range(first * of.q_width()..(first + tokens) * of.q_width())?,
                out: work.attended.range(first * of.q_width()..(first + tokens) * of.q_width())?,
                positions: positions.range(first..first + tokens)?,
                table_of: table_of.range(first..first + tokens)?,
                tokens,
                ..attention
            };
            let (parts, sums) = (work.parts_of_attention.view(), work.sums_of_attention.view());
            attention_decode(device, &part, sizes.chunks, parts, sums)?;
        }
        if sizes.tiles > 0 {
            attention_prefill(device, &attention, inputs.tiles(), sizes.tiles)?;
        }
        layer.output.multiply(device, work.attended.view(), Outcome::Add(x), of.hidden, rows)
    }

    /// From the normed states on: `x += mixture of experts`, and the norm of the next layer.
    fn mix(
        &self,
        layer: &ExpertsLayer,
        rows: usize,
        x: View<'_, f32>,
        next_norm: Option<View<'_, f32>>,
    ) -> Result<(), CudaError> {
        let Self { device, model, work, inputs, .. } = self;
        let (hidden, normed, count) = (model.sizes.hidden, work.normed.view(), inputs.count()?);
        let ExpertsLayer { experts, top_k, .. } = *layer;
        let tiles = work.tiles(rows, top_k, experts);
        let gates = work.gates.range(0..rows * experts)?;
        layer.router.multiply(device, normed, Outcome::Replace(gates), experts, rows)?;
        let (part_of, row_of) = (work.part_of.view(), work.row_of.view());
        let (chosen, weights) = (work.chosen.view(), work.weights.view());
        let routing = Routing { logits: gates, chosen, weights, renormalise: layer.renormalise };
        route(device, &routing, &Grouping { part_of, row_of, tiles, count, rows, experts, top_k })?;
        self.experts(layer, normed, row_of, tiles, [tiles.size.blocks(); 2], rows * top_k)?;
        let shared = self.shared(layer, rows, normed)?;
        join(
            device,
            &Join {
                x,
                index: None,
                parts: work.parts.view(),
                part_of,
                weights,
                shared,
                norm: next_norm.map(|weight| (weight, normed)),
                count,
                rows,
                hidden,
                top_k,
                renormalised: layer.renormalise,
                eps: model.sizes.norm_eps,
            },
        )
    }

    pub(super) fn shared(
        &self,
        layer: &ExpertsLayer,
        rows: usize,
        normed: View<'_, bf16>,
    ) -> Result<Option<SharedPart<'_>>, CudaError> {
        let Some((gate, mlp)) = &layer.shared else { return Ok(None) };
        let Self { device, model, work, .. } = self;
        let (part, open) = (work.shared_part.view(), work.shared_gate.view());
        gate.multiply(device, normed, Outcome::Replace(open), 1, rows)?;
        mlp.run(device, work, normed, Outcome::Replace(part.range(0..rows * model.sizes.hidden)?), rows)?;
        Ok(Some(SharedPart { part, gate: open }))
    }
}
