use std::num::NonZeroUsize;

use proptest::prelude::*;

use super::level::Level;
use super::*;

fn pool(threads: usize) -> Pool {
    Pool::new(NonZeroUsize::new(threads).unwrap()).unwrap()
}

struct Case {
    format: Format,
    outputs: usize,
    inputs: usize,
    file: Vec<u8>,
    x: Vec<f32>,
}

impl Case {
    fn new(format: Format, outputs: usize, blocks: usize, rows: usize, seed: u64) -> Self {
        let mut random = testing::random(seed);
        let inputs = blocks * format.block();
        let file = testing::rows(&mut random, format, outputs, inputs);
        let mut x = testing::floats(&mut random, rows * inputs);
        // A block of zeros has no scale.
        x[..format.block()].fill(0.0);
        Self { format, outputs, inputs, file, x }
    }

    fn matrix(&self) -> Matrix {
        Matrix::pack(self.format, self.outputs, self.inputs, &self.file).unwrap()
    }

    fn row_bytes(&self) -> usize {
        self.format.row_bytes(self.inputs).unwrap()
    }

    fn product(&self, pool: &Pool, matrix: &Matrix, x: &[f32]) -> Vec<f32> {
        self.product_at(Level::detected(), pool, matrix, x)
    }

    fn product_at(&self, level: Level, pool: &Pool, matrix: &Matrix, x: &[f32]) -> Vec<f32> {
        let mut input = Input::at(level);
        input.fill(pool, matrix.input_form(), x, self.inputs);
        let mut out = vec![f32::NAN; input.rows() * self.outputs];
        multiply(pool, &input, &mut [(matrix, &mut out)]);
        out
    }

    /// The products in f64, and the sum of the sizes of their terms.
    fn exact(&self) -> Vec<(f64, f64)> {
        let weights: Vec<_> = self
            .file
            .chunks_exact(self.row_bytes())
            .map(|row| testing::dequantise(self.format, row))
            .collect();
        let mut out = Vec::new();
        for x in self.x.chunks_exact(self.inputs) {
            let x = testing::seen(self.format.input_form(), x);
            for weights in &weights {
                let terms = weights.iter().zip(&x).map(|(w, x)| w * x);
                out.push((terms.clone().sum(), terms.map(f64::abs).sum()));
            }
        }
        out
    }
}

/// The share of the size of its terms that a product may be off. Formats with a min take the sum of the activations rounded to f16, as in
/// llama.cpp (half a unit in 2^11 of that part).
fn tolerance(format: Format) -> f64 {
    match format {
        Format::Q4_1 | Format::Q5_1 => 5e-4,
        _ => 1e-6,
    }
}

#[test]
fn products_are_those_of_dequantised_weights() {
    for (seed, format) in Format::ALL.into_iter().enumerate() {
        let case = Case::new(format, 37, 3, 11, seed as u64);
        let got = case.product(&pool(2), &case.matrix(), &case.x);
        for (index, (got, (exact, size))) in got.iter().zip(case.exact()).enumerate() {
            let error = (f64::from(*got) - exact).abs();
            assert!(
                error <= tolerance(format) * size + 1e-7,
                "{format:?} {index}: {got}, exact {exact}, terms {size}"
            );
        }
    }
}

#[test]
fn rows_are_those_of_the_file() {
    for (seed, format) in Format::ALL.into_iter().enumerate() {
        let case = Case::new(format, 19, 2, 1, seed as u64);
        let matrix = case.matrix();
        let mut row = vec![0.0; case.inputs];
        for (output, bytes) in case.file.chunks_exact(case.row_bytes()).enumerate() {
            matrix.row(output, &mut row);
            for (got, exact) in row.iter().zip(testing::dequantise(format, bytes)) {
                assert!(
                    (f64::from(*got) - exact).abs() <= 1e-6 * exact.abs() + 1e-7,
                    "{format:?}: {got}, exact {exact}"
                );
            }
        }
    }
}

#[test]
fn packing_on_threads_changes_nothing_and_sizes_are_predicted() {
    for format in Format::ALL {
        let case = Case::new(format, 70, 2, 1, 5);
        let (one, two) =
            (case.matrix(), Matrix::pack_on(&pool(3), format, 70, case.inputs, &case.file).unwrap());
        assert_eq!(&*one.panels, &*two.panels);
        assert_eq!(one.bytes(), Matrix::packed_bytes(format, 70, case.inputs));
        assert_eq!(one.bytes(), case.row_bytes() * 80, "no more than the file, but for the last panel");
    }
}

#[test]
fn several_products_residual_and_bias() {
    let pool = pool(2);
    let case = Case::new(Format::Q4_1, 50, 2, 3, 1);
    let other = Case::new(Format::Q8_0, 18, 2, 3, 2);
    let bias: Vec<f32> = (0..50).map(|n| n as f32).collect();
    let plain = case.product(&pool, &case.matrix(), &case.x);
    let (matrix, second) = (case.matrix().with_bias(bias.clone()).unwrap(), other.matrix());
    let mut input = Input::new();
    input.fill(&pool, InputForm::Q8, &case.x, case.inputs);
    let (mut a, mut b) = (vec![0.0; 150], vec![0.0; 54]);
    multiply(&pool, &input, &mut [(&matrix, &mut a), (&second, &mut b)]);
    let with_bias: Vec<f32> =
        plain.iter().enumerate().map(|(index, value)| value + bias[index % 50]).collect();
    assert_eq!(a, with_bias);
    assert_eq!(b, other.product(&pool, &second, &case.x));
    multiply_add(&pool, &input, &matrix, &mut a);
    let twice: Vec<f32> = with_bias.iter().map(|value| value + value).collect();
    assert_eq!(a, twice);
}

