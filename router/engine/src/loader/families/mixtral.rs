//! Mixtral (arXiv 2401.04088).

use reprise_kernels::rope::Pairing;

use super::{ExpertFamily, Family, QkNormExtent};

/// A llama with experts in place of feed-forwards. The paper takes the softmax over the chosen logits only: the same numbers as a softmax
/// over all, renormalised. As GGUF it is a `llama` with experts, and some of its layers may be dense.
pub(super) const MIXTRAL: Family = Family {
    name: "mixtral",
    architecture: "llama",
    gguf_pairing: Pairing::Interleaved,
    qkv_bias: false,
    qk_norm: QkNormExtent::None,
    experts: Some(ExpertFamily {
        renormalise: true,
        width_key: "intermediate_size",
        count_key: "num_local_experts",
        shared: false,
        gate: "block_sparse_moe.gate",
        list: "block_sparse_moe.experts",
        mlp: ["w1", "w3", "w2"],
    }),
};
