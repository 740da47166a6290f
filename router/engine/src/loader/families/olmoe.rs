//! OLMoE (arXiv 2409.02060).

use reprise_kernels::rope::Pairing;

use super::{ExpertFamily, Family, QWEN_EXPERTS, QkNormExtent};

/// q and k are normed over the whole projection, not head by head; 8 of 64 experts with plain softmax weights.
pub(super) const OLMOE: Family = Family {
    name: "olmoe",
    architecture: "olmoe",
    gguf_pairing: Pairing::Halves,
    qkv_bias: false,
    qk_norm: QkNormExtent::Projection,
    experts: Some(ExpertFamily { width_key: "intermediate_size", ..QWEN_EXPERTS }),
};
