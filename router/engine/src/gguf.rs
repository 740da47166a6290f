use std::{
    collections::HashMap,
    fs::File,
    io::{BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use candle_core::quantized::gguf_file::{Content, Value};

use crate::{
    EngineError,
    source::{gguf, gguf::Tensor},
};

/// An open model file: its metadata, and its tensors on demand.
#[derive(Debug)]
pub struct Gguf {
    path: PathBuf,
    content: Content,
    tensors: HashMap<String, Tensor>,
    reader: BufReader<File>,
}

impl Gguf {
    /// Reads the header.
    ///
    /// # Errors
    /// If the file cannot be opened or is no GGUF file.
    pub fn open(path: &Path) -> Result<Self, EngineError> {
        let cannot = |source| EngineError::Open { path: path.to_owned(), source };
        let file = File::open(path).map_err(cannot)?;
        let bytes = file.metadata().map_err(cannot)?.len();
        let mut reader = BufReader::new(file);
        let content = Content::read(&mut reader)?;
        let tensors = gguf::tensors(&content, bytes)?;
        Ok(Self { path: path.to_owned(), content, tensors, reader })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Outermost dimension first.
    pub(crate) fn tensor_shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|tensor| tensor.info().shape.as_slice())
    }

    pub(crate) fn tensors(&self) -> &HashMap<String, Tensor> {
        &self.tensors
    }

    /// Fills `into` from the file's byte `offset` on.
    pub(crate) fn read_at(&mut self, offset: u64, into: &mut [u8]) -> Result<(), EngineError> {
        let read = self.reader.seek(SeekFrom::Start(offset)).and_then(|_| self.reader.read_exact(into));
        read.map_err(|source| EngineError::Open { path: self.path.clone(), source })
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
