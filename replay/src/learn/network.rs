//! The utility network with its gradient, in 64-bit numbers. The forward pass must be what
//! [`UtilityModel`] computes; a test holds the two together.

use rand::Rng;
use rand_distr::StandardNormal;
use reprise_cache::selection::utility::{Calibration, ModelError, SCALARS, UtilityModel, Weights};

use super::rows::{Row, Rows};

/// Sizes of the layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    pub dimensions: usize,
    /// P.
    pub projected: usize,
    /// H.
    pub hidden: usize,
}

impl Shape {
    fn inputs(&self) -> usize {
        2 * self.projected + SCALARS
    }

    /// Where each part begins in the flat list of parameters: W, A, a, b, d, b0, end.
    fn offsets(&self) -> [usize; 7] {
        let sizes = [
            self.projected * self.dimensions,
            self.hidden * self.inputs(),
            self.hidden,
            self.hidden,
            SCALARS,
            1,
        ];
        let mut offsets = [0; 7];
        for (index, size) in sizes.into_iter().enumerate() {
            offsets[index + 1] = offsets[index] + size;
        }
        offsets
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Network {
    pub shape: Shape,
    pub parameters: Vec<f64>,
}

/// What the forward pass leaves for the backward one.
struct Pass {
    p: Vec<f64>,
    c: Vec<f64>,
    x: Vec<f64>,
    z: Vec<f64>,
    y: f64,
}

impl Network {
    /// Random weights; the last layer starts at zero, so that the first steps learn the direct way.
    pub fn new(shape: Shape, rng: &mut impl Rng) -> Self {
        let at = shape.offsets();
        let mut parameters = vec![0.0; at[6]];
        // Rows of about unit length keep a projected unit vector's numbers near its cosines.
        let scales = [(0..at[1], (shape.dimensions as f64).sqrt().recip()), (at[1]..at[2], 0.3)];
        for (range, scale) in scales {
            for parameter in &mut parameters[range] {
                *parameter = rng.sample::<f64, _>(StandardNormal) * scale;
            }
        }
        for output in &mut parameters[at[3]..at[4]] {
            *output = rng.sample::<f64, _>(StandardNormal) * 0.05;
        }
        Self { shape, parameters }
    }

    #[must_use]
    pub fn parameters(&self) -> usize {
        self.parameters.len()
    }

    /// Expected outcome before calibration.
    #[must_use]
    pub fn score(&self, rows: &Rows, row: &Row) -> f64 {
        self.forward(rows, row).y
    }

    /// Adds the gradient of `weight * cross-entropy` of one row to `gradient`, and returns that loss.
    pub fn learn_from(&self, rows: &Rows, row: &Row, gradient: &mut [f64]) -> f64 {
        let Shape { dimensions, projected, hidden } = self.shape;
        let (at, inputs) = (self.shape.offsets(), self.shape.inputs());
        let Pass { p, c, x, z, y } = self.forward(rows, row);
        let (label, weight) = (f64::from(row.label), f64::from(row.weight));
        let slope = weight * (y - label);
        for (into, scalar) in gradient[at[4]..at[5]].iter_mut().zip(&row.scalars) {
            *into += slope * f64::from(*scalar);
        }
        gradient[at[5]] += slope;
        let mut to_x = vec![0.0; inputs];
        for unit in 0..hidden {
            if z[unit] <= 0.0 {
                continue;
            }
            gradient[at[3] + unit] += slope * z[unit];
            let back = slope * self.parameters[at[3] + unit];
            gradient[at[2] + unit] += back;
            let row_at = at[1] + unit * inputs;
            for input in 0..inputs {
                gradient[row_at + input] += back * x[input];
                to_x[input] += back * self.parameters[row_at + input];
            }
        }
        let (asked, shown) = (rows.vector(row.asked), rows.vector(row.shown));
        for k in 0..projected {
            let sign = (p[k] - c[k]).signum() * to_x[projected + k];
            let (to_p, to_c) = (to_x[k] * c[k] + sign, to_x[k] * p[k] - sign);
            let into = &mut gradient[k * dimensions..(k + 1) * dimensions];
            for ((into, q), e) in into.iter_mut().zip(asked).zip(shown) {
                *into += to_p * f64::from(*q) + to_c * f64::from(*e);
            }
        }
        let y = y.clamp(1e-12, 1.0 - 1e-12);
        -weight * (label * y.ln() + (1.0 - label) * (1.0 - y).ln())
    }

    fn forward(&self, rows: &Rows, row: &Row) -> Pass {
        let Shape { dimensions, hidden, .. } = self.shape;
        let (at, inputs) = (self.shape.offsets(), self.shape.inputs());
        let project = |vector: &[f32]| -> Vec<f64> {
            let rows = self.parameters[..at[1]].chunks_exact(dimensions);
            rows.map(|row| row.iter().zip(vector).map(|(w, v)| w * f64::from(*v)).sum()).collect()
        };
        let (p, c) = (project(rows.vector(row.asked)), project(rows.vector(row.shown)));
        let products = p.iter().zip(&c).map(|(p, c)| p * c);
        let distances = p.iter().zip(&c).map(|(p, c)| (p - c).abs());
        let x: Vec<f64> =
            products.chain(distances).chain(row.scalars.iter().map(|s| f64::from(*s))).collect();
        let unit = |unit: usize| -> f64 {
            let weights = &self.parameters[at[1] + unit * inputs..][..inputs];
            weights.iter().zip(&x).map(|(w, x)| w * x).sum::<f64>() + self.parameters[at[2] + unit]
        };
        let z: Vec<f64> = (0..hidden).map(unit).collect();
        let deep: f64 = z.iter().zip(&self.parameters[at[3]..at[4]]).map(|(z, b)| z.max(0.0) * b).sum();
        let direct: f64 =
            self.parameters[at[4]..at[5]].iter().zip(&row.scalars).map(|(d, s)| d * f64::from(*s)).sum();
        let y = 1.0 / (1.0 + (-(deep + direct + self.parameters[at[5]])).exp());
        Pass { p, c, x, z, y }
    }

    /// # Errors
    /// A number is not finite: training went wrong.
    pub fn into_model(
        self,
        calibration: Calibration,
        tau: f32,
        told: String,
    ) -> Result<UtilityModel, ModelError> {
        let at = self.shape.offsets();
        let part = |index: usize| -> Vec<f32> {
            self.parameters[at[index]..at[index + 1]].iter().map(|value| *value as f32).collect()
        };
        UtilityModel::try_new(Weights {
            dimensions: self.shape.dimensions,
            projection: part(0),
            hidden: part(1),
            hidden_bias: part(2),
            output: part(3),
            direct: part(4),
            bias: self.parameters[at[5]] as f32,
            calibration,
            tau,
            trained_on: told,
        })
    }
}
