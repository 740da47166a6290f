use std::num::NonZeroUsize;

use half::f16;
use proptest::prelude::*;
use rand::{Rng, SeedableRng, rngs::SmallRng, seq::SliceRandom};

use super::*;

#[derive(Debug, Clone, Copy)]
struct Model {
    format: KvFormat,
    kv_heads: usize,
    group: usize,
    head_dim: usize,
}

impl Model {
    const SCALE: f32 = 0.3;

    fn heads(self) -> usize {
        self.kv_heads * self.group
    }

    fn q_width(self) -> usize {
        self.heads() * self.head_dim
    }

    fn kv_width(self) -> usize {
        self.kv_heads * self.head_dim
    }
}

/// A sequence's tokens, and the blocks that it has in the cache.
struct Sequence {
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    blocks: Vec<u32>,
}

fn pool(threads: usize) -> Pool {
    Pool::new(NonZeroUsize::new(threads).unwrap()).unwrap()
}

fn numbers(random: &mut SmallRng, count: usize) -> Vec<f32> {
    (0..count).map(|_| random.random_range(-1.5..1.5)).collect()
}

/// Sequences of the given lengths in shuffled blocks, of which all unused places hold NaN.
fn fill(model: Model, lengths: &[usize], seed: u64) -> (KvCache, Vec<Sequence>) {
    let mut random = SmallRng::seed_from_u64(seed);
    let needed: usize = lengths.iter().map(|length| length.div_ceil(BLOCK_TOKENS)).sum();
    let mut free: Vec<u32> = (0..u32::try_from(needed + 2).unwrap()).collect();
    free.shuffle(&mut random);
    let mut cache = KvCache::new(model.format, 2, free.len(), model.kv_heads, model.head_dim).unwrap();
    let nothing = vec![f32::NAN; model.kv_width()];
    for block in &free {
        for offset in 0..BLOCK_TOKENS {
            cache.append(1, *block, offset, &nothing, &nothing);
        }
    }
    let sequences = lengths.iter().map(|length| {
        let blocks = free.split_off(free.len() - length.div_ceil(BLOCK_TOKENS));
        let q = numbers(&mut random, length * model.q_width());
        let [k, v] = [(); 2].map(|()| numbers(&mut random, length * model.kv_width()));
        // Some by one, then the rest in one go.
        let single = random.random_range(0..=*length);
        for token in 0..single {
            let range = token * model.kv_width()..(token + 1) * model.kv_width();
            let block = blocks[token / BLOCK_TOKENS];
            cache.append(1, block, token % BLOCK_TOKENS, &k[range.clone()], &v[range]);
        }
        let rest = single * model.kv_width()..;
        cache.append_run(&pool(2), 1, &blocks, single, &k[rest.clone()], &v[rest]);
        Sequence { q, k, v, blocks }
    });
    let sequences = sequences.collect();
    (cache, sequences)
}

/// Rows (sequence, position) in one call.
fn call(
    level: Level,
    pool: &Pool,
    model: Model,
    cache: &KvCache,
    sequences: &[Sequence],
    rows: &[(usize, usize)],
) -> Vec<f32> {
    let width = model.q_width();
    let q: Vec<f32> =
        rows.iter().flat_map(|(s, at)| &sequences[*s].q[at * width..(at + 1) * width]).copied().collect();
    let queries: Vec<Query<'_>> = rows
        .iter()
        .map(|(s, at)| Query { position: u32::try_from(*at).unwrap(), blocks: &sequences[*s].blocks })
        .collect();
    let mut out = vec![f32::NAN; q.len()];
    attend_at(level, pool, cache, 1, &q, &queries, model.heads(), Model::SCALE, &mut out);
    out
}

fn exact(model: Model, sequence: &Sequence, position: usize) -> Vec<f64> {
    let stored = |x: f32| match model.format {
        KvFormat::F32 => f64::from(x),
        KvFormat::F16 => f64::from(f16::from_f32(x)),
    };
    let (dim, mut out) = (model.head_dim, Vec::new());
    for head in 0..model.heads() {
        let q = &sequence.q[position * model.q_width() + head * dim..][..dim];
        let at = |token: usize| token * model.kv_width() + head / model.group * dim;
        let scores: Vec<f64> = (0..=position)
            .map(|token| {
                let k = &sequence.k[at(token)..][..dim];
                f64::from(Model::SCALE)
                    * q.iter().zip(k).map(|(q, k)| f64::from(*q) * stored(*k)).sum::<f64>()
            })
            .collect();
        let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = scores.iter().map(|score| (score - largest).exp()).collect();
        let total: f64 = weights.iter().sum();
        out.extend((0..dim).map(|d| {
            let sum: f64 = weights
                .iter()
                .enumerate()
                .map(|(token, weight)| weight * stored(sequence.v[at(token) + d]))
                .sum();
            sum / total
        }));
    }
    out
}

fn close(found: &[f32], expected: &[f64], what: &dyn std::fmt::Debug) {
    for (found, expected) in found.iter().zip(expected) {
        assert!((f64::from(*found) - expected).abs() < 4e-6, "{what:?}: {found}, not {expected}");
    }
}

