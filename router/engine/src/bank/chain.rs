use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use reprise_kernels::matrix::{Format, Matrix};

use super::{BankError, BankHash, Delta, Edit, ExpertMatrix, Shape};

/// A base model's experts and the deltas over them. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Bank {
    base: BankHash,
    shapes: Arc<BTreeMap<ExpertMatrix, Shape>>,
    deltas: Vec<(BankHash, Arc<Delta>)>,
}

/// What a bank makes of one matrix of its base.
#[derive(Debug, Clone, PartialEq)]
pub struct Change<'a> {
    matrix: ExpertMatrix,
    shape: Shape,
    /// In place of the base's.
    replacement: Option<(Format, &'a [u8])>,
    /// Added to that, in order.
    additions: Vec<&'a [f32]>,
}

impl Bank {
    /// A bank that changes nothing: `base` is the SHA-256 of the checkpoint that has these expert matrices.
    #[must_use]
    pub fn new(base: BankHash, shapes: impl IntoIterator<Item = (ExpertMatrix, Shape)>) -> Self {
        Self { base, shapes: Arc::new(shapes.into_iter().collect()), deltas: Vec::new() }
    }

    /// This bank with one more version, whose file has the hash `hash`.
    ///
    /// # Errors
    /// The delta was made for another parent, is not newer, or changes a matrix that the model does not have or has in
    /// another shape.
    pub fn with(&self, hash: BankHash, delta: Delta) -> Result<Self, BankError> {
        let (name, version) = (&delta.info.name, delta.info.version);
        if delta.info.parent != self.tip() {
            let (wanted, found) = (delta.info.parent, self.tip());
            return Err(BankError::Parent { name: name.clone(), version, wanted, found });
        }
        if let Some((_, last)) = self.deltas.last().filter(|(_, last)| last.info.version >= version) {
            return Err(BankError::Version { name: name.clone(), version, after: last.info.version });
        }
        for (matrix, edit) in delta.edits() {
            let (matrix, found) = (*matrix, edit.shape());
            match self.shapes.get(&matrix) {
                None => return Err(BankError::NoSuchMatrix { name: name.clone(), version, matrix }),
                Some(expected) if *expected != found => {
                    return Err(BankError::Shape { matrix, expected: *expected, found });
                }
                Some(_) => {}
            }
        }
        let mut bank = self.clone();
        bank.deltas.push((hash, Arc::new(delta)));
        Ok(bank)
    }

    /// What the next delta must name as its parent.
    #[must_use]
    pub fn tip(&self) -> BankHash {
        self.deltas.last().map_or(self.base, |(hash, _)| *hash)
    }

    /// The deltas, oldest first.
    pub fn deltas(&self) -> impl Iterator<Item = &Delta> {
        self.deltas.iter().map(|(_, delta)| &**delta)
    }

    /// What becomes of this matrix; `None` if it is the base's own.
    #[must_use]
    pub fn change(&self, matrix: ExpertMatrix) -> Option<Change<'_>> {
        let mut change: Option<Change<'_>> = None;
        for edit in self.deltas().filter_map(|delta| delta.edits().get(&matrix)) {
            let empty = Change { matrix, shape: edit.shape(), replacement: None, additions: Vec::new() };
            let change = change.get_or_insert(empty);
            match edit {
                Edit::Replace { format, bytes, .. } => {
                    change.replacement = Some((*format, bytes.as_slice()));
                    change.additions.clear();
                }
                Edit::Add { numbers, .. } => change.additions.push(numbers.as_slice()),
            }
        }
        change
    }

    /// The matrices that may be others in `other`, a bank over the same base: what to pack anew to get from here to there.
    #[must_use]
    pub fn differences(&self, other: &Self) -> BTreeSet<ExpertMatrix> {
        let common = self.deltas.iter().zip(&other.deltas).take_while(|(a, b)| a.0 == b.0).count();
        let beyond = |bank: &Self| -> Vec<ExpertMatrix> {
            bank.deltas().skip(common).flat_map(|delta| delta.edits().keys().copied()).collect()
        };
        beyond(self).into_iter().chain(beyond(other)).collect()
    }
}

impl Change<'_> {
    /// The changed matrix, packed. With additions the result is in f32, whatever the format before: up to 8 times its memory.
    ///
    /// # Errors
    /// `base` is of another shape, or the result cannot be packed.
    pub fn matrix(&self, base: &Matrix) -> Result<Matrix, BankError> {
        let (matrix, [outputs, inputs]) = (self.matrix, self.shape);
        let found = [base.outputs(), base.inputs()];
        if found != self.shape {
            return Err(BankError::Shape { matrix, expected: found, found: self.shape });
        }
        let pack = |format, bytes: &[u8]| {
            Matrix::pack(format, outputs, inputs, bytes)
                .map_err(|source| BankError::Matrix { matrix, source })
        };
        let replaced = match self.replacement {
            Some((format, bytes)) if self.additions.is_empty() => return pack(format, bytes),
            Some((format, bytes)) => Some(pack(format, bytes)?),
            None => None,
        };
        let before = replaced.as_ref().unwrap_or(base);
        let (mut row, mut bytes) =
            (vec![0.0; inputs], Vec::with_capacity(outputs * inputs * size_of::<f32>()));
        for output in 0..outputs {
            before.row(output, &mut row);
            for addition in &self.additions {
                let of_row = addition.get(output * inputs..).unwrap_or_default();
                row.iter_mut().zip(of_row).for_each(|(sum, number)| *sum += number);
            }
            bytes.extend(row.iter().flat_map(|number| number.to_le_bytes()));
        }
        pack(Format::F32, &bytes)
    }
}
