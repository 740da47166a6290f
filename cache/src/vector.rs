use std::sync::Arc;

use reprise_kernels::similarity::dot;
use thiserror::Error;

/// A vector of length 1: finite, not zero. Cheap to clone.
#[derive(Debug, Clone, PartialEq)]
pub struct UnitVector(Arc<[f32]>);

/// Why numbers make no direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum VectorError {
    #[error("a vector needs at least one dimension")]
    Empty,
    #[error("a vector holds NaN or infinity")]
    NotFinite,
    #[error("a zero vector has no direction")]
    Zero,
}

impl UnitVector {
    /// Scales to length 1.
    ///
    /// # Errors
    /// No dimension, NaN or infinity, or a length of zero.
    pub fn try_new(mut values: Vec<f32>) -> Result<Self, VectorError> {
        if values.is_empty() {
            return Err(VectorError::Empty);
        }
        // In f64, so that neither large nor tiny finite values overflow on the way.
        let norm = values.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>().sqrt();
        if !norm.is_finite() {
            return Err(VectorError::NotFinite);
        }
        if norm == 0.0 {
            return Err(VectorError::Zero);
        }
        for value in &mut values {
            *value = (f64::from(*value) / norm) as f32;
        }
        Ok(Self(values.into()))
    }

    #[must_use]
    pub fn as_slice(&self) -> &[f32] {
        &self.0
    }

    #[must_use]
    pub fn dimensions(&self) -> usize {
        self.0.len()
    }

    /// Cosine similarity, in [-1, 1]; 0 between vectors of different dimensions.
    #[must_use]
    pub fn dot(&self, other: &Self) -> f32 {
        if self.0.len() == other.0.len() { dot(&self.0, &other.0).clamp(-1.0, 1.0) } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_has_no_direction_is_refused() {
        assert_eq!(UnitVector::try_new(vec![]), Err(VectorError::Empty));
        assert_eq!(UnitVector::try_new(vec![0.0; 4]), Err(VectorError::Zero));
        assert_eq!(UnitVector::try_new(vec![1.0, f32::NAN]), Err(VectorError::NotFinite));
        assert_eq!(UnitVector::try_new(vec![1.0, f32::INFINITY]), Err(VectorError::NotFinite));
    }

    proptest! {
        #[test]
        fn length_is_one_and_likeness_is_bounded(
            a in prop::collection::vec(-1e30_f32..1e30, 37),
            b in prop::collection::vec(-1e-30_f32..1e-30, 37),
        ) {
            let (Ok(a), Ok(b)) = (UnitVector::try_new(a), UnitVector::try_new(b)) else { return Ok(()) };
            prop_assert!((a.dot(&a) - 1.0).abs() < 1e-5);
            prop_assert!((-1.0..=1.0).contains(&a.dot(&b)));
            prop_assert_eq!(a.dot(&b), b.dot(&a));
        }
    }
}
