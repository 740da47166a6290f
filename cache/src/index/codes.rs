//! A vector in 8 bits a dimension: a quarter of the memory that a scan has to read.
//!
//! `v_i ~ scale * c_i`, `c_i` in -127..=127, `scale = max |v_i| / 127`. The error of a cosine is some thousandths, so a scan
//! over codes names candidates and their exact similarity is computed from the vectors.

/// A coded vector.
#[derive(Debug, Clone, PartialEq)]
pub struct Code {
    pub scale: f32,
    pub values: Box<[i8]>,
}

impl Code {
    pub fn of(vector: &[f32]) -> Self {
        let largest = vector.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
        let scale = if largest > 0.0 { largest / 127.0 } else { 1.0 };
        Self { scale, values: vector.iter().map(|value| (value / scale).round() as i8).collect() }
    }
}

/// About the cosine of two coded vectors, each given by its scale and values.
pub fn about(a: (f32, &[i8]), b: (f32, &[i8])) -> f32 {
    dot(a.1, b.1) as f32 * (a.0 * b.0)
}

/// Eight sums over pairs widened to 16 bits: the form that compilers turn into `pmaddwd`.
fn dot(a: &[i8], b: &[i8]) -> i32 {
    let mut sums = [0_i32; 8];
    let (a_chunks, b_chunks) = (a.chunks_exact(16), b.chunks_exact(16));
    let product = |x: i8, y: i8| i32::from(i16::from(x) * i16::from(y));
    let tail: i32 = a_chunks.remainder().iter().zip(b_chunks.remainder()).map(|(x, y)| product(*x, *y)).sum();
    for (x, y) in a_chunks.zip(b_chunks) {
        for lane in 0..8 {
            sums[lane] += product(x[2 * lane], y[2 * lane]) + product(x[2 * lane + 1], y[2 * lane + 1]);
        }
    }
    sums.iter().sum::<i32>() + tail
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::UnitVector;

    proptest! {
        #[test]
        fn codes_are_close(
            a in prop::collection::vec(-1.0_f32..1.0, 48), b in prop::collection::vec(-1.0_f32..1.0, 48),
        ) {
            let (Ok(a), Ok(b)) = (UnitVector::try_new(a), UnitVector::try_new(b)) else { return Ok(()) };
            let (x, y) = (Code::of(a.as_slice()), Code::of(b.as_slice()));
            let error = (about((x.scale, &x.values), (y.scale, &y.values)) - a.dot(&b)).abs();
            prop_assert!(error < 0.02, "{error}");
        }
    }

    #[test]
    fn lengths_that_are_no_multiple_count_whole() {
        let ones = [1_i8; 37];
        assert_eq!(dot(&ones, &ones), 37);
        assert_eq!(dot(&[-127; 384], &[127; 384]), -127 * 127 * 384);
    }
}
