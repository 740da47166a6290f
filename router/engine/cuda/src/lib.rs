//! What a model computes on an NVIDIA GPU, below the level of models: the device and its memory, products of matrices, attention over
//! paged KV, norms, routing to experts, the choice of tokens.
//!
//! The driver and NVRTC are opened at run time: the build needs neither GPU nor CUDA, and one binary runs with and without them. Kernels
//! are CUDA source in this crate (`kernels/*.cu`), compiled once at start and kept in the user's cache folder.
//!
//! Every kernel has a plain counterpart in [`mod@reference`], which `examples/cuda_check.rs` holds it to on a GPU.
//!
//! Contract: what a kernel computes for a row does not depend on how many other rows there are or which kernel of several was chosen
//! for their number, bit for bit. See the heads of `gemm.cu` and `attention.cu` for how.

mod compile;
mod device;
mod error;
mod event;
mod ggml;
mod graph;
mod memory;
pub mod ops;
pub mod reference;
mod sheet;
mod transfer;
pub mod weights;

pub use device::Device;
pub use error::CudaError;
pub use event::{Event, Timer};
pub use graph::LaunchGraph;
pub use memory::{Buffer, Pinned, Plain, View};
pub use sheet::Sheets;
pub use transfer::{Outbox, Transfer, WayTimes};

/// Tokens of a KV block.
pub const BLOCK_TOKENS: usize = 32;
/// Tokens of a chunk of attention.
pub const CHUNK_TOKENS: usize = 64;
/// The most experts of a layer.
pub const MAX_EXPERTS: usize = 512;
/// The most experts that a token goes to.
pub const MAX_TOP_K: usize = 32;
