//! Vectors rounded to 8 bits: a quarter of the bytes to read, with a bound on what rounding did.

use reprise_kernels::similarity::code_dots;

use crate::UnitVector;

/// Largest code.
const TOP: f32 = 127.0;
/// More than the rounding errors of all f32 sums here, for up to some thousand dimensions.
const SLACK: f32 = 1e-5;

/// `vector = scale * codes + rest`, with `|rest| <= error`.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Rounding {
    scale: f32,
    error: f32,
}

impl Rounding {
    fn of(vector: &UnitVector) -> (Self, impl Iterator<Item = i8> + '_) {
        let values = vector.as_slice();
        let largest = values.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
        // A unit vector is not zero.
        let scale = largest / TOP;
        let code = move |value: &f32| (value / scale).round().clamp(-TOP, TOP) as i8;
        let rest = |value: &f32| f64::from(*value) - f64::from(scale) * f64::from(code(value));
        let error = values.iter().map(|value| rest(value).powi(2)).sum::<f64>().sqrt() as f32;
        (Self { scale, error }, values.iter().map(code))
    }
}

/// The codes of some vectors of equal length.
#[derive(Debug, Default)]
pub struct Codes {
    /// `[vectors, dimensions]`
    codes: Vec<i8>,
    roundings: Vec<Rounding>,
}

impl Codes {
    pub fn bytes_per_vector(dimensions: usize) -> usize {
        dimensions + size_of::<Rounding>()
    }

    pub fn push(&mut self, vector: &UnitVector) {
        let (rounding, codes) = Rounding::of(vector);
        self.codes.extend(codes);
        self.roundings.push(rounding);
    }

    /// The last takes its place.
    pub fn swap_remove(&mut self, at: usize) {
        let dimensions = self.codes.len() / self.roundings.len();
        let last = self.codes.len() - dimensions;
        self.codes.copy_within(last.., at * dimensions);
        self.codes.truncate(last);
        self.roundings.swap_remove(at);
    }

    /// For each vector the most that its similarity to the query can be. `out`: room, whatever it holds.
    pub fn at_most<'o>(
        &self,
        query: &Query,
        out: &'o mut Vec<i32>,
    ) -> impl Iterator<Item = f32> + use<'_, 'o> {
        code_dots(&query.codes, &self.codes, out);
        let Rounding { scale, error } = query.rounding;
        out.iter().zip(&self.roundings).map(move |(dot, own)| {
            // |qv - q'v'| = |q'(v - v') + (q - q')v' + (q - q')(v - v')|, and a rounded vector is at most 1 + error long.
            let off = own.error + error + 3.0 * own.error * error;
            *dot as f32 * (scale * own.scale) + off + SLACK
        })
    }
}

/// A vector that is searched for.
#[derive(Debug)]
pub struct Query {
    pub vector: UnitVector,
    codes: Vec<i16>,
    rounding: Rounding,
}

impl Query {
    pub fn new(vector: &UnitVector) -> Self {
        let (rounding, codes) = Rounding::of(vector);
        let codes = codes.map(i16::from).collect();
        Self { vector: vector.clone(), codes, rounding }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn unit() -> impl Strategy<Value = UnitVector> {
        prop::collection::vec(-1.0_f32..1.0, 24)
            .prop_filter_map("a zero vector", |values| UnitVector::try_new(values).ok())
    }

    proptest! {
        #[test]
        fn no_similarity_is_above_its_bound_nor_far_below(
            vectors in prop::collection::vec(unit(), 1..9), query in unit(), gone: prop::sample::Index,
        ) {
            let mut codes = Codes::default();
            vectors.iter().for_each(|vector| codes.push(vector));
            let mut left = vectors.clone();
            let gone = gone.index(left.len());
            codes.swap_remove(gone);
            left.swap_remove(gone);
            let mut room = vec![7];
            let bounds: Vec<f32> = codes.at_most(&Query::new(&query), &mut room).collect();
            prop_assert_eq!(bounds.len(), left.len());
            for (bound, vector) in bounds.iter().zip(&left) {
                let exact = vector.dot(&query);
                prop_assert!(exact <= *bound && *bound < exact + 0.06, "{} {}", exact, bound);
            }
        }
    }
}
