use candle_core::{
    D, Device, Module, Tensor,
    quantized::{GgmlDType, QMatMul, QTensor},
};

use crate::{EngineError, gguf::Gguf};

/// candle's tiled CPU kernels want the inner dimension in whole super-blocks of this many values.
const SUPER_BLOCK: usize = 256;

/// A matrix product with quantised weights, and a bias where the model has one.
///
/// On a CPU, candle 0.11 has tiled kernels for Q4K, Q6K and Q8_0, and only where the inner dimension is a multiple
/// of 256. The older 32-value formats run row by row, Q4_1 and Q5_x without SIMD. So these are widened to Q8_0 at
/// load, whose step is about a seventeenth of theirs, and the inner dimension is padded with zeros. Measured for
/// 576 x 1536 on two cores: 128 rows of Q4_1 68.8 ms, f32 1.4 ms, padded Q8_0 about 1.5 ms; one row 273, 76, 17 us.
#[derive(Debug)]
pub(crate) struct Linear {
    weight: QMatMul,
    bias: Option<Tensor>,
    /// Zeros to append to each input row.
    padding: usize,
}

impl Linear {
    /// Reads `{name}.weight` and, if there is one, `{name}.bias`.
    pub(crate) fn load(gguf: &mut Gguf, name: &str, device: &Device) -> Result<Self, EngineError> {
        let weight = gguf.tensor(&format!("{name}.weight"), device)?;
        let bias_name = format!("{name}.bias");
        let bias = if gguf.has_tensor(&bias_name) {
            Some(gguf.tensor(&bias_name, device)?.dequantize(device)?)
        } else {
            None
        };
        Self::new(weight, bias, device)
    }

    pub(crate) fn new(weight: QTensor, bias: Option<Tensor>, device: &Device) -> Result<Self, EngineError> {
        let inner = weight.shape().dims2()?.1;
        let (weight, padding) = match (device.is_cpu(), weight.dtype()) {
            (
                true,
                GgmlDType::Q4_0 | GgmlDType::Q4_1 | GgmlDType::Q5_0 | GgmlDType::Q5_1 | GgmlDType::Q8_0,
            ) => {
                let padding = inner.next_multiple_of(SUPER_BLOCK) - inner;
                if weight.dtype() == GgmlDType::Q8_0 && padding == 0 {
                    (weight, 0)
                } else {
                    let wide = weight.dequantize(device)?.pad_with_zeros(D::Minus1, 0, padding)?;
                    (QTensor::quantize(&wide, GgmlDType::Q8_0)?, padding)
                }
            }
            _ => (weight, 0),
        };
        Ok(Self { weight: QMatMul::from_qtensor(weight)?, bias, padding })
    }

    /// `x`: [rows, inner] -> [rows, outer].
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor, EngineError> {
        let product = if self.padding == 0 {
            self.weight.forward(x)?
        } else {
            self.weight.forward(&x.pad_with_zeros(D::Minus1, 0, self.padding)?)?
        };
        Ok(match &self.bias {
            Some(bias) => product.broadcast_add(bias)?,
            None => product,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_padded_product_is_the_plain_product() {
        let device = Device::Cpu;
        // 96 is not a multiple of 256; values on Q4_1's grid, so that only Q8_0's rounding is seen.
        let values: Vec<f32> = (0..64 * 96).map(|i| ((i * 7919) % 16) as f32 / 8.0 - 1.0).collect();
        let weight = Tensor::from_vec(values, (64, 96), &device).expect("weight");
        let input: Vec<f32> = (0..3 * 96).map(|i| ((i * 31) % 17) as f32 / 17.0 - 0.5).collect();
        let x = Tensor::from_vec(input, (3, 96), &device).expect("input");
        let expected = x.matmul(&weight.t().expect("t")).expect("matmul");
        let packed = QTensor::quantize(&weight, GgmlDType::Q4_1).expect("quantize");
        let linear = Linear::new(packed, None, &device).expect("linear");
        let got = linear.forward(&x).expect("forward");
        let error = (got - &expected).and_then(|d| d.abs()?.max_all()?.to_scalar::<f32>()).expect("error");
        let scale = expected.abs().and_then(|e| e.max_all()?.to_scalar::<f32>()).expect("scale");
        assert!(error < 0.02 * scale, "error {error} at scale {scale}");
    }
}
