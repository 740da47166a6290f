use super::{Module, grid, int, launch, module, room};
use crate::{CudaError, Device, View};

pub(super) fn kernels() -> Module {
    module("sample.cu", include_str!("../kernels/sample.cu"), &["argmax"])
}

/// The two largest logits of each row: `[token, bits of its logit, second token, bits of its logit]`. Of equal ones the lower token; NaN
/// is passed over; token `u32::MAX` where there is none.
///
/// # Errors
/// Shapes do not fit, or the launch failed.
pub fn argmax(
    device: &Device,
    logits: View<'_, f32>,
    vocabulary: usize,
    rows: usize,
    out: View<'_, [u32; 4]>,
) -> Result<(), CudaError> {
    #[repr(C)]
    struct Raw {
        logits: u64,
        out: u64,
        vocabulary: i32,
    }
    room("logits", logits, rows * vocabulary)?;
    room("choices", out, rows)?;
    let raw = Raw { logits: logits.address(), out: out.address(), vocabulary: int(vocabulary) };
    launch!(device, "argmax", (grid(rows), 1, 1), 1024, 0, raw)
}
