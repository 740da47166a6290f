//! Rotary position embedding (Su et al. 2021): pairs of a head's numbers turn by an angle proportional to the position.

/// Which two numbers make a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pairing {
    /// `(x[2i], x[2i + 1])`: the paper's, and llama.cpp's for Llama weights in GGUF files.
    Interleaved,
    /// `(x[i], x[i + n])` for n pairs: GPT-NeoX's, and Hugging Face's for all models.
    Halves,
}

/// Cosines and sines of all positions.
#[derive(Debug, Clone)]
pub struct Rotary {
    /// `[positions, pairs]` cosines, then as many sines, position by position.
    table: Vec<f32>,
    pairs: usize,
    pairing: Pairing,
}

impl Rotary {
    /// Pair i turns by `position * inverse_frequencies[i]` radians; results are multiplied by `magnitude` (1 but for YaRN).
    /// Angles are computed in f64: at position 100,000 an f32 product is off by 0.004 radians.
    pub fn new(inverse_frequencies: &[f32], magnitude: f32, positions: usize, pairing: Pairing) -> Self {
        let pairs = inverse_frequencies.len();
        let mut table = Vec::with_capacity(positions * pairs * 2);
        for position in 0..positions {
            let angles = inverse_frequencies.iter().map(|frequency| position as f64 * f64::from(*frequency));
            let magnitude = f64::from(magnitude);
            table.extend(angles.clone().map(|angle| (angle.cos() * magnitude) as f32));
            table.extend(angles.map(|angle| (angle.sin() * magnitude) as f32));
        }
        Self { table, pairs, pairing }
    }

    /// Positions that the table holds.
    pub fn positions(&self) -> usize {
        self.table.len().checked_div(2 * self.pairs).unwrap_or(usize::MAX)
    }

    /// Turns the first `2 * pairs` numbers of each head in place. `heads` is `[heads, head_dim]`, one token's.
    ///
    /// # Panics
    /// `position` is not below [`Self::positions`], `head_dim` is less than two numbers a pair, or `heads` is not a whole
    /// number of heads.
    pub fn turn(&self, position: u32, heads: &mut [f32], head_dim: usize) {
        let pairs = self.pairs;
        assert!(2 * pairs <= head_dim && heads.len().is_multiple_of(head_dim), "{} numbers", heads.len());
        let start = position as usize * 2 * pairs;
        let (cosines, sines) = self.table[start..start + 2 * pairs].split_at(pairs);
        for head in heads.chunks_exact_mut(head_dim) {
            let turned = &mut head[..2 * pairs];
            match self.pairing {
                Pairing::Interleaved => {
                    for ((pair, cosine), sine) in turned.chunks_exact_mut(2).zip(cosines).zip(sines) {
                        let (a, b) = (pair[0], pair[1]);
                        pair[0] = a * cosine - b * sine;
                        pair[1] = a * sine + b * cosine;
                    }
                }
                Pairing::Halves => {
                    let (low, high) = turned.split_at_mut(pairs);
                    for (((low, high), cosine), sine) in low.iter_mut().zip(high).zip(cosines).zip(sines) {
                        let (a, b) = (*low, *high);
                        *low = a * cosine - b * sine;
                        *high = a * sine + b * cosine;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frequencies(pairs: usize) -> Vec<f32> {
        (0..pairs).map(|pair| 10_000_f32.powf(-(pair as f32) / pairs as f32)).collect()
    }

    #[test]
    fn pairs_turn_by_the_angle_and_the_rest_stays() {
        for pairing in [Pairing::Interleaved, Pairing::Halves] {
            let (pairs, head_dim, magnitude) = (3, 8, 1.25);
            let rotary = Rotary::new(&frequencies(pairs), magnitude, 50, pairing);
            assert_eq!(rotary.positions(), 50);
            let before: Vec<f32> = (0..2 * head_dim).map(|i| i as f32 - 5.0).collect();
            let mut after = before.clone();
            rotary.turn(49, &mut after, head_dim);
            for head in 0..2 {
                for pair in 0..pairs {
                    let (a, b) = match pairing {
                        Pairing::Interleaved => (2 * pair, 2 * pair + 1),
                        Pairing::Halves => (pair, pair + pairs),
                    };
                    let (a, b) = (head * head_dim + a, head * head_dim + b);
                    let (sine, cosine) = (49.0 * f64::from(frequencies(pairs)[pair])).sin_cos();
                    let (x, y) = (f64::from(before[a]), f64::from(before[b]));
                    let scale = f64::from(magnitude);
                    assert!((f64::from(after[a]) - scale * (x * cosine - y * sine)).abs() < 1e-5);
                    assert!((f64::from(after[b]) - scale * (x * sine + y * cosine)).abs() < 1e-5);
                }
                let rest = head * head_dim + 2 * pairs..(head + 1) * head_dim;
                assert_eq!(after[rest.clone()], before[rest]);
            }
        }
    }

    #[test]
    fn the_product_of_two_heads_depends_on_their_distance() {
        let rotary = Rotary::new(&frequencies(4), 1.0, 200, Pairing::Halves);
        let product = |q_at: u32, k_at: u32| -> f32 {
            let mut q = [0.3, -1.0, 0.7, 0.1, 0.9, -0.2, 0.4, 1.1];
            let mut k = [1.0, 0.5, -0.3, 0.8, -0.6, 0.2, 0.7, -0.9];
            rotary.turn(q_at, &mut q, 8);
            rotary.turn(k_at, &mut k, 8);
            q.iter().zip(&k).map(|(q, k)| q * k).sum()
        };
        assert!((product(7, 3) - product(190, 186)).abs() < 1e-5);
        assert!((product(7, 3) - product(7, 4)).abs() > 1e-3);
    }
}
