/// `x / rms(x) * weight`, row by row.
#[must_use]
pub fn rms_norm(x: &[f32], weight: &[f32], eps: f32) -> Vec<f64> {
    let norm = |row: &[f32]| {
        let squares: f64 = row.iter().map(|x| f64::from(*x).powi(2)).sum();
        let factor = 1.0 / (squares / row.len() as f64 + f64::from(eps)).sqrt();
        row.iter().zip(weight).map(|(x, w)| f64::from(*x) * factor * f64::from(*w)).collect::<Vec<_>>()
    };
    x.chunks_exact(weight.len()).flat_map(norm).collect()
}

/// A head turned by its position: pair `i` by the angle `position * inverse_frequencies[i]`.
#[must_use]
pub fn rotate(head: &[f64], position: u32, inverse_frequencies: &[f32], interleaved: bool) -> Vec<f64> {
    let pairs = inverse_frequencies.len();
    let mut out = head.to_vec();
    for (pair, frequency) in inverse_frequencies.iter().enumerate() {
        let (i, j) = if interleaved { (2 * pair, 2 * pair + 1) } else { (pair, pair + pairs) };
        // As tables are made: the angle in f32.
        let (sin, cos) = f64::from(position as f32 * frequency).sin_cos();
        out[i] = head[i] * cos - head[j] * sin;
        out[j] = head[i] * sin + head[j] * cos;
    }
    out
}

/// What a row gains: the weighted sum of its parts, and the shared one times the sigmoid of its gate.
#[must_use]
pub fn join(parts: &[&[f32]], weights: &[f32], shared: Option<(&[f32], f32)>) -> Vec<f64> {
    let mut sum = vec![0.0; parts.first().map_or(0, |part| part.len())];
    for (part, weight) in parts.iter().zip(weights) {
        for (sum, x) in sum.iter_mut().zip(*part) {
            *sum += f64::from(*weight) * f64::from(*x);
        }
    }
    if let Some((part, gate)) = shared {
        let open = 1.0 / (1.0 + f64::from(-gate).exp());
        for (sum, x) in sum.iter_mut().zip(part) {
            *sum += open * f64::from(*x);
        }
    }
    sum
}

/// The two largest logits, of equal ones the lower token; NaN and minus infinity are passed over. `u32::MAX`: there is none.
#[must_use]
pub fn argmax(logits: &[f32]) -> [u32; 2] {
    let mut order: Vec<u32> =
        (0u32..).zip(logits).filter(|(_, x)| **x > f32::NEG_INFINITY).map(|(token, _)| token).collect();
    order.sort_by(|a, b| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b)));
    [0, 1].map(|i| order.get(i).copied().unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use reprise_kernels::{
        norm::rms_norm as cpu_norm,
        pool::Pool,
        rope::{Pairing, Rotary},
    };

    use super::*;

    #[test]
    fn norms_and_turns_are_those_of_the_cpu() {
        let pool = Pool::new(NonZeroUsize::MIN).expect("starts");
        let x: Vec<f32> = (0..64).map(|i| (i as f32 * 0.7).sin()).collect();
        let weight: Vec<f32> = (0..32).map(|i| 1.0 + i as f32 / 32.0).collect();
        let mut expected = vec![0.0; 64];
        cpu_norm(&pool, &x, &weight, 1e-5, &mut expected);
        for (a, b) in rms_norm(&x, &weight, 1e-5).iter().zip(&expected) {
            assert!((a - f64::from(*b)).abs() < 1e-5);
        }
        let frequencies: Vec<f32> = (0..16).map(|i| 10_000f32.powf(-(i as f32) / 16.0)).collect();
        for (pairing, interleaved) in [(Pairing::Halves, false), (Pairing::Interleaved, true)] {
            let rotary = Rotary::new(&frequencies, 1.0, 50, pairing);
            let mut turned = x[..32].to_vec();
            rotary.turn_rows(&pool, &[37], &mut turned, 32);
            let head: Vec<f64> = x[..32].iter().map(|x| f64::from(*x)).collect();
            for (a, b) in rotate(&head, 37, &frequencies, interleaved).iter().zip(turned) {
                assert!((a - f64::from(b)).abs() < 1e-5, "{a} {b}");
            }
        }
    }

    #[test]
    fn sums_are_weighted() {
        let joined = join(&[&[1.0, 2.0], &[10.0, 20.0]], &[0.5, 0.25], Some((&[4.0, 8.0], 0.0)));
        assert_eq!(joined, [0.5 + 2.5 + 2.0, 1.0 + 5.0 + 4.0]);
    }

    #[test]
    fn equal_logits_go_to_the_lower_token() {
        assert_eq!(argmax(&[1.0, f32::NAN, 3.0, 3.0, f32::NEG_INFINITY]), [2, 3]);
        assert_eq!(argmax(&[f32::NAN, 1.0]), [1, u32::MAX]);
        assert_eq!(argmax(&[f32::NEG_INFINITY]), [u32::MAX, u32::MAX]);
    }
}
