//! All matrix products of a forward pass of the default models, each layer with weights of its own.

use std::hint::black_box;

use reprise_kernels::matrix::{Format, Input, InputForm, Matrix, gate_up, multiply, multiply_add};
use reprise_kernels::pool::Pool;

use super::machine::Machine;
use super::{Line, activations, best, weights};

pub struct Model {
    pub name: &'static str,
    layers: usize,
    hidden: usize,
    feed_forward: usize,
    /// Outputs of k and of v.
    kv: usize,
    vocabulary: usize,
    main: Format,
    /// Of v and down in every second layer (llama.cpp's `_M` mixes).
    second: Format,
    head: Format,
}

pub const MODELS: &[Model] = &[
    Model {
        name: "smollm2 135m all",
        layers: 30,
        hidden: 576,
        feed_forward: 1536,
        kv: 192,
        vocabulary: 49152,
        main: Format::Q4_1,
        second: Format::Q4_1,
        head: Format::Q8_0,
    },
    Model {
        name: "qwen2.5 1.5b all",
        layers: 28,
        hidden: 1536,
        feed_forward: 8960,
        kv: 256,
        vocabulary: 151_936,
        main: Format::Q4K,
        second: Format::Q6K,
        head: Format::Q6K,
    },
];

struct Layer {
    q: Matrix,
    k: Matrix,
    v: Matrix,
    o: Matrix,
    gate: Matrix,
    up: Matrix,
    down: Matrix,
}

impl Model {
    pub fn measure(&self, pool: &Pool, machine: &Machine) -> Result<(), Box<dyn std::error::Error>> {
        let pack = |format, outputs, inputs| {
            Matrix::pack_on(pool, format, outputs, inputs, &weights(format, outputs, inputs))
        };
        let mut layers = Vec::new();
        for layer in 0..self.layers {
            let second = if layer % 2 == 0 { self.second } else { self.main };
            layers.push(Layer {
                q: pack(self.main, self.hidden, self.hidden)?,
                k: pack(self.main, self.kv, self.hidden)?,
                v: pack(second, self.kv, self.hidden)?,
                o: pack(self.main, self.hidden, self.hidden)?,
                gate: pack(self.main, self.feed_forward, self.hidden)?,
                up: pack(self.main, self.feed_forward, self.hidden)?,
                down: pack(second, self.hidden, self.feed_forward)?,
            });
        }
        let head = pack(self.head, self.vocabulary, self.hidden)?;
        for rows in [1, 2, 4, 8, 200] {
            // Prefill needs logits of its last row only.
            let last = if rows > 8 { 1 } else { rows };
            let mut pass = Pass::new(self, rows, last);
            let seconds = best(|| pass.run(pool, &layers, &head));
            black_box(&pass.logits);
            let body: usize = layers.iter().map(Layer::bytes).sum();
            let each = self.hidden * (2 * self.hidden + 2 * self.kv + 3 * self.feed_forward);
            let operations = 2 * (rows * self.layers * each + last * self.hidden * self.vocabulary);
            let line = Line { weights: body + head.bytes(), operations, seconds };
            println!(
                "{},mixed,,,{rows},{},{:.1},{:.1},{:.1},{:.2},{:.1}",
                self.name,
                pool.threads(),
                seconds * 1e6,
                line.weights as f64 / seconds / 1e9,
                line.operations as f64 / seconds / 1e9,
                line.roof(machine, InputForm::Q8),
                rows as f64 / seconds,
            );
        }
        Ok(())
    }
}

impl Layer {
    fn bytes(&self) -> usize {
        [&self.q, &self.k, &self.v, &self.o, &self.gate, &self.up, &self.down].map(Matrix::bytes).iter().sum()
    }
}

struct Pass {
    hidden: usize,
    last: usize,
    x: Vec<f32>,
    residual: Vec<f32>,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    inner: Vec<f32>,
    logits: Vec<f32>,
    input: Input,
}

impl Pass {
    fn new(model: &Model, rows: usize, last: usize) -> Self {
        Self {
            hidden: model.hidden,
            last,
            x: activations(rows * model.hidden),
            residual: vec![0.0; rows * model.hidden],
            q: vec![0.0; rows * model.hidden],
            k: vec![0.0; rows * model.kv],
            v: vec![0.0; rows * model.kv],
            inner: vec![0.0; rows * model.feed_forward],
            logits: vec![0.0; last * model.vocabulary],
            input: Input::new(),
        }
    }

    fn run(&mut self, pool: &Pool, layers: &[Layer], head: &Matrix) {
        for layer in layers {
            self.input.fill(pool, layer.q.input_form(), &self.x, self.hidden);
            multiply(
                pool,
                &self.input,
                &mut [(&layer.q, &mut self.q), (&layer.k, &mut self.k), (&layer.v, &mut self.v)],
            );
            // In place of attention: the queries themselves.
            self.input.fill(pool, layer.o.input_form(), &self.q, self.hidden);
            multiply_add(pool, &self.input, &layer.o, &mut self.residual);
            self.input.fill(pool, layer.gate.input_form(), &self.x, self.hidden);
            gate_up(pool, &self.input, &layer.gate, &layer.up, &mut self.inner);
            self.input.fill(pool, layer.down.input_form(), &self.inner, layer.down.inputs());
            multiply_add(pool, &self.input, &layer.down, &mut self.residual);
        }
        self.input.fill(pool, head.input_form(), &self.x[..self.last * self.hidden], self.hidden);
        multiply(pool, &self.input, &mut [(head, &mut self.logits)]);
    }
}
