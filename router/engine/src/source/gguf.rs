use std::{collections::HashMap, ops::Range};

use candle_core::quantized::{GgmlDType, gguf_file::Content};
use reprise_kernels::matrix::Format;

use super::{Stored, TensorInfo, TensorSource};
use crate::{EngineError, gguf::Gguf};

/// Where the tensors lie that the header lists.
pub(crate) fn tensors(content: &Content, file_bytes: u64) -> Result<HashMap<String, Tensor>, EngineError> {
    let mut tensors = HashMap::with_capacity(content.tensor_infos.len());
    for (name, info) in &content.tensor_infos {
        let format = format_of(info.ggml_dtype).ok_or_else(|| EngineError::Unsupported {
            what: "tensor format",
            value: format!("{:?} of {name}", info.ggml_dtype),
            supported: "F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K",
        })?;
        let info_here = TensorInfo { shape: info.shape.dims().to_vec(), format };
        let offset = content.tensor_data_offset.saturating_add(info.offset);
        tensors.insert(name.clone(), Tensor(Stored::new(name, info_here, offset, file_bytes)?));
    }
    Ok(tensors)
}

/// A tensor of a GGUF file.
#[derive(Debug)]
pub(crate) struct Tensor(Stored);

impl Tensor {
    pub(crate) const fn info(&self) -> &TensorInfo {
        &self.0.info
    }
}

impl TensorSource for Gguf {
    fn names(&self) -> Vec<&str> {
        self.tensors().keys().map(String::as_str).collect()
    }

    fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors().get(name).map(Tensor::info)
    }

    fn read(&mut self, name: &str, range: Range<usize>, into: &mut Vec<u8>) -> Result<(), EngineError> {
        let Some(Tensor(stored)) = self.tensors().get(name) else {
            return Err(EngineError::MissingTensor { name: name.to_owned() });
        };
        let offset = stored.locate(name, &range)?;
        into.resize(range.len(), 0);
        self.read_at(offset, into)
    }
}

const fn format_of(dtype: GgmlDType) -> Option<Format> {
    Some(match dtype {
        GgmlDType::F32 => Format::F32,
        GgmlDType::F16 => Format::F16,
        GgmlDType::BF16 => Format::BF16,
        GgmlDType::Q4_0 => Format::Q4_0,
        GgmlDType::Q4_1 => Format::Q4_1,
        GgmlDType::Q5_0 => Format::Q5_0,
        GgmlDType::Q5_1 => Format::Q5_1,
        GgmlDType::Q8_0 => Format::Q8_0,
        GgmlDType::Q4K => Format::Q4K,
        GgmlDType::Q5K => Format::Q5K,
        GgmlDType::Q6K => Format::Q6K,
        _ => return None,
    })
}
