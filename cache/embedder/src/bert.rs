//! BERT's encoder (Devlin et al. 2019), post-norm, on the engine's kernels.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use reprise_kernels::{
    attention::{BLOCK_TOKENS, KvCache, KvCacheError, KvFormat, Query, attend},
    matrix::{Input, InputForm, Matrix, multiply, multiply_add, multiply_gelu},
    norm::layer_norm,
    pool::Pool,
};
use serde::Deserialize;

use crate::{batch::Batch, weights::Weights};

/// `config.json`
#[derive(Debug, Deserialize)]
pub struct BertConfig {
    pub vocab_size: usize,
    pub hidden_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    pub intermediate_size: usize,
    pub hidden_act: String,
    pub max_position_embeddings: usize,
    pub type_vocab_size: usize,
    pub layer_norm_eps: f32,
    #[serde(default)]
    pub position_embedding_type: Option<String>,
}

impl BertConfig {
    /// What else the file may say is another model.
    pub fn check(&self) -> Result<(), String> {
        let absolute = self.position_embedding_type.as_deref().is_none_or(|kind| kind == "absolute");
        if self.hidden_act != "gelu" || !absolute {
            return Err("only hidden_act gelu and absolute positions are known".into());
        }
        let heads = self.num_attention_heads;
        if heads == 0
            || !self.hidden_size.is_multiple_of(heads)
            || !(self.hidden_size / heads).is_multiple_of(8)
        {
            return Err(format!("hidden_size {} is not {heads} heads of a multiple of 8", self.hidden_size));
        }
        if self.hidden_size == 0 || self.max_position_embeddings < 2 || self.type_vocab_size == 0 {
            return Err("hidden_size, max_position_embeddings or type_vocab_size is too small".into());
        }
        Ok(())
    }
}

/// Embeddings and layers.
pub struct Encoder {
    config: BertConfig,
    /// `[vocab_size, hidden_size]`
    words: Vec<f32>,
    /// `[max_position_embeddings, hidden_size]`, the embedding of token type 0 added.
    positions: Vec<f32>,
    norm: Norm,
    layers: Vec<Layer>,
}

struct Layer {
    query: Matrix,
    key: Matrix,
    value: Matrix,
    attention_output: Matrix,
    attention_norm: Norm,
    intermediate: Matrix,
    output: Matrix,
    output_norm: Norm,
}

struct Norm {
    weight: Vec<f32>,
    bias: Vec<f32>,
    eps: f32,
}

/// A worker's threads, and buffers for each.
pub struct Compute {
    pool: Pool,
    buffers: Vec<Mutex<Buffers>>,
}

#[derive(Default)]
struct Buffers {
    input: Input,
    kv: Option<KvCache>,
    /// `[tokens, hidden_size]`
    states: Vec<f32>,
    normed: Vec<f32>,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    /// `[tokens, intermediate_size]`
    wide: Vec<f32>,
}

impl Compute {
    pub fn new(pool: Pool) -> Self {
        let buffers = (0..pool.threads()).map(|_| Mutex::default()).collect();
        Self { pool, buffers }
    }

    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// A panic leaves nothing behind that the next batch reads before it writes it.
    fn buffers(&self, index: usize) -> MutexGuard<'_, Buffers> {
        self.buffers[index].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Buffers {
    /// Room for `tokens` tokens in `blocks` KV blocks.
    fn resize(&mut self, config: &BertConfig, tokens: usize, blocks: usize) -> Result<(), KvCacheError> {
        for buffer in [&mut self.states, &mut self.normed, &mut self.q, &mut self.k, &mut self.v] {
            buffer.resize(tokens * config.hidden_size, 0.0);
        }
        self.wide.resize(tokens * config.intermediate_size, 0.0);
        if self.kv.as_ref().is_none_or(|kv| kv.blocks() < blocks) {
            let heads = config.num_attention_heads;
            let head_dim = config.hidden_size / heads;
            self.kv = None;
            // Layers follow each other, so one layer's memory serves them all.
            self.kv = Some(KvCache::new(KvFormat::F32, 1, blocks.next_power_of_two(), heads, head_dim)?);
        }
        Ok(())
    }
}

impl Encoder {
    pub fn load(config: BertConfig, weights: &Weights<'_>) -> Result<Self, String> {
        config.check()?;
        let hidden = config.hidden_size;
        let embeddings = weights.below("embeddings");
        let mut positions =
            embeddings.table("position_embeddings.weight", config.max_position_embeddings, hidden)?;
        let types = embeddings.table("token_type_embeddings.weight", config.type_vocab_size, hidden)?;
        for row in positions.chunks_exact_mut(hidden) {
            add(row, &types[..hidden]);
        }
        let layers = weights.below("encoder.layer");
        Ok(Self {
            words: embeddings.table("word_embeddings.weight", config.vocab_size, hidden)?,
            positions,
            norm: Norm::load(&config, &embeddings.below("LayerNorm"))?,
            layers: (0..config.num_hidden_layers)
                .map(|number| Layer::load(&config, &layers.below(&number.to_string())))
                .collect::<Result<_, _>>()?,
            config,
        })
    }

