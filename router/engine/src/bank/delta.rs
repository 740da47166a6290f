use std::collections::BTreeMap;

use reprise_kernels::matrix::Format;

use super::{BankError, BankHash, ExpertMatrix, Shape};

/// One version of a bank: what it changes of its parent.
#[derive(Debug, Clone, PartialEq)]
pub struct Delta {
    pub info: DeltaInfo,
    edits: BTreeMap<ExpertMatrix, Edit>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct DeltaInfo {
    /// Of the bank: `sql`, `support-de`.
    pub name: String,
    /// Ascends along a chain.
    pub version: u32,
    /// Of the base's checkpoint or of the delta before this one.
    pub parent: BankHash,
    /// Of the domain's texts, a unit vector in the embedder's space.
    pub centroid: Option<Vec<f32>>,
}

/// What a delta makes of a matrix.
#[derive(Debug, Clone, PartialEq)]
pub enum Edit {
    /// Another matrix: its rows in the blocks of `format`.
    Replace { format: Format, shape: Shape, bytes: Vec<u8> },
    /// Row after row, added to the parent's.
    Add { shape: Shape, numbers: Vec<f32> },
}

/// A centroid's length may be off by rounding.
const UNIT: f32 = 1e-3;

impl Delta {
    /// # Errors
    /// The centroid is no unit vector, or an edit is not of its own shape, or not finite.
    pub fn new(info: DeltaInfo, edits: BTreeMap<ExpertMatrix, Edit>) -> Result<Self, BankError> {
        if let Some(centroid) = &info.centroid {
            let length = centroid.iter().map(|x| x * x).sum::<f32>().sqrt();
            // Not `>`: a length that is not a number is none of a unit vector.
            if length.is_nan() || (length - 1.0).abs() > UNIT {
                return Err(BankError::Centroid(length));
            }
        }
        for (matrix, edit) in &edits {
            edit.check(*matrix)?;
        }
        Ok(Self { info, edits })
    }

    #[must_use]
    pub const fn edits(&self) -> &BTreeMap<ExpertMatrix, Edit> {
        &self.edits
    }
}

impl Edit {
    #[must_use]
    pub const fn shape(&self) -> Shape {
        match self {
            Self::Replace { shape, .. } | Self::Add { shape, .. } => *shape,
        }
    }

    fn check(&self, matrix: ExpertMatrix) -> Result<(), BankError> {
        match self {
            Self::Replace { format, shape, bytes } => {
                let [outputs, inputs] = *shape;
                let expected = format.row_bytes(inputs).and_then(|row| row.checked_mul(outputs));
                if expected != Some(bytes.len()) {
                    let (format, shape, found) = (*format, *shape, bytes.len());
                    return Err(BankError::Bytes { matrix, format, shape, expected, found });
                }
            }
            Self::Add { shape, numbers } => {
                let [outputs, inputs] = *shape;
                if outputs.checked_mul(inputs) != Some(numbers.len()) {
                    return Err(BankError::Numbers { matrix, shape: *shape, found: numbers.len() });
                }
                if !numbers.iter().all(|number| number.is_finite()) {
                    return Err(BankError::NotFinite { matrix });
                }
            }
        }
        Ok(())
    }
}
