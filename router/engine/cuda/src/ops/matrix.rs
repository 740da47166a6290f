use std::sync::Arc;

use cudarc::driver::sys;

use crate::{
    Buffer, CudaError, Device, View,
    error::Tried as _,
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
    map: Option<Box<TensorMap>>,
}

/// A bf16 matrix as the copy engine of Hopper reads it, in boxes of 64 rows and 64 inputs.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(super) struct TensorMap(sys::CUtensorMap);

impl TensorMap {
    fn new(codes: &Buffer<u8>, groups: usize, rows: usize, inputs: usize) -> Result<Self, CudaError> {
        let row_bytes = 2 * inputs as u64;
        let sizes = [inputs as u64, rows as u64, groups as u64];
        let pitches = [row_bytes, row_bytes * rows as u64];
        let (of_box, steps) = ([64u32, 64, 1], [1u32; 3]);
        let mut map = Self(sys::CUtensorMap { opaque: [0; 16] });
        // SAFETY: the arrays have as many numbers as the map has dimensions; the address is a device's and is not read here.
        unsafe {
            sys::cuTensorMapEncodeTiled(
                &raw mut map.0,
                sys::CUtensorMapDataType::CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
                3,
                codes.view().address() as *mut std::ffi::c_void,
                sizes.as_ptr(),
                pitches.as_ptr(),
                of_box.as_ptr(),
                steps.as_ptr(),
                sys::CUtensorMapInterleave::CU_TENSOR_MAP_INTERLEAVE_NONE,
                sys::CUtensorMapSwizzle::CU_TENSOR_MAP_SWIZZLE_128B,
                sys::CUtensorMapL2promotion::CU_TENSOR_MAP_L2_PROMOTION_L2_128B,
                sys::CUtensorMapFloatOOBfill::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
            )
        }
        .result()
        .tried("describe a matrix to the copy engine")?;
        Ok(map)
    }
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
        let mapped = form == Form::Bf16 && device.is_hopper() && codes.bytes() > 0;
        let map = mapped.then(|| TensorMap::new(&codes, groups, rows, inputs).map(Box::new)).transpose()?;
        Ok(Self { form, rows, inputs, groups, codes, scales, map })
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

    /// Of a bf16 matrix on Hopper.
    pub(super) fn map(&self) -> Option<&TensorMap> {
        self.map.as_deref()
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
