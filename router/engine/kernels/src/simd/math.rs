//! Functions of a vector. One implementation each, for softmax and for the activations.

use super::Simd;

/// `e^x` within 2e-7 relative where the result is a normal number: 0 below about -104, infinite above 88.72.
///
/// `2^n e^r` with `n = round(x log2 e)` and a polynomial of degree 6 for `|r| <= ln 2 / 2` (coefficients of Cephes `expf`).
#[inline(always)]
pub fn exp<S: Simd>(simd: S, x: S::Vector) -> S::Vector {
    // Beyond these the result is 0 or infinite anyway, and `scale` stays within its range. A NaN stays NaN: the operand
    // order of `min` and `max` returns the second operand then.
    let x = simd.max(simd.splat(-110.0), simd.min(simd.splat(100.0), x));
    let n = simd.round(simd.mul(x, simd.splat(std::f32::consts::LOG2_E)));
    // ln 2 in two parts, the first with few enough bits that its multiples are exact.
    let r = simd.mul_add(n, simd.splat(-0.693_359_375), x);
    let r = simd.mul_add(n, simd.splat(2.121_944_4e-4), r);
    let coefficients = [1.987_569_1e-4, 1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5];
    let mut p = simd.splat(coefficients[0]);
    for coefficient in &coefficients[1..] {
        p = simd.mul_add(p, r, simd.splat(*coefficient));
    }
    let p = simd.mul_add(p, simd.mul(r, r), simd.add(r, simd.splat(1.0)));
    simd.scale(p, n)
}

/// `x / (1 + e^-x)`
#[inline(always)]
pub fn silu<S: Simd>(simd: S, x: S::Vector) -> S::Vector {
    let e = exp(simd, simd.sub(simd.splat(0.0), x));
    simd.div(x, simd.add(simd.splat(1.0), e))
}

/// `x/2 (1 + erf(x / sqrt 2))`, the exact form, not the one with tanh.
#[inline(always)]
pub fn gelu<S: Simd>(simd: S, x: S::Vector) -> S::Vector {
    let half = simd.mul(x, simd.splat(0.5));
    simd.mul_add(half, erf(simd, simd.mul(x, simd.splat(std::f32::consts::FRAC_1_SQRT_2))), half)
}

/// The error function within 3e-7: a rational approximation on -4..4 (coefficients of Eigen's `erf` for f32).
#[inline(always)]
fn erf<S: Simd>(simd: S, x: S::Vector) -> S::Vector {
    let x = simd.max(simd.splat(-4.0), simd.min(simd.splat(4.0), x));
    let square = simd.mul(x, x);
    let above = [
        -2.726_142_3e-10,
        2.770_681_4e-8,
        -2.101_024e-6,
        -5.692_506_4e-5,
        -7.349_906_3e-4,
        -2.954_6e-3,
        -1.609_603_3e-2,
    ];
    let below = [-1.456_607_2e-5, -2.133_740_6e-4, -1.682_827e-3, -7.373_329e-3, -1.426_473_9e-2];
    let (mut p, mut q) = (simd.splat(above[0]), simd.splat(below[0]));
    for coefficient in &above[1..] {
        p = simd.mul_add(p, square, simd.splat(*coefficient));
    }
    for coefficient in &below[1..] {
        q = simd.mul_add(q, square, simd.splat(*coefficient));
    }
    simd.div(simd.mul(x, p), q)
}
