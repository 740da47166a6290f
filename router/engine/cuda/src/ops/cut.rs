//! How the products of a call's experts are cut where the host knows how many tokens each has: into which tiles, and each product in which
//! blocks.

use super::{Blocks, Matrix, TileSize, product::MOST};
use crate::{
    Device,
    weights::{Form, STEP},
};

/// Results do not depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    pub size: TileSize,
    /// Of the gated product.
    pub gated: Blocks,
    /// Of the product down.
    pub down: Blocks,
}

impl Cut {
    /// As kernels are cut that were not timed.
    const fn of(size: TileSize) -> Self {
        Self { size, gated: size.blocks(), down: size.blocks() }
    }
}

/// What the experts' products take least in. `gate`, `down`: the experts' matrices; `tokens`: of each expert.
#[must_use]
pub fn cut(device: &Device, gate: &Matrix, down: &Matrix, tokens: &[usize]) -> Cut {
    if [gate, down].iter().any(|matrix| matrix.form != Form::Bf16 || matrix.map().is_none()) {
        return Cut::of(TileSize::for_groups(tokens.iter().sum(), tokens.len().max(1)));
    }
    let shapes = [(2 * gate.rows, gate.inputs), (down.rows, down.inputs)];
    least(shapes, tokens, device.multiprocessors() as usize)
}

/// `{group, first token, end, 0}`, as `group_parts` makes them: each group's as equal as steps of 16 allow. `runs`: groups and how many
/// tokens each has, one after the other.
#[must_use]
pub fn tiles(runs: impl IntoIterator<Item = (u32, usize)>, size: TileSize) -> Vec<[u32; 4]> {
    let (mut tiles, mut begin) = (Vec::new(), 0);
    for (group, tokens) in runs {
        for tile in split(tokens, size) {
            tiles.push([group, begin, begin + tile as u32, 0]);
            begin += tile as u32;
        }
    }
    tiles
}

/// Tokens of each tile.
fn split(tokens: usize, size: TileSize) -> impl Iterator<Item = usize> {
    let each = tokens.div_ceil(tokens.div_ceil(size.tokens()).max(1)).next_multiple_of(16).max(16);
    (0..tokens).step_by(each).map(move |first| each.min(tokens - first))
}

/// `shapes`: rows and inputs of the gated product (gate and up) and of the product down.
fn least(shapes: [(usize, usize); 2], tokens: &[usize], processors: usize) -> Cut {
    let cuts = [TileSize::Few, TileSize::Some, TileSize::Many].map(|size| {
        let tiles: Vec<usize> = tokens.iter().flat_map(|tokens| split(*tokens, size)).collect();
        let [gated, down] = shapes.map(|(rows, inputs)| {
            let blocks = [Blocks::Few, Blocks::Slim, Blocks::Some, Blocks::Many];
            let times = blocks.map(|blocks| (cost(blocks, rows, inputs, &tiles, processors), blocks));
            let least = times.into_iter().min_by(|a, b| a.0.total_cmp(&b.0));
            least.map_or((f64::INFINITY, size.blocks()), |(cost, blocks)| (cost.powf(1.0 / 1.5), blocks))
        });
        (gated.0 + down.0, Cut { size, gated: gated.1, down: down.1 })
    });
    let best = cuts.into_iter().min_by(|a, b| a.0.total_cmp(&b.0));
    best.map_or(Cut::of(TileSize::Some), |(_, cut)| cut)
}

/// Bytes a microsecond. Like each number below fitted to 1,680 times of an H100 (`bench/runs/2026-11-28-h100/products.csv`): together they
/// choose cuts that take 1.8 % longer than the best in the mean, 20 % at most.
const BANDWIDTH: f64 = 4.2e6;