fn models() -> impl Strategy<Value = Model> {
    (prop::bool::ANY, 1_usize..=3, 1_usize..=9, prop::sample::select(vec![8_usize, 16, 24, 64, 128]))
        .prop_map(|(half, kv_heads, group, head_dim)| Model {
            format: if half { KvFormat::F16 } else { KvFormat::F32 },
            kv_heads,
            group,
            head_dim,
        })
}

#[test]
fn close_to_the_formula_at_each_level() {
    for level in Level::all() {
        for format in [KvFormat::F32, KvFormat::F16] {
            for (kv_heads, group, head_dim) in
                [(3, 3, 64), (2, 6, 128), (12, 1, 32), (1, 2, 8), (2, 1, 16), (1, 9, 24)]
            {
                let model = Model { format, kv_heads, group, head_dim };
                let (cache, sequences) = fill(model, &[1, 70, 600], 7);
                let rows = [
                    (0, 0),
                    (1, 30),
                    (1, 31),
                    (1, 32),
                    (1, 69),
                    (2, 254),
                    (2, 255),
                    (2, 256),
                    (2, 257),
                    (2, 599),
                ];
                let out = call(level, &pool(1), model, &cache, &sequences, &rows);
                for ((s, at), found) in rows.iter().zip(out.chunks(model.q_width())) {
                    close(found, &exact(model, &sequences[*s], *at), &(level, model, s, at));
                }
            }
        }
    }
}

#[test]
fn large_scores_do_not_overflow() {
    let model = Model { format: KvFormat::F32, kv_heads: 1, group: 1, head_dim: 8 };
    let (mut cache, mut sequences) = fill(model, &[300], 8);
    sequences[0].q.fill(100.0);
    for token in 0..300 {
        let k = [if token == 280 { 90.0 } else { -80.0 }; 8];
        let v = [token as f32; 8];
        cache.append(1, sequences[0].blocks[token / BLOCK_TOKENS], token % BLOCK_TOKENS, &k, &v);
    }
    for level in Level::all() {
        let out = call(level, &pool(1), model, &cache, &sequences, &[(0, 299)]);
        assert_eq!(out, [280.0; 8], "{level:?}");
    }
}

#[test]
fn rows_that_see_the_whole_text_share_a_tile() {
    // An encoder's rows: all at the last position.
    let model = Model { format: KvFormat::F32, kv_heads: 12, group: 1, head_dim: 32 };
    let (cache, sequences) = fill(model, &[37], 9);
    let one = &sequences[0];
    let queries = [Query { position: 36, blocks: &one.blocks }; 37];
    let mut out = vec![f32::NAN; one.q.len()];
    attend(&pool(2), &cache, 1, &one.q, &queries, 12, Model::SCALE, &mut out);
    let last = call(Level::best(), &pool(1), model, &cache, &sequences, &[(0, 36)]);
    assert_eq!(out[36 * model.q_width()..], last);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// The contract: company, chunks and threads leave a row's bits alone.
    #[test]
    fn a_row_has_the_same_bits_however_it_is_scheduled(
        model in models(),
        lengths in prop::collection::vec(prop_oneof![1_usize..80, 240..320_usize, 500..560_usize], 1..4),
        seed in any::<u64>(),
    ) {
        let (cache, sequences) = fill(model, &lengths, seed);
        let mut random = SmallRng::seed_from_u64(seed);
        let pools = [pool(1), pool(2), pool(3)];
        for level in Level::all() {
            // One row a call, one thread: decode.
            let watched: Vec<(usize, usize)> = lengths
                .iter()
                .enumerate()
                .flat_map(|(s, length)| [(s, length - 1), (s, random.random_range(0..*length))])
                .collect();
            let alone: Vec<Vec<f32>> =
                watched.iter().map(|row| call(level, &pools[0], model, &cache, &sequences, &[*row])).collect();
            // Chunks of all sequences, several to a call.
            for pool in &pools {
                let mut done = vec![0; lengths.len()];
                while done.iter().zip(&lengths).any(|(done, length)| done < length) {
                    let mut rows = Vec::new();
                    for (s, length) in lengths.iter().enumerate() {
                        let chunk = random.random_range(0..=(length - done[s]).min(150));
                        rows.extend((done[s]..done[s] + chunk).map(|at| (s, at)));
                        done[s] += chunk;
                    }
                    let out = call(level, pool, model, &cache, &sequences, &rows);
                    for (row, found) in rows.iter().zip(out.chunks(model.q_width())) {
                        let Some(place) = watched.iter().position(|watched| watched == row) else { continue };
                        prop_assert!(
                            found.iter().zip(&alone[place]).all(|(a, b)| a.to_bits() == b.to_bits()),
                            "{:?} {:?} {:?}", level, model, row
                        );
                    }
                }
                // The same rows decoded together, in any order.
                let mut rows = watched.clone();
                rows.shuffle(&mut random);
                let out = call(level, pool, model, &cache, &sequences, &rows);
                for (row, found) in rows.iter().zip(out.chunks(model.q_width())) {
                    let place = watched.iter().position(|watched| watched == row).unwrap();
                    prop_assert!(found.iter().zip(&alone[place]).all(|(a, b)| a.to_bits() == b.to_bits()));
                }
            }
        }
    }
}
