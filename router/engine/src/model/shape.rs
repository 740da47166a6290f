use crate::{
    EngineError,
    gguf::{Gguf, required},
};

/// How a family pairs the dimensions that rotary embedding turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rotary {
    /// (2i, 2i+1): llama as GGUF stores it.
    Interleaved,
    /// (i, i + d/2): qwen2.
    Halves,
}

/// The sizes of a dense decoder.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    pub(crate) layers: usize,
    pub(crate) hidden: usize,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head_dim: usize,
    pub(crate) norm_eps: f32,
    pub(crate) rope_base: f32,
    pub(crate) rotary: Rotary,
}

impl Shape {
    pub(crate) fn read(gguf: &Gguf) -> Result<Self, EngineError> {
        let arch = architecture(gguf)?;
        let rotary = match arch {
            "llama" => Rotary::Interleaved,
            "qwen2" => Rotary::Halves,
            other => {
                return Err(EngineError::Unsupported {
                    what: "architecture",
                    value: other.to_owned(),
                    supported: "llama, qwen2",
                });
            }
        };
        let number = |key: &str| {
            let key = format!("{arch}.{key}");
            required(gguf.number(&key), &key).map(|value| value as usize)
        };
        if gguf.number(&format!("{arch}.expert_count")).unwrap_or(0) > 1 {
            return Err(EngineError::Unsupported {
                what: "feed-forward",
                value: "mixture of experts".into(),
                supported: "dense",
            });
        }
        let scaling = gguf.string(&format!("{arch}.rope.scaling.type")).unwrap_or("none");
        if scaling != "none" || gguf.has_tensor("rope_freqs.weight") {
            return Err(EngineError::Unsupported {
                what: "rope scaling",
                value: scaling.to_owned(),
                supported: "none",
            });
        }
        let (hidden, heads) = (number("embedding_length")?, number("attention.head_count")?);
        let kv_heads = number("attention.head_count_kv").unwrap_or(heads);
        if heads == 0 || kv_heads == 0 || !heads.is_multiple_of(kv_heads) {
            return Err(EngineError::Inconsistent(format!("{heads} heads over {kv_heads} KV heads")));
        }
        let head_dim = number("attention.key_length").unwrap_or(hidden / heads);
        let turned = number("rope.dimension_count").unwrap_or(head_dim);
        if turned != head_dim {
            return Err(EngineError::Unsupported {
                what: "partial rotary embedding",
                value: format!("{turned} of {head_dim}"),
                supported: "all dimensions",
            });
        }
        let eps = format!("{arch}.attention.layer_norm_rms_epsilon");
        Ok(Self {
            layers: number("block_count")?,
            hidden,
            heads,
            kv_heads,
            head_dim,
            norm_eps: required(gguf.float(&eps), &eps)?,
            rope_base: gguf.float(&format!("{arch}.rope.freq_base")).unwrap_or(10_000.0),
            rotary,
        })
    }
}

fn architecture(gguf: &Gguf) -> Result<&str, EngineError> {
    required(gguf.string("general.architecture"), "general.architecture")
}
