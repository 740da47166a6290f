//! Centres of clusters by spherical k-means (Dhillon and Modha 2001) over a sample of the vectors.

use super::codes::{Code, about};
use crate::UnitVector;

/// Coded centres; a vector belongs to the nearest.
#[derive(Debug, Clone)]
pub struct Centres {
    scales: Vec<f32>,
    codes: Vec<i8>,
    dimensions: usize,
}

/// Passes over the sample. More moves hardly any vector; recall is measured afterwards in any case.
const PASSES: usize = 6;
/// Vectors of the sample for each centre.
const SAMPLE: usize = 40;

impl Centres {
    /// The same vectors give the same centres.
    pub fn of(vectors: &[UnitVector], count: usize) -> Self {
        let sample = every(vectors, count.saturating_mul(SAMPLE));
        let sample_codes: Vec<Code> = sample.iter().map(|vector| Code::of(vector.as_slice())).collect();
        let mut centres = Self::coded(every(vectors, count).iter().map(|vector| vector.as_slice()));
        for _ in 0..PASSES {
            let mut sums = vec![vec![0.0_f32; centres.dimensions]; centres.len()];
            for (vector, code) in sample.iter().zip(&sample_codes) {
                let nearest = centres.nearest(code);
                sums[nearest].iter_mut().zip(vector.as_slice()).for_each(|(sum, value)| *sum += value);
            }
            for (index, sum) in sums.iter_mut().enumerate() {
                let norm = sum.iter().map(|value| value * value).sum::<f32>().sqrt();
                if norm > 0.0 {
                    sum.iter_mut().for_each(|value| *value /= norm);
                } else if let Some(vector) = sample.get(index * 7 % sample.len().max(1)) {
                    // A centre that nothing belongs to starts again elsewhere.
                    sum.copy_from_slice(vector.as_slice());
                }
            }
            centres = Self::coded(sums.iter().map(Vec::as_slice));
        }
        centres
    }

    fn coded<'v>(vectors: impl Iterator<Item = &'v [f32]>) -> Self {
        let mut centres = Self { scales: Vec::new(), codes: Vec::new(), dimensions: 0 };
        for vector in vectors {
            let code = Code::of(vector);
            centres.dimensions = code.values.len();
            centres.scales.push(code.scale);
            centres.codes.extend_from_slice(&code.values);
        }
        centres
    }

    pub fn len(&self) -> usize {
        self.scales.len()
    }

    /// Index of the nearest centre; the first of equals.
    pub fn nearest(&self, code: &Code) -> usize {
        let mut best = (0, f32::MIN);
        for (index, similarity) in self.similarities(code).enumerate() {
            if similarity > best.1 {
                best = (index, similarity);
            }
        }
        best.0
    }

    /// All centres, nearest first.
    pub fn in_order(&self, code: &Code) -> Vec<usize> {
        let mut order: Vec<(usize, f32)> = self.similarities(code).enumerate().collect();
        order.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        order.into_iter().map(|(index, _)| index).collect()
    }

    fn similarities<'c>(&'c self, code: &'c Code) -> impl Iterator<Item = f32> + 'c {
        let centres = self.codes.chunks_exact(self.dimensions.max(1)).zip(&self.scales);
        centres.map(|(values, scale)| about((*scale, values), (code.scale, &code.values)))
    }
}

/// About `count` of them, evenly through the list.
fn every(vectors: &[UnitVector], count: usize) -> Vec<&UnitVector> {
    let count = count.clamp(1, vectors.len().max(1));
    (0..count).filter_map(|i| vectors.get(i * vectors.len() / count)).collect()
}
