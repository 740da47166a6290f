use candle_core::{
    Device, Module, Tensor,
    quantized::{GgmlDType, QMatMul, QTensor},
};

use crate::{EngineError, gguf::Gguf};

/// A matrix product with weights as the file holds them, and a bias where the model has one.
///
/// On a CPU, candle 0.11 has no SIMD kernel for Q4_1, Q5_0 and Q5_1: weights in these formats are widened to f32 at
/// load, which is exact and costs memory. Measured on two cores for 576 x 1536: 128 rows in 68.8 ms as Q4_1 and in
/// 1.4 ms as f32, one row in 273 and 76 microseconds. Rewriting them as Q8_0 with the inner dimension padded to
/// candle's tiled kernels is faster still for one row (17 microseconds) and was refused: rounding SmolLM2's
/// activations in blocks of 256, as these kernels do, moved its logits by 16 to 40 % of their spread.
#[derive(Debug)]
pub(crate) struct Linear {
    weight: QMatMul,
    bias: Option<Tensor>,
}

impl Linear {
    /// Reads `{name}.weight` and, if there is one, `{name}.bias`.
    pub(crate) fn load(gguf: &mut Gguf, name: &str, device: &Device) -> Result<Self, EngineError> {
        let weight = gguf.candle_tensor(&format!("{name}.weight"), device)?;
        let bias_name = format!("{name}.bias");
        let bias = if gguf.has_tensor(&bias_name) {
            Some(gguf.candle_tensor(&bias_name, device)?.dequantize(device)?)
        } else {
            None
        };
        Self::new(weight, bias, device)
    }

    pub(crate) fn new(weight: QTensor, bias: Option<Tensor>, device: &Device) -> Result<Self, EngineError> {
        let slow = matches!(weight.dtype(), GgmlDType::Q4_1 | GgmlDType::Q5_0 | GgmlDType::Q5_1);
        let weight = if device.is_cpu() && slow {
            QMatMul::Tensor(weight.dequantize(device)?)
        } else {
            QMatMul::from_qtensor(weight)?
        };
        Ok(Self { weight, bias })
    }

    /// `x`: [rows, inner] -> [rows, outer].
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor, EngineError> {
        let product = self.weight.forward(x)?;
        Ok(match &self.bias {
            Some(bias) => product.broadcast_add(bias)?,
            None => product,
        })
    }
}
