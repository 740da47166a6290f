use crate::BLOCK_TOKENS;

/// One layer's KV: keys [blocks, kv_heads, 32 tokens, head_dim], values [blocks, kv_heads, head_dim, 32 tokens].
#[derive(Debug, Clone, Copy)]
pub struct PagedKv<'a> {
    pub keys: &'a [f32],
    pub values: &'a [f32],
    pub kv_heads: usize,
    pub head_dim: usize,
}

impl PagedKv<'_> {
    /// Element `d` of the key and of the value.
    fn at(&self, block: usize, kv_head: usize, slot: usize, d: usize) -> (f64, f64) {
        let first = (block * self.kv_heads + kv_head) * BLOCK_TOKENS * self.head_dim;
        let key = self.keys[first + slot * self.head_dim + d];
        let value = self.values[first + d * BLOCK_TOKENS + slot];
        (key.into(), value.into())
    }
}

/// A token at `position` over its sequence's `blocks`: [heads, head_dim]. `q`: the same, scaled by `log2(e) / sqrt(head_dim)`.
#[must_use]
pub fn attend(kv: &PagedKv<'_>, q: &[f32], blocks: &[u32], position: usize) -> Vec<f64> {
    let (dim, heads) = (kv.head_dim, q.len() / kv.head_dim);
    let mut out = vec![0.0; q.len()];
    for (head, (q, out)) in q.chunks_exact(dim).zip(out.chunks_exact_mut(dim)).enumerate() {
        let kv_head = head / (heads / kv.kv_heads);
        let place = |token: usize| (blocks[token / BLOCK_TOKENS] as usize, token % BLOCK_TOKENS);
        let scores: Vec<f64> = (0..=position)
            .map(|token| {
                let (block, slot) = place(token);
                (0..dim).map(|d| f64::from(q[d]) * kv.at(block, kv_head, slot, d).0).sum()
            })
            .collect();
        let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = scores.iter().map(|score| (score - top).exp2()).collect();
        let mass: f64 = weights.iter().sum();
        for (token, weight) in weights.iter().enumerate() {
            let (block, slot) = place(token);
            for (d, out) in out.iter_mut().enumerate() {
                *out += weight / mass * kv.at(block, kv_head, slot, d).1;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use rand::{Rng, SeedableRng, rngs::SmallRng};
    use reprise_kernels::{
        attention::{KvCache, KvFormat, Query, attend as cpu_attend},
        pool::Pool,
    };

    use super::*;

    #[test]
    fn attention_is_that_of_the_cpu() {
        let (heads, kv_heads, dim, position) = (6, 2, 32, 70);
        let blocks = [2, 0, 1];
        let mut random = SmallRng::seed_from_u64(9);
        let mut number = || random.random_range(-1.0f32..1.0);
        let mut cache = KvCache::new(KvFormat::F32, 1, 3, kv_heads, dim).expect("room");
        let size = 3 * kv_heads * dim * BLOCK_TOKENS;
        let (mut keys, mut values) = (vec![f32::NAN; size], vec![f32::NAN; size]);
        for token in 0..=position {
            let (block, slot) = (blocks[token / BLOCK_TOKENS] as usize, token % BLOCK_TOKENS);
            let k: Vec<f32> = (0..kv_heads * dim).map(|_| number()).collect();
            let v: Vec<f32> = (0..kv_heads * dim).map(|_| number()).collect();
            cache.append(0, blocks[token / BLOCK_TOKENS], slot, &k, &v);
            for i in 0..kv_heads * dim {
                let first = (block * kv_heads + i / dim) * BLOCK_TOKENS * dim;
                keys[first + slot * dim + i % dim] = k[i];
                values[first + i % dim * BLOCK_TOKENS + slot] = v[i];
            }
        }
        let q: Vec<f32> = (0..heads * dim).map(|_| number()).collect();
        let pool = Pool::new(NonZeroUsize::MIN).expect("starts");
        let mut expected = vec![0.0; q.len()];
        let scale = (dim as f32).sqrt().recip();
        let query = Query { position: position as u32, blocks: &blocks };
        cpu_attend(&pool, &cache, 0, &q, &[query], heads, scale, &mut expected);
        let scaled: Vec<f32> = q.iter().map(|q| q * scale * std::f32::consts::LOG2_E).collect();
        let kv = PagedKv { keys: &keys, values: &values, kv_heads, head_dim: dim };
        for (a, b) in attend(&kv, &scaled, &blocks, position).iter().zip(expected) {
            assert!((a - f64::from(b)).abs() < 1e-5, "{a} {b}");
        }
    }
}
