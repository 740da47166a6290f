//! The families of models, each in its own file: what it does differently from a llama.

mod llama;
mod mixtral;
mod olmoe;
mod qwen2;
mod qwen2_moe;
mod qwen3_moe;

use reprise_kernels::rope::Pairing;

/// How a family differs from the others. All are pre-norm decoders with RMS norms, rotary embedding, grouped-query attention and
/// SwiGLU.
#[derive(Debug)]
pub(crate) struct Family {
    /// `model_type` in `config.json`.
    pub(crate) name: &'static str,
    /// `general.architecture` in GGUF. A file of `llama` with experts is a mixtral.
    pub(crate) architecture: &'static str,
    /// How GGUF files order a head's dimensions. In safetensors all pair `i` with `i + d/2`.
    pub(crate) gguf_pairing: Pairing,
    /// Whether the projections of q, k and v must have biases. Other biases are used where the checkpoint has them.
    pub(crate) qkv_bias: bool,
    pub(crate) qk_norm: QkNormExtent,
    pub(crate) experts: Option<ExpertFamily>,
}

/// What an RMS norm of queries and keys spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum QkNormExtent {
    None,
    Head,
    Projection,
}

#[derive(Debug)]
pub(crate) struct ExpertFamily {
    /// The weights of the top k sum to 1. The key `norm_topk_prob` or `expert_weights_norm` of a checkpoint is stronger.
    pub(crate) renormalise: bool,
    /// The key of the width of an expert in `config.json`.
    pub(crate) width_key: &'static str,
    /// The key of the number of experts in `config.json`.
    pub(crate) count_key: &'static str,
    pub(crate) shared: bool,
    /// Names within a layer in safetensors: the gate, the list of experts, and an expert's gate, up and down.
    pub(crate) gate: &'static str,
    pub(crate) list: &'static str,
    pub(crate) mlp: [&'static str; 3],
}

/// As qwen2_moe names and configures its experts; others followed it.
const QWEN_EXPERTS: ExpertFamily = ExpertFamily {
    renormalise: false,
    width_key: "moe_intermediate_size",
    count_key: "num_experts",
    shared: false,
    gate: "mlp.gate",
    list: "mlp.experts",
    mlp: ["gate_proj", "up_proj", "down_proj"],
};

impl Family {
    pub(crate) const ALL: [&'static Self; 6] = [
        &llama::LLAMA,
        &qwen2::QWEN2,
        &mixtral::MIXTRAL,
        &qwen2_moe::QWEN2_MOE,
        &qwen3_moe::QWEN3_MOE,
        &olmoe::OLMOE,
    ];
    /// For messages.
    pub(crate) const NAMES: &'static str = "llama, qwen2, mixtral, qwen2_moe, qwen3_moe, olmoe";

    pub(crate) fn by_name(name: &str) -> Option<&'static Self> {
        Self::ALL.into_iter().find(|family| family.name == name)
    }

    pub(crate) fn by_architecture(architecture: &str, experts: bool) -> Option<&'static Self> {
        Self::ALL
            .into_iter()
            .find(|family| family.architecture == architecture && family.experts.is_some() == experts)
    }
}
