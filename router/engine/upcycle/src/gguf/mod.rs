//! The GGUF container, as far as copying needs it: the header is parsed, tensor data is left where it is.
//! Specification: `docs/gguf.md` of ggml.

mod format;
mod read;
mod value;
mod write;

pub use format::Format;
pub use value::{Entry, Value};
pub(crate) use write::{align_up, write_header};

/// All that stands before the tensor data.
#[derive(Debug, Clone, PartialEq)]
pub struct Header {
    pub entries: Vec<Entry>,
    pub tensors: Vec<Tensor>,
    /// Tensors begin at multiples of this, a power of two.
    pub alignment: u64,
    /// Where in the file the offsets of tensors count from.
    pub data_start: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    pub name: String,
    /// Fastest dimension first: a matrix of a linear layer is `[inputs, outputs]`.
    pub shape: Vec<u64>,
    pub format: Format,
    /// From [`Header::data_start`].
    pub offset: u64,
    pub bytes: u64,
}

pub(crate) const MAGIC: &[u8; 4] = b"GGUF";
pub(crate) const ALIGNMENT_KEY: &str = "general.alignment";
pub(crate) const DEFAULT_ALIGNMENT: u64 = 32;

impl Header {
    #[must_use]
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    #[must_use]
    pub fn string(&self, key: &str) -> Option<&str> {
        self.entry(key)?.as_str()
    }

    #[must_use]
    pub fn number(&self, key: &str) -> Option<u32> {
        self.entry(key)?.as_u32()
    }

    #[must_use]
    pub fn tensor(&self, name: &str) -> Option<&Tensor> {
        self.tensors.iter().find(|tensor| tensor.name == name)
    }
}
