//! Llama (arXiv 2302.13971, 2407.21783), and what shares its shape, such as SmolLM2 (arXiv 2502.02737).

use reprise_kernels::rope::Pairing;

use super::{Family, QkNormExtent};

/// The family that the others are measured by. GGUF files have the rows of q and k reordered so that pairs are neighbours.
pub(super) const LLAMA: Family = Family {
    name: "llama",
    architecture: "llama",
    gguf_pairing: Pairing::Interleaved,
    qkv_bias: false,
    qk_norm: QkNormExtent::None,
    experts: None,
};