/// A product reads its matrix once for each block of tokens, and computes in rounds of as many blocks as run at once. Neither hides the
/// other wholly: so many microseconds to the power of 1.5, as this is asked before each call.
fn cost(blocks: Blocks, rows: usize, inputs: usize, tiles: &[usize], processors: usize) -> f64 {
    let of = blocks.variant();
    // Blocks at once; microseconds of a step and of the outcome. Of many, two share a tile.
    let (of_rows, of_tokens, at_once, step, outcome) = match blocks {
        Blocks::Narrow | Blocks::Few => (of.rows, of.tokens, 2 * processors, 0.18, 1.9),
        Blocks::Slim => (of.rows, of.tokens, 2 * processors, 0.19, 1.4),
        Blocks::Some => (of.rows, of.tokens, 2 * processors, 0.35, 1.6),
        Blocks::Many => {
            let mean = tiles.iter().sum::<usize>() as f64 / tiles.len().max(1) as f64;
            (MOST.rows, 2 * MOST.tokens, processors / 2, 0.36 + 0.0005 * mean, 1.7)
        }
    };
    let reads = tiles.iter().map(|tokens| tokens.div_ceil(of_tokens)).sum::<usize>();
    let rounds = (rows.div_ceil(of_rows) * reads).div_ceil(at_once.max(1));
    let computing = rounds as f64 * (inputs.div_ceil(STEP) as f64 * step + outcome);
    let reading = (reads * rows * inputs * size_of::<half::bf16>()) as f64 / BANDWIDTH;
    computing * computing.sqrt() + reading * reading.sqrt()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn tiles_cover_each_token_once_and_hold_one_group() {
        for runs in [
            vec![(3, 1)],
            vec![(0, 5), (7, 16)],
            vec![(1, 17), (2, 700), (5, 64)],
            vec![(4, 321)],
            vec![(1, 0), (2, 3)],
        ] {
            for size in [TileSize::Few, TileSize::Some, TileSize::Many] {
                let groups: Vec<u32> =
                    runs.iter().flat_map(|(group, tokens)| vec![*group; *tokens]).collect();
                let mut next = 0;
                for [group, first, end, _] in tiles(runs.iter().copied(), size) {
                    assert_eq!(first, next);
                    assert!(end > first && (end - first) as usize <= size.tokens(), "{size:?} {first} {end}");
                    assert!(groups[first as usize..end as usize].iter().all(|of| *of == group));
                    next = end;
                }
                assert_eq!(next as usize, groups.len());
            }
        }
    }

    /// Microseconds of (product, size of tiles, blocks) by shape and tokens of each expert.
    type Measured = HashMap<(String, Vec<usize>), HashMap<[String; 3], f64>>;

    fn measured() -> Measured {
        let text = include_str!("../../bench/runs/2026-11-28-h100/products.csv");
        let mut measured = Measured::new();
        for line in text.lines().filter(|line| !line.starts_with('#')).skip(1) {
            let [shape, parts, product, size, blocks, microseconds, _floor] =
                line.split(',').collect::<Vec<_>>()[..]
            else {
                panic!("{line}");
            };
            let tokens = parts.split(' ').map(|count| count.parse().unwrap()).collect();
            let key = [product, size, blocks].map(str::to_owned);
            measured
                .entry((shape.to_owned(), tokens))
                .or_default()
                .insert(key, microseconds.parse().unwrap());
        }
        measured
    }

    #[test]
    fn a_cut_is_near_the_best_of_all_that_were_measured() {
        let measured = measured();
        let mut beyond = Vec::new();
        for ((shape, tokens), times) in &measured {
            let (hidden, width) = match shape.as_str() {
                "mixtral-8x7b" => (4096, 14_336),
                "olmoe-1b-7b" => (2048, 1024),
                "smollm2" => (576, 1536),
                _ => panic!("{shape}"),
            };
            let time = |product: &str, size: TileSize, blocks: Blocks| {
                times[&[product.to_owned(), format!("{size:?}"), format!("{blocks:?}")]]
            };
            let of = |cut: Cut| time("gate and up", cut.size, cut.gated) + time("down", cut.size, cut.down);
            let all = [TileSize::Few, TileSize::Some, TileSize::Many].into_iter().flat_map(|size| {
                Blocks::ALL
                    .iter()
                    .flat_map(move |gated| Blocks::ALL.map(|down| Cut { size, gated: *gated, down }))
            });
            let best = all.map(of).min_by(f64::total_cmp).unwrap();
            let cut = least([(2 * width, hidden), (hidden, width)], tokens, 132);
            let ratio = of(cut) / best;
            assert!(ratio < 1.2, "{shape} {tokens:?}: {cut:?} takes {ratio:.2} of the best");
            beyond.push(ratio - 1.0);
        }
        assert_eq!(beyond.len(), 56);
        assert!(beyond.iter().sum::<f64>() / (beyond.len() as f64) < 0.02, "{beyond:?}");
    }

    #[test]
    fn an_expert_with_many_tokens_among_experts_with_few_is_read_once() {
        let mixtral = [(2 * 14_336, 4096), (4096, 14_336)];
        for tokens in [vec![98, 64, 38, 38, 38], vec![70, 40, 20, 20], vec![196, 25, 25, 25]] {
            assert_eq!(least(mixtral, &tokens, 132).size, TileSize::Many, "{tokens:?}");
        }
    }

    #[test]
    fn nothing_to_compute_is_no_tile() {
        assert_eq!(split(0, TileSize::Few).count(), 0);
        assert!(tiles([], TileSize::Many).is_empty());
        least([(64, 64), (64, 64)], &[], 132);
    }
}
