//! Qwen2 and Qwen2.5 (arXiv 2407.10671, 2412.15115).

use reprise_kernels::rope::Pairing;

use super::{Family, QkNormExtent};

/// A llama whose projections of q, k and v have biases.
pub(super) const QWEN2: Family = Family {
    name: "qwen2",
    architecture: "qwen2",
    gguf_pairing: Pairing::Halves,
    qkv_bias: true,
    qk_norm: QkNormExtent::None,
    experts: None,
};
