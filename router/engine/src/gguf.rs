use std::{fs::File, io::BufReader, path::Path};

use candle_core::{
    Device,
    quantized::{
        QTensor,
        gguf_file::{Content, Value},
    },
};

use crate::EngineError;

/// An open model file: its metadata, and its tensors on demand.
#[derive(Debug)]
pub struct Gguf {
    content: Content,
    reader: BufReader<File>,
}

impl Gguf {
    /// Reads the header.
    ///
    /// # Errors
    /// If the file cannot be opened or is no GGUF file.
    pub fn open(path: &Path) -> Result<Self, EngineError> {
        let file = File::open(path).map_err(|source| EngineError::Open { path: path.to_owned(), source })?;
        let mut reader = BufReader::new(file);
        let content = Content::read(&mut reader)?;
        Ok(Self { content, reader })
    }

    pub(crate) fn value(&self, key: &str) -> Option<&Value> {
        self.content.metadata.get(key)
    }

    pub(crate) fn string(&self, key: &str) -> Option<&str> {
        self.value(key)?.to_string().ok().map(String::as_str)
    }

    pub(crate) fn number(&self, key: &str) -> Option<u32> {
        as_u32(self.value(key)?)
    }

    pub(crate) fn float(&self, key: &str) -> Option<f32> {
        self.value(key)?.to_f32().ok()
    }

    pub(crate) fn flag(&self, key: &str) -> Option<bool> {
        self.value(key)?.to_bool().ok()
    }

    pub(crate) fn array(&self, key: &str) -> Result<&[Value], EngineError> {
        match self.value(key) {
            Some(Value::Array(values)) => Ok(values),
            _ => Err(EngineError::MissingMetadata { key: key.to_owned() }),
        }
    }

    pub(crate) fn has_tensor(&self, name: &str) -> bool {
        self.content.tensor_infos.contains_key(name)
    }

    pub(crate) fn tensor(&mut self, name: &str, device: &Device) -> Result<QTensor, EngineError> {
        Ok(self.content.tensor(&mut self.reader, name, device)?)
    }
}

/// The value of `option`, or which key was missing.
pub(crate) fn required<T>(option: Option<T>, key: &str) -> Result<T, EngineError> {
    option.ok_or_else(|| EngineError::MissingMetadata { key: key.to_owned() })
}

/// Writers differ in the integer type they choose for one key.
pub(crate) fn as_u32(value: &Value) -> Option<u32> {
    match *value {
        Value::U8(v) => Some(v.into()),
        Value::U16(v) => Some(v.into()),
        Value::U32(v) => Some(v),
        Value::U64(v) => u32::try_from(v).ok(),
        Value::I8(v) => u32::try_from(v).ok(),
        Value::I16(v) => u32::try_from(v).ok(),
        Value::I32(v) => u32::try_from(v).ok(),
        Value::I64(v) => u32::try_from(v).ok(),
        _ => None,
    }
}
