//! Qwen3-30B-A3B and Qwen3-235B-A22B (arXiv 2505.09388).

use reprise_kernels::rope::Pairing;

use super::{ExpertFamily, Family, QWEN_EXPERTS, QkNormExtent};

/// Each head of q and k is normed before it is turned; no biases, no shared expert. GGUF files do not say whether weights are renormalised:
/// the released models do that.
pub(super) const QWEN3_MOE: Family = Family {
    name: "qwen3_moe",
    architecture: "qwen3moe",
    gguf_pairing: Pairing::Halves,
    qkv_bias: false,
    qk_norm: QkNormExtent::Head,
    experts: Some(ExpertFamily { renormalise: true, ..QWEN_EXPERTS }),
};
