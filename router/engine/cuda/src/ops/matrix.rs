use std::sync::Arc;

use crate::{
    Buffer, CudaError, Device, View,
    weights::{Form, Packed},
};

/// One or several matrices of one shape on the device, row by row.
#[derive(Debug)]
pub struct Matrix {
    pub(super) form: Form,
    /// Of each matrix.
    pub(super) rows: usize,
    pub(super) inputs: usize,
    pub(super) groups: usize,
    codes: Buffer<u8>,
    scales: Buffer<u8>,
}

impl Matrix {
    /// All codes 0 at first.
    ///
    /// # Errors
    /// There is no room.
    pub fn new(
        device: &Arc<Device>,
        form: Form,
        groups: usize,
        rows: usize,
        inputs: usize,
    ) -> Result<Self, CudaError> {
        let codes = Buffer::new(device, form.code_bytes(groups * rows, inputs))?;
        let scales = Buffer::new(device, form.scale_bytes(groups * rows, inputs))?;
        Ok(Self { form, rows, inputs, groups, codes, scales })
    }

    /// # Errors
    /// There is no room.
    pub fn from_packed(device: &Arc<Device>, packed: &Packed) -> Result<Self, CudaError> {
        let matrix = Self::new(device, packed.form, 1, packed.rows, packed.inputs)?;
        matrix.write(device, 0, packed)?;
        Ok(matrix)
    }

    /// Writes rows from `row` on, counted over all groups.
    ///
    /// # Errors
    /// They are of another shape or form, or beyond the end.
    pub fn write(&self, device: &Device, row: usize, packed: &Packed) -> Result<(), CudaError> {
        if (packed.form, packed.inputs) != (self.form, self.inputs) {
            return Err(CudaError::Shape("rows of another form than their matrix".into()));
        }
        let place = |bytes: fn(Form, usize, usize) -> usize| {
            let begin = bytes(self.form, row, self.inputs);
            begin..begin + bytes(self.form, packed.rows, self.inputs)
        };
        self.codes.range(place(Form::code_bytes))?.upload(device, &packed.codes)?;
        self.scales.range(place(Form::scale_bytes))?.upload(device, &packed.scales)
    }

    #[must_use]
    pub const fn form(&self) -> Form {
        self.form
    }

    #[must_use]
    pub const fn rows(&self) -> usize {
        self.rows
    }

    #[must_use]
    pub const fn inputs(&self) -> usize {
        self.inputs
    }

    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.codes.bytes() + self.scales.bytes()
    }

    #[must_use]
    pub const fn codes(&self) -> View<'_, u8> {
        self.codes.view()
    }

    #[must_use]
    pub const fn scales(&self) -> View<'_, u8> {
        self.scales.view()
    }

    pub(super) const fn raw(&self) -> RawWeights {
        RawWeights { codes: self.codes.view().address(), scales: self.scales.view().address() }
    }
}

/// As the kernels take it.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(super) struct RawWeights {
    pub(super) codes: u64,
    pub(super) scales: u64,
}
