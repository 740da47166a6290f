/// `out[t] = weights . x[t]`, [tokens, rows]. `weights`: [rows, inputs], `x`: [tokens, inputs].
#[must_use]
pub fn multiply(weights: &[f32], x: &[f32], inputs: usize) -> Vec<f64> {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
    x.chunks_exact(inputs).flat_map(|x| weights.chunks_exact(inputs).map(move |row| dot(row, x))).collect()
}

/// `silu(x . gate) * (x . up)`.
#[must_use]
pub fn gated(gate: &[f32], up: &[f32], x: &[f32], inputs: usize) -> Vec<f64> {
    let open = |gate: f64| gate / (1.0 + (-gate).exp());
    multiply(gate, x, inputs).into_iter().zip(multiply(up, x, inputs)).map(|(g, u)| open(g) * u).collect()
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use rand::{Rng, SeedableRng, rngs::SmallRng};
    use reprise_kernels::{
        matrix::{Format, Input, Matrix, gate_up, multiply as cpu_multiply},
        pool::Pool,
    };

    use super::*;

    #[test]
    fn products_are_those_of_the_cpu() {
        let (rows, inputs, tokens) = (24, 64, 5);
        let mut random = SmallRng::seed_from_u64(3);
        let mut numbers =
            |count: usize| -> Vec<f32> { (0..count).map(|_| random.random_range(-1.0..1.0)).collect() };
        let (gate, up, x) = (numbers(rows * inputs), numbers(rows * inputs), numbers(tokens * inputs));
        let pack = |weights: &[f32]| {
            let bytes: Vec<u8> = weights.iter().flat_map(|w| w.to_le_bytes()).collect();
            Matrix::pack(Format::F32, rows, inputs, &bytes).expect("packs")
        };
        let (first, second) = (pack(&gate), pack(&up));
        let pool = Pool::new(NonZeroUsize::MIN).expect("starts");
        let mut input = Input::new();
        input.fill(&pool, first.input_form(), &x, inputs);
        let mut out = vec![0.0; tokens * rows];
        cpu_multiply(&pool, &input, &mut [(&first, &mut out[..])]);
        for (a, b) in out.iter().zip(multiply(&gate, &x, inputs)) {
            assert!((f64::from(*a) - b).abs() < 1e-4, "{a} {b}");
        }
        gate_up(&pool, &input, &first, &second, &mut out);
        for (a, b) in out.iter().zip(gated(&gate, &up, &x, inputs)) {
            assert!((f64::from(*a) - b).abs() < 1e-3, "{a} {b}");
        }
    }
}