    pub fn config(&self) -> &BertConfig {
        &self.config
    }

    /// The mean of each text's final states, of all batches in order, each `[hidden_size]`.
    ///
    /// A thread that has a batch to itself waits for no other; what does not go round is computed by all together.
    ///
    /// # Errors
    /// A token is unknown, a text is empty or too long, or memory is short.
    pub fn means(&self, batches: &[Batch], compute: &Compute) -> Result<Vec<Vec<f32>>, String> {
        let threads = compute.pool.threads();
        let (apart, together) = batches.split_at(batches.len() - batches.len() % threads);
        let results: Vec<OnceLock<_>> = batches.iter().map(|_| OnceLock::new()).collect();
        compute.pool.each(
            apart.len(),
            |index| compute.buffers(index),
            |at, buffers| _ = results[at].set(self.means_of(&apart[at], &compute.pool, buffers)),
        );
        for (batch, result) in together.iter().zip(&results[apart.len()..]) {
            _ = result.set(self.means_of(batch, &compute.pool, &mut compute.buffers(0)));
        }
        let means: Result<Vec<_>, String> =
            results.into_iter().map(|result| result.into_inner().unwrap_or_else(|| Ok(Vec::new()))).collect();
        Ok(means?.into_iter().flatten().collect())
    }

    fn means_of(&self, batch: &Batch, pool: &Pool, buffers: &mut Buffers) -> Result<Vec<Vec<f32>>, String> {
        let hidden = self.config.hidden_size;
        let blocks = self.blocks(batch)?;
        let used = blocks.last().map_or(0, |blocks| blocks.end) as usize;
        buffers.resize(&self.config, batch.ids.len(), used).map_err(|error| error.to_string())?;
        self.embed(batch, pool, buffers)?;
        for layer in &self.layers {
            layer.forward(&self.config, batch, &blocks, pool, buffers);
        }
        let means = batch.texts.iter().map(|text| {
            let mut sum = vec![0.0; hidden];
            for row in buffers.states[text.start * hidden..text.end * hidden].chunks_exact(hidden) {
                add(&mut sum, row);
            }
            sum.iter_mut().for_each(|sum| *sum /= text.len() as f32);
            sum
        });
        Ok(means.collect())
    }

    /// Which KV blocks each text takes.
    fn blocks(&self, batch: &Batch) -> Result<Vec<std::ops::Range<u32>>, String> {
        let mut end = 0;
        let texts = batch.texts.iter().map(|text| {
            if text.is_empty() || text.len() > self.config.max_position_embeddings {
                return Err(format!("a text of {} tokens", text.len()));
            }
            let begin = end;
            end += u32::try_from(text.len().div_ceil(BLOCK_TOKENS)).map_err(|error| error.to_string())?;
            Ok(begin..end)
        });
        texts.collect()
    }

