use super::{config::Container, families::ExpertFamily};

/// A weight's place in the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    AttentionNorm,
    Q,
    K,
    V,
    QNorm,
    KNorm,
    AttentionOutput,
    FeedForwardNorm,
    Gate,
    Up,
    Down,
    ExpertGate,
    SharedExpertGate,
    SharedGate,
    SharedUp,
    SharedDown,
}

/// Weights outside of the layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outer {
    Embedding,
    FinalNorm,
    Output,
}

/// The tensor of a layer's part, without `.weight` or `.bias`.
pub(super) fn layer(
    container: Container,
    experts: Option<&ExpertFamily>,
    layer: usize,
    part: Part,
) -> String {
    match container {
        Container::Gguf => {
            let part = match part {
                Part::AttentionNorm => "attn_norm",
                Part::Q => "attn_q",
                Part::K => "attn_k",
                Part::V => "attn_v",
                Part::QNorm => "attn_q_norm",
                Part::KNorm => "attn_k_norm",
                Part::AttentionOutput => "attn_output",
                Part::FeedForwardNorm => "ffn_norm",
                Part::Gate => "ffn_gate",
                Part::Up => "ffn_up",
                Part::Down => "ffn_down",
                Part::ExpertGate => "ffn_gate_inp",
                Part::SharedExpertGate => "ffn_gate_inp_shexp",
                Part::SharedGate => "ffn_gate_shexp",
                Part::SharedUp => "ffn_up_shexp",
                Part::SharedDown => "ffn_down_shexp",
            };
            format!("blk.{layer}.{part}")
        }
        Container::Folder => {
            let part = match part {
                Part::AttentionNorm => "input_layernorm",
                Part::Q => "self_attn.q_proj",
                Part::K => "self_attn.k_proj",
                Part::V => "self_attn.v_proj",
                Part::QNorm => "self_attn.q_norm",
                Part::KNorm => "self_attn.k_norm",
                Part::AttentionOutput => "self_attn.o_proj",
                Part::FeedForwardNorm => "post_attention_layernorm",
                Part::Gate => "mlp.gate_proj",
                Part::Up => "mlp.up_proj",
                Part::Down => "mlp.down_proj",
                Part::ExpertGate => experts.map_or("mlp.gate", |experts| experts.gate),
                Part::SharedExpertGate => "mlp.shared_expert_gate",
                Part::SharedGate => "mlp.shared_expert.gate_proj",
                Part::SharedUp => "mlp.shared_expert.up_proj",
                Part::SharedDown => "mlp.shared_expert.down_proj",
            };
            format!("model.layers.{layer}.{part}")
        }
    }
}

pub(super) const fn outer(container: Container, part: Outer) -> &'static str {
    match (container, part) {
        (Container::Gguf, Outer::Embedding) => "token_embd.weight",
        (Container::Gguf, Outer::FinalNorm) => "output_norm.weight",
        (Container::Gguf, Outer::Output) => "output.weight",
        (Container::Folder, Outer::Embedding) => "model.embed_tokens.weight",
        (Container::Folder, Outer::FinalNorm) => "model.norm.weight",
        (Container::Folder, Outer::Output) => "lm_head.weight",
    }
}

/// The matrices of an expert: gate, up, down.
pub(super) const EXPERT_PARTS: [&str; 3] = ["gate", "up", "down"];

/// GGUF: one tensor [experts, outputs, inputs] for all of a layer's experts.
pub(super) fn stacked_experts(layer: usize, part: usize) -> String {
    format!("blk.{layer}.ffn_{}_exps.weight", EXPERT_PARTS[part])
}

/// A tensor of one expert: safetensors, and GGUF files of before 2024-04.
pub(super) fn expert(
    container: Container,
    family: &ExpertFamily,
    layer: usize,
    expert: usize,
    part: usize,
) -> String {
    match container {
        Container::Gguf => format!("blk.{layer}.ffn_{}.{expert}.weight", EXPERT_PARTS[part]),
        Container::Folder => {
            format!("model.layers.{layer}.{}.{expert}.{}.weight", family.list, family.mlp[part])
        }
    }
}

/// Tensors that some writers leave in and that carry no weights.
pub(super) fn is_ignored(name: &str) -> bool {
    name.ends_with("rotary_emb.inv_freq") || name == "rope_freqs.weight"
}
