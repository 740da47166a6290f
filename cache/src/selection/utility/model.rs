use reprise_kernels::similarity::dot;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Calibration, Query, SCALARS, Utility, features};
use crate::Candidate;

/// A small network over request and example, calibrated to the measured mean outcome.
///
/// ```text
/// p = W e_request,  c = W e_example                    one projection for both, P rows
/// h = relu(A [p * c, |p - c|, scalars] + a)            H units
/// u = calibration(sigmoid(b . h + d . scalars + b0))
/// ```
///
/// Some 15,000 parameters with 384 dimensions, P = H = 32. The direct way `d` from the scalars lets a model that was
/// trained on few outcomes be little more than a logistic regression on likeness and quality.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "Weights", into = "Weights")]
pub struct UtilityModel(Weights);

/// A model as it is stored and sent. Matrices row by row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Weights {
    /// Of the embeddings.
    pub dimensions: usize,
    /// W: P x dimensions.
    pub projection: Vec<f32>,
    /// A: H x (2 P + [`SCALARS`]).
    pub hidden: Vec<f32>,
    /// a: H.
    pub hidden_bias: Vec<f32>,
    /// b: H.
    pub output: Vec<f32>,
    /// d: [`SCALARS`].
    pub direct: Vec<f32>,
    /// b0.
    pub bias: f32,
    pub calibration: Calibration,
    /// Least utility of an example that is worth its tokens, found on the training outcomes.
    pub tau: f32,
    /// What it was trained on, in words, for an operator.
    pub trained_on: String,
}

