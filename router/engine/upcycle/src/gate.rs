//! The random gate of an upcycled layer.

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{RngCore, SeedableRng},
};

/// Of a gate's numbers, as in arXiv 2212.05055, section 3.
const STANDARD_DEVIATION: f64 = 0.02;
/// The sum of twelve uniform numbers has variance 1.
const UNIFORMS: u32 = 12;

/// `[experts, hidden]` of one layer, row by row. A layer's gate does not depend on which other layers are upcycled.
///
/// About normal: the sum of twelve uniform numbers (Irwin-Hall). It needs no logarithm and no cosine, which differ between
/// the mathematical libraries of machines: the same seed gives the same bits everywhere.
pub(crate) fn gate(seed: u64, layer: u32, numbers: usize) -> Vec<f32> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(layer.into());
    (0..numbers)
        .map(|_| {
            // 24 bits each: the sum and its mean are exact in f64.
            let sum: u64 = (0..UNIFORMS).map(|_| u64::from(random.next_u32() >> 8)).sum();
            let centred = sum as f64 / f64::from(1 << 24) - f64::from(UNIFORMS) / 2.0;
            (centred * STANDARD_DEVIATION) as f32
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_random_and_centred() {
        let numbers = gate(0, 2, 40_000);
        let mean = numbers.iter().map(|x| f64::from(*x)).sum::<f64>() / 40_000.0;
        let variance = numbers.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / 40_000.0;
        // Five standard errors.
        assert!(mean.abs() < 5.0 * 0.02 / 200.0, "{mean}");
        assert!((variance.sqrt() / 0.02 - 1.0).abs() < 5.0 / (2.0_f64 * 40_000.0).sqrt(), "{variance}");
    }

    #[test]
    fn of_its_seed_and_layer_alone() {
        assert_eq!(gate(7, 3, 64), gate(7, 3, 64));
        assert_ne!(gate(7, 3, 64), gate(8, 3, 64));
        assert_ne!(gate(7, 3, 64), gate(7, 4, 64));
        // Frozen: another value is another file, which the manifest's hash would refuse.
        let bits: Vec<u32> = gate(0, 0, 2).into_iter().map(f32::to_bits).collect();
        assert_eq!(bits, [1_010_941_504, 1_028_027_024]);
    }
}
