//! One pass over a row of logits, in blocks: what all other steps begin from.
//!
//! A block's largest logit lets every later step skip blocks that cannot matter: the greedy choice looks into one block
//! of some thousand, the `k` likeliest tokens into about `k`. So a whole vocabulary is read once, by a loop that the
//! compiler turns into SIMD.

/// Logits per block. Smaller ones make longer lists of maxima, larger ones more reading in the blocks that matter.
pub(super) const BLOCK: usize = 64;
/// Independent chains, so that the loops below become vector instructions.
const LANES: usize = 16;

/// The largest logit of each block; minus infinity where there is no number. NaN is passed over.
#[derive(Debug)]
pub(super) struct Maxima {
    of_blocks: Vec<f32>,
    top: f32,
}

impl Maxima {
    pub(super) fn of(logits: &[f32]) -> Self {
        let of_blocks: Vec<f32> = logits.chunks(BLOCK).map(largest).collect();
        let top = largest(&of_blocks);
        Self { of_blocks, top }
    }

    /// The largest logit of all; minus infinity if none is a number above that.
    pub(super) fn top(&self) -> f32 {
        self.top
    }

    /// A logit that at least `count` tokens reach, and not many more; minus infinity if there are fewer blocks.
    /// (Each of the `count` largest maxima is such a token.)
    pub(super) fn reached_by(&self, count: usize) -> f32 {
        let Some(index) = count.checked_sub(1).filter(|index| *index < self.of_blocks.len()) else {
            return f32::NEG_INFINITY;
        };
        let mut maxima = self.of_blocks.clone();
        *maxima.select_nth_unstable_by(index, |a, b| b.total_cmp(a)).1
    }

    /// Tokens whose logit is at least `floor` and above minus infinity, ascending.
    pub(super) fn tokens_from(&self, floor: f32, logits: &[f32]) -> impl Iterator<Item = (u32, f32)> {
        let blocks = (0u32..).step_by(BLOCK).zip(logits.chunks(BLOCK)).zip(&self.of_blocks);
        blocks.filter(move |(_, largest)| **largest >= floor).flat_map(move |((first, block), _)| {
            let reaches = move |logit: &f32| *logit >= floor && *logit > f32::NEG_INFINITY;
            (first..).zip(block.iter().copied()).filter(move |(_, logit)| reaches(logit))
        })
    }
}

fn largest(values: &[f32]) -> f32 {
    // This form of the maximum passes NaN over and is one instruction a lane.
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane = larger(*lane, *value);
        }
    }
    let largest = lanes.into_iter().fold(f32::NEG_INFINITY, larger);
    rest.iter().copied().fold(largest, larger)
}

/// exp(scale (logit - top)), to about 1e-7 of its value; 0 below e^-87 and for NaN. `top` is the row's largest logit.
#[inline]
pub(super) fn weight(logit: f32, top: f32, scale: f32) -> f32 {
    // Cephes' expf without its branches: e^x = 2^n e^r, n = round(x / ln 2), |r| <= ln 2 / 2.
    const LOG2_E: f32 = std::f32::consts::LOG2_E;
    // ln 2 in two parts, so that n times the first is exact.
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    // Adding it leaves the nearest whole number in the low bits of the mantissa.
    const ROUNDER: f32 = 12_582_912.0;
    let exponent = (logit - top) * scale;
    let counts = exponent > -87.0;
    let x = if counts { exponent } else { 0.0 };
    let rounded = x * LOG2_E + ROUNDER;
    let n = rounded - ROUNDER;
    let r = (x - n * LN_2_HIGH) - n * LN_2_LOW;
    let series = [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 5e-1]
        .into_iter()
        .fold(1.987_569_1e-4, |sum: f32, coefficient: f32| sum * r + coefficient);
    let exp_r = series * (r * r) + r + 1.0;
    let power = f32::from_bits(rounded.to_bits().wrapping_add(127) << 23);
    if counts { exp_r * power } else { 0.0 }
}

/// The sum of [`weight`] over some logits.
pub(super) fn mass(logits: &[f32], top: f32, scale: f32) -> f64 {
    let mut lanes = [0.0f32; LANES];
    let mut sum = 0.0;
    // A few terms a lane at most before the sum is widened: f32 keeps its precision.
    for block in logits.chunks(BLOCK) {
        let (chunks, rest) = block.as_chunks::<LANES>();
        for chunk in chunks {
            for (lane, logit) in lanes.iter_mut().zip(chunk) {
                *lane += weight(*logit, top, scale);
            }
        }
        for (lane, logit) in lanes.iter_mut().zip(rest) {
            *lane += weight(*logit, top, scale);
        }
        sum += std::mem::take(&mut lanes).into_iter().map(f64::from).sum::<f64>();
    }
    sum
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn odd_numbers_are_passed_over() {
        let maxima = Maxima::of(&[f32::NAN, -3.0, f32::NEG_INFINITY]);
        assert_eq!(maxima.top(), -3.0);
        assert_eq!(Maxima::of(&[f32::NAN; 200]).top(), f32::NEG_INFINITY);
        assert_eq!(Maxima::of(&[]).top(), f32::NEG_INFINITY);
        assert_eq!(weight(f32::NAN, 1.0, 1.0), 0.0);
        assert_eq!(weight(f32::NEG_INFINITY, 1.0, 1.0), 0.0);
        assert_eq!(weight(1.0, 1.0, 0.5), 1.0);
    }

    proptest! {
        #[test]
        fn weights_are_exponentials(x in -86f32..0.0) {
            let exact = f64::from(x).exp();
            prop_assert!((f64::from(weight(x, 0.0, 1.0)) / exact - 1.0).abs() < 3e-7);
        }

        #[test]
        fn the_mass_is_the_sum(logits in prop::collection::vec(-40f32..40.0, 1..400)) {
            let top = Maxima::of(&logits).top();
            prop_assert_eq!(top, logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
            let exact: f64 = logits.iter().map(|logit| ((f64::from(*logit) - f64::from(top)) * 0.5).exp()).sum();
            prop_assert!((mass(&logits, top, 0.5) / exact - 1.0).abs() < 1e-6);
        }

        #[test]
        fn enough_tokens_reach_the_floor(
            logits in prop::collection::vec(prop_oneof![9 => -5f32..5.0, 1 => Just(f32::NAN)], 1..900), count in 1usize..12,
        ) {
            let maxima = Maxima::of(&logits);
            let floor = maxima.reached_by(count);
            let reaching: Vec<(u32, f32)> = maxima.tokens_from(floor, &logits).collect();
            let numbers = logits.iter().filter(|logit| !logit.is_nan()).count();
            prop_assert!(reaching.len() >= count.min(numbers));
            let naive: Vec<(u32, f32)> =
                (0u32..).zip(logits.iter().copied()).filter(|(_, logit)| *logit >= floor).collect();
            prop_assert_eq!(reaching, naive);
        }
    }
}