/// Numbers that make no model.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ModelError {
    #[error("\"{part}\" has {got} numbers, which does not fit the others")]
    Shape { part: &'static str, got: usize },
    #[error("\"{part}\" holds a number that is not finite")]
    NotFinite { part: &'static str },
    #[error("tau must lie between 0 and 1")]
    Tau,
    #[error("a model may have at most {limit} parameters, not {got}")]
    TooLarge { got: usize, limit: usize },
    /// Nothing here could be scored with it.
    #[error("the model is for embeddings of {got} dimensions, but they have {expected}")]
    Dimensions { expected: usize, got: usize },
}

/// DESIGN's limit.
const MOST_PARAMETERS: usize = 500_000;

impl UtilityModel {
    /// # Errors
    /// The parts do not fit together, or a number is not finite.
    pub fn try_new(weights: Weights) -> Result<Self, ModelError> {
        let Weights { dimensions, projection, hidden, hidden_bias, output, direct, bias, tau, .. } = &weights;
        let shape = |part, got, fits: bool| if fits { Ok(()) } else { Err(ModelError::Shape { part, got }) };
        let whole = *dimensions > 0 && projection.len().is_multiple_of(*dimensions) && !projection.is_empty();
        shape("projection", projection.len(), whole)?;
        let units = hidden_bias.len();
        let inputs = 2 * (projection.len() / dimensions) + SCALARS;
        shape("hidden", hidden.len(), units.checked_mul(inputs) == Some(hidden.len()))?;
        shape("output", output.len(), output.len() == units)?;
        shape("direct", direct.len(), direct.len() == SCALARS)?;
        let parts: [(&str, &[f32]); 6] = [
            ("projection", projection),
            ("hidden", hidden),
            ("hidden_bias", hidden_bias),
            ("output", output),
            ("direct", direct),
            ("bias", std::slice::from_ref(bias)),
        ];
        for (part, values) in parts {
            if !values.iter().all(|value| value.is_finite()) {
                return Err(ModelError::NotFinite { part });
            }
        }
        let got = parts.iter().map(|(_, values)| values.len()).sum();
        if got > MOST_PARAMETERS {
            return Err(ModelError::TooLarge { got, limit: MOST_PARAMETERS });
        }
        if (0.0..=1.0).contains(tau) { Ok(Self(weights)) } else { Err(ModelError::Tau) }
    }

    #[must_use]
    pub fn weights(&self) -> &Weights {
        &self.0
    }

    /// An embedding as the network sees it, P numbers.
    ///
    /// # Panics
    /// The embedding has other dimensions.
    #[must_use]
    pub fn project(&self, embedding: &[f32]) -> Vec<f32> {
        self.0.projection.chunks_exact(self.0.dimensions).map(|row| dot(row, embedding)).collect()
    }

    /// Before calibration, in (0, 1).
    #[must_use]
    pub fn raw(&self, request: &[f32], example: &[f32], scalars: &[f32; SCALARS]) -> f32 {
        let weights = &self.0;
        let products = request.iter().zip(example).map(|(p, c)| p * c);
        let distances = request.iter().zip(example).map(|(p, c)| (p - c).abs());
        let inputs: Vec<f32> = products.chain(distances).chain(scalars.iter().copied()).collect();
        let direct: f32 = weights.direct.iter().zip(scalars).map(|(d, x)| d * x).sum();
        let units = weights.hidden.chunks_exact(inputs.len()).zip(&weights.hidden_bias).zip(&weights.output);
        let deep: f32 = units.map(|((row, bias), out)| out * (dot(row, &inputs) + bias).max(0.0)).sum();
        1.0 / (1.0 + (-(deep + direct + weights.bias)).exp())
    }
}

impl Utility for UtilityModel {
    /// Where an embedding has other dimensions than the model's, 0: such an example is not shown.
    fn scores(&self, query: &Query<'_>, candidates: &[&Candidate]) -> Vec<f32> {
        if query.embedding.dimensions() != self.0.dimensions {
            return vec![0.0; candidates.len()];
        }
        let nearest = candidates.iter().map(|candidate| candidate.similarity).fold(f32::MIN, f32::max);
        let request = self.project(query.embedding.as_slice());
        let score = |candidate: &&Candidate| {
            let embedding = candidate.example.embedding.as_slice();
            if embedding.len() != self.0.dimensions {
                return 0.0;
            }
            let scalars = features::of(query, candidate, nearest);
            self.0.calibration.apply(self.raw(&request, &self.project(embedding), &scalars))
        };
        candidates.iter().map(score).collect()
    }

    fn tau(&self) -> Option<f32> {
        Some(self.0.tau)
    }
}

impl TryFrom<Weights> for UtilityModel {
    type Error = ModelError;

    fn try_from(weights: Weights) -> Result<Self, ModelError> {
        Self::try_new(weights)
    }
}

impl From<UtilityModel> for Weights {
    fn from(model: UtilityModel) -> Self {
        model.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tiny() -> Weights {
        // One projection on the first axis; one hidden unit that reads the product; likeness adds directly.
        let mut hidden = vec![0.0; 2 + SCALARS];
        hidden[0] = 2.0;
        let mut direct = vec![0.0; SCALARS];
        direct[0] = 1.0;
        Weights {
            dimensions: 2,
            projection: vec![1.0, 0.0],
            hidden,
            hidden_bias: vec![0.5],
            output: vec![1.0],
            direct,
            bias: -0.25,
            calibration: Calibration::identity(),
            tau: 0.5,
            trained_on: String::new(),
        }
    }

    #[test]
    fn by_hand() {
        let model = UtilityModel::try_new(tiny()).unwrap();
        let (request, example) = (model.project(&[0.6, 0.8]), model.project(&[1.0, 0.0]));
        let mut scalars = [0.0; SCALARS];
        scalars[0] = 0.2;
        // relu(2 * 0.6 + 0.5) + 0.2 - 0.25 = 1.65
        let expected = 1.0 / (1.0 + (-1.65_f32).exp());
        assert!((model.raw(&request, &example, &scalars) - expected).abs() < 1e-6);
    }

    #[test]
    fn what_does_not_fit_is_refused_and_named() {
        let refused = |change: fn(&mut Weights)| {
            let mut weights = tiny();
            change(&mut weights);
            UtilityModel::try_new(weights).unwrap_err()
        };
        assert_eq!(refused(|w| w.projection.push(1.0)), ModelError::Shape { part: "projection", got: 3 });
        assert_eq!(refused(|w| w.hidden.truncate(3)), ModelError::Shape { part: "hidden", got: 3 });
        assert_eq!(refused(|w| w.output[0] = f32::NAN), ModelError::NotFinite { part: "output" });
        assert_eq!(refused(|w| w.tau = 1.5), ModelError::Tau);
        let huge = |w: &mut Weights| {
            w.projection = vec![0.0; 2 * 300_000];
            w.hidden = vec![0.0; 2 * 300_000 + SCALARS];
        };
        assert!(matches!(refused(huge), ModelError::TooLarge { .. }));
    }

    #[test]
    fn it_reads_back_what_it_wrote_and_refuses_unknown_parts() {
        let model = UtilityModel::try_new(tiny()).unwrap();
        let text = serde_json::to_string(&model).unwrap();
        assert_eq!(serde_json::from_str::<UtilityModel>(&text).unwrap(), model);
        assert!(serde_json::from_str::<UtilityModel>(&text.replace("\"tau\"", "\"tao\"")).is_err());
    }
}
