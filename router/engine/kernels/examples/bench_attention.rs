//! Times attention: decode of one token after 1,024 and 4,096, and a prefill of 512.
//!
//! `bench_attention OUT` writes OUT/raw.csv (a line a call) and OUT/summary.md. Each round takes one call of each case in
//! turn, on a cache of 30 layers, of which each call takes the next: as in a model, a call finds no keys of its own in the cache
//! of the core.

use std::{
    env,
    error::Error,
    fmt::Write as _,
    fs,
    num::NonZeroUsize,
    path::Path,
    time::{Duration, Instant},
};

use rand::{Rng, SeedableRng, rngs::SmallRng};
use reprise_kernels::{
    attention::{BLOCK_TOKENS, KvCache, KvFormat, Query, attend},
    pool::Pool,
};

const LAYERS: usize = 30;
const LONGEST: usize = 4096;
const TIME: Duration = Duration::from_secs(40);

struct Model {
    name: &'static str,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
}

const MODELS: [Model; 2] = [
    Model { name: "SmolLM2-135M", heads: 9, kv_heads: 3, head_dim: 64 },
    Model { name: "Qwen2.5-1.5B", heads: 12, kv_heads: 2, head_dim: 128 },
];

/// Rows of a call, and the tokens that the last of them sees.
const CASES: [(&str, usize, usize); 3] =
    [("decode at 1,024", 1, 1024), ("decode at 4,096", 1, LONGEST), ("prefill of 512", 512, 512)];

const CALLS_PER_CACHE: usize = CASES.len() * 2;

struct Setting<'a> {
    model: &'a Model,
    format: KvFormat,
    cache: &'a KvCache,
    case: (&'static str, usize, usize),
    threads: usize,
    micros: Vec<f64>,
}

fn filled(model: &Model, format: KvFormat) -> Result<KvCache, Box<dyn Error>> {
    let mut random = SmallRng::seed_from_u64(1);
    let (blocks, width) = (LONGEST / BLOCK_TOKENS, model.kv_heads * model.head_dim);
    let mut cache = KvCache::new(format, LAYERS, blocks, model.kv_heads, model.head_dim)?;
    let token: Vec<f32> = (0..2 * width).map(|_| random.random_range(-1.0..1.0)).collect();
    for layer in 0..LAYERS {
        for block in 0..u32::try_from(blocks)? {
            (0..BLOCK_TOKENS).for_each(|at| cache.append(layer, block, at, &token[..width], &token[width..]));
        }
    }
    Ok(cache)
}

impl Setting<'_> {
    fn call(&mut self, pool: &Pool, layer: usize, table: &[u32]) {
        let (_, rows, tokens) = self.case;
        let Model { heads, head_dim, .. } = *self.model;
        let q: Vec<f32> = (0..rows * heads * head_dim).map(|at| (at % 13) as f32 * 0.1 - 0.6).collect();
        let mut out = vec![0.0; q.len()];
        let position = |row: usize| u32::try_from(tokens - rows + row).unwrap_or(0);
        let queries: Vec<Query<'_>> =
            (0..rows).map(|row| Query { position: position(row), blocks: table }).collect();
        let begin = Instant::now();
        attend(pool, self.cache, layer, &q, &queries, heads, 0.125, &mut out);
        self.micros.push(begin.elapsed().as_secs_f64() * 1e6);
        std::hint::black_box(&out);
    }

    fn row(&mut self, summary: &mut String) -> std::fmt::Result {
        self.micros.sort_by(f64::total_cmp);
        let at = |part: f64| self.micros[((self.micros.len() - 1) as f64 * part) as usize];
        let (name, rows, tokens) = self.case;
        // Half of a square, for a prefill.
        let pairs = if rows == 1 { tokens } else { rows * (rows + 1) / 2 };
        let operations = (pairs * self.model.heads * self.model.head_dim * 4) as f64;
        let number = if self.format == KvFormat::F32 { 4 } else { 2 };
        let bytes = (tokens * self.model.kv_heads * self.model.head_dim * 2 * number) as f64;
        writeln!(
            summary,
            "| {} | {:?} | {name} | {} | {:.0} ({:.0} to {:.0}) | {:.1} | {:.1} |",
            self.model.name,
            self.format,
            self.threads,
            at(0.5),
            at(0.25),
            at(0.75),
            operations / at(0.5) / 1e3,
            bytes / at(0.5) / 1e3,
        )
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let out = env::args().nth(1).ok_or("usage: bench_attention OUT")?;
    let pools = [1, 2].map(|threads| Pool::new(NonZeroUsize::new(threads).unwrap_or(NonZeroUsize::MIN)));
    let [one, two] = pools;
    let pools = [one?, two?];
    let mut caches = Vec::new();
    for model in &MODELS {
        for format in [KvFormat::F32, KvFormat::F16] {
            caches.push((model, format, filled(model, format)?));
        }
    }
    let mut settings = Vec::new();
    for (model, format, cache) in &caches {
        for case in CASES {
            for threads in 1..=2 {
                settings.push(Setting { model, format: *format, cache, case, threads, micros: Vec::new() });
            }
        }
    }
    let table: Vec<u32> = (0..u32::try_from(LONGEST / BLOCK_TOKENS)?).collect();
    let begin = Instant::now();
    let mut round = 0;
    let mut raw = String::from("round,model,kv,case,threads,micros\n");
    while begin.elapsed() < TIME && round < 300 {
        for (number, setting) in settings.iter_mut().enumerate() {
            // No two of a round share a layer of a cache.
            let layer = (round * CALLS_PER_CACHE + number % CALLS_PER_CACHE) % LAYERS;
            setting.call(&pools[setting.threads - 1], layer, &table);
            let Setting { model, format, case, threads, ref micros, .. } = *setting;
            let last = micros.last().copied().unwrap_or(0.0);
            writeln!(raw, "{round},{},{format:?},\"{}\",{threads},{last:.1}", model.name, case.0)?;
        }
        round += 1;
    }
    let mut summary = format!(
        "# Attention of one layer\n\n{round} rounds of one call each. Microseconds: median (quartiles). GFLOP/s count 4 operations for \
         each visible token, query head and dimension; GB/s the keys and values once.\n\n\
         | model | KV | case | threads | µs | GFLOP/s | GB/s |\n|---|---|---|---|---|---|---|\n"
    );
    for setting in &mut settings {
        setting.row(&mut summary)?;
    }
    fs::create_dir_all(&out)?;
    fs::write(Path::new(&out).join("raw.csv"), raw)?;
    fs::write(Path::new(&out).join("summary.md"), &summary)?;
    print!("{summary}");
    Ok(())
}