#[test]
fn multiply_gelu_is_gelu_of_the_product() {
    let pool = pool(2);
    let case = Case::new(Format::F32, 35, 9, 21, 1);
    let matrix = case.matrix().with_bias((0..35).map(|n| n as f32 / 9.0 - 2.0).collect()).unwrap();
    let mut input = Input::new();
    input.fill(&pool, InputForm::F32, &case.x, case.inputs);
    let [mut expected, mut out] = [const { Vec::new() }; 2];
    for out in [&mut expected, &mut out] {
        out.resize(21 * 35, 0.0);
    }
    multiply(&pool, &input, &mut [(&matrix, &mut expected)]);
    crate::activation::gelu(&mut expected);
    multiply_gelu(&pool, &input, &matrix, &mut out);
    assert_eq!(out, expected);
}

#[test]
fn gate_up_is_silu_of_one_product_times_the_other() {
    let pool = pool(2);
    for format in [Format::Q4_1, Format::Q4K, Format::F32] {
        let (gate, up) = (Case::new(format, 35, 2, 9, 1), Case::new(format, 35, 2, 9, 2));
        let (gate_matrix, up_matrix) = (gate.matrix(), up.matrix());
        let mut input = Input::new();
        input.fill(&pool, format.input_form(), &gate.x, gate.inputs);
        let mut out = vec![0.0; 9 * 35];
        gate_up(&pool, &input, &gate_matrix, &up_matrix, &mut out);
        let (a, b) = (gate.product(&pool, &gate_matrix, &gate.x), gate.product(&pool, &up_matrix, &gate.x));
        for ((got, a), b) in out.iter().zip(a).zip(b) {
            let (a, b) = (f64::from(a), f64::from(b));
            let exact = a / (1.0 + (-a).exp()) * b;
            assert!((f64::from(*got) - exact).abs() <= 1e-6 * exact.abs() + 1e-30, "{got}, exact {exact}");
        }
    }
}

#[test]
fn what_is_no_matrix_is_refused_with_its_shape() {
    let error = Matrix::pack(Format::Q4K, 2, 300, &[]).unwrap_err();
    assert_eq!(error.to_string(), "300 inputs are not whole blocks of 256 as Q4K needs (2 outputs)");
    let error = Matrix::pack(Format::F32, 2, 3, &[0; 20]).unwrap_err();
    assert_eq!(error.to_string(), "20 bytes for 2 x 3 weights of F32, which take 24");
    let empty = |outputs, inputs| Matrix::pack(Format::Q8_0, outputs, inputs, &[]).unwrap_err();
    assert_eq!(empty(0, 32), MatrixError::Size { outputs: 0, inputs: 32 });
    assert_eq!(empty(3, 0), MatrixError::Size { outputs: 3, inputs: 0 });
    assert_eq!(empty(usize::MAX, 32), MatrixError::Size { outputs: usize::MAX, inputs: 32 });
    let matrix = Matrix::pack(Format::F32, 2, 1, &[0; 8]).unwrap();
    assert_eq!(matrix.with_bias(vec![0.0]).unwrap_err(), MatrixError::Bias { bias: 1, outputs: 2 });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// The determinism that the engine rests on: a row alone has the bits that it has among others, on any number of threads.
    #[test]
    fn a_row_has_the_same_bits_in_any_company(
        format in prop::sample::select(&Format::ALL[..]),
        outputs in 1usize..80,
        blocks in 1usize..4,
        rows in 1usize..20,
        threads in 1usize..4,
        seed: u64,
    ) {
        let case = Case::new(format, outputs, blocks, rows, seed);
        let matrix = case.matrix();
        let together = case.product(&pool(threads), &matrix, &case.x);
        let alone = pool(1);
        for (x, together) in case.x.chunks_exact(case.inputs).zip(together.chunks_exact(outputs)) {
            let bits = |row: &[f32]| row.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(&case.product(&alone, &matrix, x)), bits(together));
        }
    }

    #[test]
    fn all_levels_give_the_same_bits(
        format in prop::sample::select(&Format::ALL[..]),
        outputs in 1usize..80,
        blocks in 1usize..4,
        rows in 1usize..10,
        seed: u64,
    ) {
        let case = Case::new(format, outputs, blocks, rows, seed);
        let (pool, matrix) = (pool(1), case.matrix());
        let bits = |level| {
            let product = case.product_at(level, &pool, &matrix, &case.x);
            product.iter().map(|value| value.to_bits()).collect::<Vec<_>>()
        };
        for level in Level::available() {
            prop_assert_eq!(bits(level), bits(Level::Portable), "{:?} at {:?}", format, level);
        }
    }
}
