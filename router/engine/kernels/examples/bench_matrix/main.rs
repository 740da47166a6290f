//! Times of matrix products in the shapes of the default models, beside what the machine could do. CSV on standard output.
//!
//! `cargo run --release -p reprise-kernels --example bench_matrix [THREADS [FILTER]] > matrix.csv`; FILTER is a part of a shape's name.
//!
//! Weights come from memory, as when decoding: each measurement goes round copies that together exceed the caches. `roof` is the larger of
//! two times: weights over the measured read bandwidth, operations over the measured peak of the instruction that the format uses.
//! Lines with format `mixed` are all products of a forward pass, quantisation of activations included.

mod machine;
mod models;

use std::hint::black_box;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use reprise_kernels::matrix::{Format, Input, InputForm, Matrix, gate_up, multiply};
use reprise_kernels::pool::Pool;

use machine::Machine;

/// Weights of one measurement: more than the caches hold.
const COLD_BYTES: usize = 128 << 20;
const TIME: Duration = Duration::from_millis(120);
const ROWS: [usize; 5] = [1, 2, 8, 32, 200];

struct Shape {
    name: &'static str,
    format: Format,
    outputs: usize,
    inputs: usize,
    /// Two matrices and `silu(gate) * up`.
    gated: bool,
}

const fn shape(name: &'static str, format: Format, outputs: usize, inputs: usize) -> Shape {
    Shape { name, format, outputs, inputs, gated: false }
}

const fn gated(name: &'static str, format: Format, outputs: usize, inputs: usize) -> Shape {
    Shape { name, format, outputs, inputs, gated: true }
}

const SHAPES: &[Shape] = &[
    shape("smollm2 q", Format::Q4_1, 576, 576),
    gated("smollm2 gate up", Format::Q4_1, 1536, 576),
    shape("smollm2 down", Format::Q4_1, 576, 1536),
    shape("smollm2 head", Format::Q8_0, 49152, 576),
    shape("qwen q", Format::Q4K, 1536, 1536),
    gated("qwen gate up", Format::Q4K, 8960, 1536),
    shape("qwen down", Format::Q6K, 1536, 8960),
    shape("qwen head", Format::Q6K, 151_936, 1536),
    shape("minilm q", Format::F32, 384, 384),
    shape("minilm up", Format::F32, 1536, 384),
    shape("minilm down", Format::F32, 384, 1536),
    shape("square q4_0", Format::Q4_0, 2048, 2048),
    shape("square q5_0", Format::Q5_0, 2048, 2048),
    shape("square q5_1", Format::Q5_1, 2048, 2048),
    shape("square q5_k", Format::Q5K, 2048, 2048),
    shape("square f16", Format::F16, 2048, 2048),
    shape("square bf16", Format::BF16, 2048, 2048),
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let threads = std::env::args().nth(1).map(|threads| threads.parse()).transpose()?;
    let filter = std::env::args().nth(2).unwrap_or_default();
    println!(
        "shape,format,outputs,inputs,rows,threads,microseconds,weights_gb_s,gflop_s,roof_share,tokens_s"
    );
    for threads in threads.map_or(vec![1, 2], |threads| vec![threads]) {
        let pool = Pool::new(NonZeroUsize::new(threads).ok_or("no threads")?)?;
        let machine = Machine::measure(&pool);
        println!(
            "# {threads} threads: read {:.1} GB/s, f32 peak {:.0} GFLOP/s, 8-bit peak {:.0} GOP/s",
            machine.bandwidth / 1e9,
            machine.floats / 1e9,
            machine.integers / 1e9
        );
        for shape in SHAPES.iter().filter(|shape| shape.name.contains(&filter)) {
            measure(&pool, &machine, shape)?;
        }
        for model in models::MODELS.iter().filter(|model| model.name.contains(&filter)) {
            model.measure(&pool, &machine)?;
        }
    }
    Ok(())
}

fn measure(pool: &Pool, machine: &Machine, shape: &Shape) -> Result<(), Box<dyn std::error::Error>> {
    let &Shape { name, format, outputs, inputs, gated } = shape;
    let bytes = weights(format, outputs, inputs);
    let copies = (COLD_BYTES / bytes.len()).clamp(2, 64);
    let matrices = (0..copies).map(|_| Matrix::pack_on(pool, format, outputs, inputs, &bytes));
    let matrices = matrices.collect::<Result<Vec<_>, _>>()?;
    let count = if gated { 2 } else { 1 };
    for rows in ROWS {
        if rows * outputs > 10_000_000 {
            continue;
        }
        let x = activations(rows * inputs);
        let mut input = Input::new();
        input.fill(pool, format.input_form(), &x, inputs);
        let mut out = vec![0.0; rows * outputs];
        let mut next = 0;
        let seconds = best(|| {
            let matrix = &matrices[next % copies];
            if gated {
                gate_up(pool, &input, matrix, &matrices[(next + 1) % copies], &mut out);
            } else {
                multiply(pool, &input, &mut [(matrix, &mut out)]);
            }
            next += count;
        });
        black_box(&out);
        let line = Line {
            weights: matrices[0].bytes() * count,
            operations: 2 * rows * outputs * inputs * count,
            seconds,
        };
        let roof = line.roof(machine, format.input_form());
        println!(
            "{name},{format:?},{outputs},{inputs},{rows},{},{:.1},{:.1},{:.1},{roof:.2},",
            pool.threads(),
            seconds * 1e6,
            line.weights as f64 / seconds / 1e9,
            line.operations as f64 / seconds / 1e9,
        );
    }
    Ok(())
}

struct Line {
    weights: usize,
    operations: usize,
    seconds: f64,
}

impl Line {
    fn roof(&self, machine: &Machine, form: InputForm) -> f64 {
        let peak = if form == InputForm::F32 { machine.floats } else { machine.integers };
        (self.weights as f64 / machine.bandwidth).max(self.operations as f64 / peak) / self.seconds
    }
}

/// The median of the times of `call`, in seconds.
fn best(mut call: impl FnMut()) -> f64 {
    call();
    let start = Instant::now();
    let mut times = Vec::new();
    while start.elapsed() < TIME || times.len() < 5 {
        let start = Instant::now();
        call();
        times.push(start.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Bytes whose halves and floats are ordinary numbers.
fn weights(format: Format, outputs: usize, inputs: usize) -> Vec<u8> {
    let row = format.row_bytes(inputs).unwrap_or_default();
    let byte = |index: usize| (index.wrapping_mul(0x9e37_79b9) >> 16) as u8 & 0x1f | 0x20;
    let block: Vec<u8> = (0..row).map(byte).collect();
    block.repeat(outputs)
}

fn activations(count: usize) -> Vec<f32> {
    (0..count).map(|index| (index.wrapping_mul(0x9e37_79b9) >> 8 & 0xffff) as f32 / 32768.0 - 1.0).collect()
}
