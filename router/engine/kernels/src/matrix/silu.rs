//! `silu(gate) * up` on vectors of 16, with the same bits wherever it is compiled: only operations that IEEE 754 rounds.

use super::format::LANES;
use super::level::Level;

/// `gate = gate / (1 + exp(-gate)) * up`; relative error under 1e-6.
pub(super) fn silu_mul(level: Level, gates: &mut [[f32; LANES]], ups: &[[f32; LANES]]) {
    match level {
        // SAFETY: the level was detected.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => unsafe { avx512(gates, ups) },
        // SAFETY: the level was detected.
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => unsafe { avx2(gates, ups) },
        _ => any(gates, ups),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512dq,fma")]
fn avx512(gates: &mut [[f32; LANES]], ups: &[[f32; LANES]]) {
    any(gates, ups);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2(gates: &mut [[f32; LANES]], ups: &[[f32; LANES]]) {
    any(gates, ups);
}

#[inline(always)]
fn any(gates: &mut [[f32; LANES]], ups: &[[f32; LANES]]) {
    for (gates, ups) in gates.iter_mut().zip(ups) {
        for (gate, up) in gates.iter_mut().zip(ups) {
            *gate = *gate / (1.0 + exp(-*gate)) * up;
        }
    }
}

/// Cephes' `expf`: `exp(x) = 2^n * exp(r)`, `n = round(x / ln 2)`, `r` by subtracting n ln 2 in two parts, a polynomial of degree 6.
/// Beyond about 88.4 it is infinite, under -87 it stays at 1e-38.
#[inline(always)]
fn exp(x: f32) -> f32 {
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    /// 1.5 * 2^23: what is added to it is rounded to a whole number, which stands in its low bits.
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 89.0);
    let whole = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = whole - ROUND;
    let r = n.mul_add(-LN_2_LOW, n.mul_add(-LN_2_HIGH, x));
    let p = 1.987_569_1e-4_f32;
    let p = p.mul_add(r, 1.398_199_9e-3);
    let p = p.mul_add(r, 8.333_452e-3);
    let p = p.mul_add(r, 4.166_579_6e-2);
    let p = p.mul_add(r, 1.666_666_5e-1);
    let p = p.mul_add(r, 0.5);
    let p = p.mul_add(r * r, r) + 1.0;
    let power = whole.to_bits().wrapping_add(127).wrapping_shl(23);
    p * f32::from_bits(power)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn silu_times(gate: f32, up: f32) -> f32 {
        let mut results = Level::available().map(|level| {
            let mut gates = [[gate; LANES]; 3];
            silu_mul(level, &mut gates, &[[up; LANES]; 3]);
            gates[2][15]
        });
        let first = results.next().unwrap();
        assert!(results.all(|result| result.to_bits() == first.to_bits()), "levels differ at {gate}");
        first
    }

    #[test]
    fn silu_is_close_to_f64_over_its_range() {
        for step in -9000..=9000 {
            let x = step as f32 * 0.01;
            let exact = f64::from(x) / (1.0 + (-f64::from(x)).exp()) * 3.0;
            let got = silu_times(x, 3.0);
            let error = (f64::from(got) - exact).abs();
            assert!(error <= 1e-6 * exact.abs() + 1e-35, "silu({x}) * 3 = {got}, exact {exact}");
        }
    }

    #[test]
    fn silu_of_extremes_is_their_limit() {
        assert_eq!(silu_times(1e30, 1.0), 1e30);
        assert_eq!(silu_times(-1e38, 1.0), 0.0);
        assert!(silu_times(f32::NAN, 1.0).is_nan());
    }
}
