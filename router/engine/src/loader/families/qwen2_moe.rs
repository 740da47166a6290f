//! Qwen1.5-MoE and Qwen2-57B-A14B (arXiv 2407.10671).

use reprise_kernels::rope::Pairing;

use super::{ExpertFamily, Family, QWEN_EXPERTS, QkNormExtent};

/// A qwen2 with many narrow experts, plain softmax weights, and a shared expert behind a sigmoid gate. Some layers may be dense.
pub(super) const QWEN2_MOE: Family = Family {
    name: "qwen2_moe",
    architecture: "qwen2moe",
    gguf_pairing: Pairing::Halves,
    qkv_bias: true,
    qk_norm: QkNormExtent::None,
    experts: Some(ExpertFamily { shared: true, ..QWEN_EXPERTS }),
};