    fn embed(&self, batch: &Batch, pool: &Pool, buffers: &mut Buffers) -> Result<(), String> {
        let hidden = self.config.hidden_size;
        for text in &batch.texts {
            for (position, token) in text.clone().enumerate() {
                let id = batch.ids[token] as usize;
                if id >= self.config.vocab_size {
                    return Err(format!("token {id} of a vocabulary of {}", self.config.vocab_size));
                }
                let row = &mut buffers.normed[token * hidden..(token + 1) * hidden];
                row.copy_from_slice(&self.words[id * hidden..(id + 1) * hidden]);
                add(row, &self.positions[position * hidden..(position + 1) * hidden]);
            }
        }
        self.norm.apply(pool, &buffers.normed, &mut buffers.states);
        Ok(())
    }
}

impl Layer {
    fn load(config: &BertConfig, weights: &Weights<'_>) -> Result<Self, String> {
        let (hidden, wide) = (config.hidden_size, config.intermediate_size);
        Ok(Self {
            query: weights.linear("attention.self.query", hidden, hidden)?,
            key: weights.linear("attention.self.key", hidden, hidden)?,
            value: weights.linear("attention.self.value", hidden, hidden)?,
            attention_output: weights.linear("attention.output.dense", hidden, hidden)?,
            attention_norm: Norm::load(config, &weights.below("attention.output.LayerNorm"))?,
            intermediate: weights.linear("intermediate.dense", wide, hidden)?,
            output: weights.linear("output.dense", hidden, wide)?,
            output_norm: Norm::load(config, &weights.below("output.LayerNorm"))?,
        })
    }

    /// `states = norm(h + W gelu(h))` with `h = norm(states + attention(states))`.
    fn forward(
        &self,
        config: &BertConfig,
        batch: &Batch,
        blocks: &[std::ops::Range<u32>],
        pool: &Pool,
        buffers: &mut Buffers,
    ) {
        let (hidden, heads) = (config.hidden_size, config.num_attention_heads);
        let Buffers { input, kv: Some(kv), states, normed, q, k, v, wide } = buffers else { return };
        input.fill(pool, InputForm::F32, states, hidden);
        multiply(pool, input, &mut [(&self.query, &mut *q), (&self.key, &mut *k), (&self.value, &mut *v)]);

        let tables: Vec<Vec<u32>> = blocks.iter().map(|blocks| blocks.clone().collect()).collect();
        let mut queries = Vec::with_capacity(batch.ids.len());
        for (text, table) in batch.texts.iter().zip(&tables) {
            let range = text.start * hidden..text.end * hidden;
            kv.append_run(pool, 0, table, 0, &k[range.clone()], &v[range]);
            // An encoder's token sees the whole text.
            let last = u32::try_from(text.len() - 1).unwrap_or(u32::MAX);
            queries.extend(text.clone().map(|_| Query { position: last, blocks: table }));
        }
        let scale = 1.0 / ((hidden / heads) as f32).sqrt();
        attend(pool, kv, 0, q, &queries, heads, scale, normed);

        input.fill(pool, InputForm::F32, normed, hidden);
        multiply_add(pool, input, &self.attention_output, states);
        self.attention_norm.apply(pool, states, normed);

        input.fill(pool, InputForm::F32, normed, hidden);
        multiply_gelu(pool, input, &self.intermediate, wide);
        input.fill(pool, InputForm::F32, wide, config.intermediate_size);
        multiply_add(pool, input, &self.output, normed);
        self.output_norm.apply(pool, normed, states);
    }
}

impl Norm {
    fn load(config: &BertConfig, weights: &Weights<'_>) -> Result<Self, String> {
        let length = config.hidden_size;
        Ok(Self {
            weight: weights.vector("weight", length)?,
            bias: weights.vector("bias", length)?,
            eps: config.layer_norm_eps,
        })
    }

    fn apply(&self, pool: &Pool, x: &[f32], out: &mut [f32]) {
        layer_norm(pool, x, &self.weight, &self.bias, self.eps, out);
    }
}

fn add(to: &mut [f32], other: &[f32]) {
    for (to, other) in to.iter_mut().zip(other) {
        *to += other;
    }
}
