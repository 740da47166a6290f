use super::{Config, Container, ExpertConfig};
use crate::{
    EngineError,
    gguf::{Gguf, required},
    graph::{RopeScaling, Sizes, Yarn},
    loader::{VectorPlan, families::Family, names, read_vector},
    source::TensorSource,
};

const DIVISORS: &str = "rope_freqs.weight";

impl Config {
    /// Reads the metadata of a GGUF file; what a file does not say is taken from shapes of its tensors.
    pub(in crate::loader) fn from_gguf(gguf: &mut Gguf) -> Result<Self, EngineError> {
        let divisors = divisors(gguf)?;
        let architecture = required(gguf.string("general.architecture"), "general.architecture")?;
        let keys = Keys { gguf, architecture };
        let expert_count = keys.number("expert_count").filter(|count| *count > 0);
        let family = Family::by_architecture(architecture, expert_count.is_some()).ok_or_else(|| {
            EngineError::Unsupported {
                what: "architecture",
                value: format!("{architecture}{}", if expert_count.is_some() { " with experts" } else { "" }),
                supported: Family::NAMES,
            }
        })?;
        let (hidden, heads) = (keys.required("embedding_length")?, keys.required("attention.head_count")?);
        let head_dim =
            keys.number("attention.key_length").or_else(|| hidden.checked_div(heads)).unwrap_or_default();
        keys.refuse("rope.dimension_count", head_dim)?;
        keys.refuse("attention.value_length", head_dim)?;
        let eps = keys.key("attention.layer_norm_rms_epsilon");
        let context_length = keys.required("context_length")?;
        // Within its window, sliding attention is plain attention.
        let window = keys.number("attention.sliding_window").filter(|window| *window > 0);
        let embedding = gguf.tensor_shape("token_embd.weight").and_then(<[usize]>::first);
        let sizes = Sizes {
            hidden,
            vocabulary: *required(embedding, "token_embd.weight")?,
            context_length: window.map_or(context_length, |window| window.min(context_length)),
            heads,
            kv_heads: keys.number("attention.head_count_kv").unwrap_or(heads),
            head_dim,
            norm_eps: required(gguf.float(&eps), &eps)?,
        };
        let width = keys.number("feed_forward_length").unwrap_or(0);
        Self {
            container: Container::Gguf,
            family,
            layers: keys.required("block_count")?,
            rope_base: keys.float("rope.freq_base").unwrap_or(10_000.0),
            rope_scaling: match divisors {
                Some(divisors) => RopeScaling::Divisors(divisors),
                None => keys.scaling(context_length)?,
            },
            pairing: family.gguf_pairing,
            qkv_bias: family.qkv_bias,
            tied: None,
            experts: expert_count.map(|count| keys.experts(count, family, width)).transpose()?,
            sizes,
            width,
        }
        .check()
    }
}

/// Settings of the file's architecture.
struct Keys<'a> {
    gguf: &'a Gguf,
    architecture: &'a str,
}

impl Keys<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.architecture)
    }

    fn number(&self, name: &str) -> Option<usize> {
        self.gguf.number(&self.key(name)).map(|number| number as usize)
    }

    fn required(&self, name: &str) -> Result<usize, EngineError> {
        required(self.number(name), &self.key(name))
    }

    fn float(&self, name: &str) -> Option<f64> {
        self.gguf.float(&self.key(name)).map(f64::from)
    }

    /// A head's size that is not the usual one would be ignored silently.
    fn refuse(&self, name: &str, head_dim: usize) -> Result<(), EngineError> {
        match self.number(name) {
            Some(other) if other != head_dim => Err(EngineError::Unsupported {
                what: "head dimension",
                value: format!("{} = {other} beside {head_dim}", self.key(name)),
                supported: "one for rotary embedding, keys and values",
            }),
            _ => Ok(()),
        }
    }

    fn experts(&self, count: usize, family: &Family, width: usize) -> Result<ExpertConfig, EngineError> {
        // Early files do not tell the width of experts.
        let by_shape = |name: &str, from_end: usize| {
            let layers = 0..self.number("block_count").unwrap_or(0).min(4096);
            layers.into_iter().find_map(|layer| {
                let shape = self.gguf.tensor_shape(&format!("blk.{layer}.{name}.weight"))?;
                shape.get(shape.len().checked_sub(from_end)?).copied()
            })
        };
        let renormalise = self.gguf.flag(&self.key("expert_weights_norm"));
        Ok(ExpertConfig {
            count,
            top_k: self.required("expert_used_count")?,
            width: self
                .number("expert_feed_forward_length")
                .or_else(|| by_shape("ffn_gate_exps", 2))
                .unwrap_or(width),
            shared_width: self
                .number("expert_shared_feed_forward_length")
                .or_else(|| by_shape("ffn_gate_shexp", 2)),
            renormalise: renormalise
                .or_else(|| family.experts.as_ref().map(|experts| experts.renormalise))
                .unwrap_or(false),
            layers: None,
        })
    }

    fn scaling(&self, context_length: usize) -> Result<RopeScaling, EngineError> {
        let factor = self.float("rope.scaling.factor").filter(|factor| *factor > 0.0);
        // Files of before 2023-10 have the factor alone.
        let old = self.float("rope.scale_linear").filter(|factor| *factor > 0.0);
        match self.gguf.string(&self.key("rope.scaling.type")) {
            None => Ok(old.map_or(RopeScaling::None, |factor| RopeScaling::Linear { factor })),
            Some("none") => Ok(RopeScaling::None),
            Some("linear") => Ok(RopeScaling::Linear { factor: factor.or(old).unwrap_or(1.0) }),
            Some("yarn") => {
                let factor = factor.unwrap_or(1.0);
                let magnitude = if factor > 1.0 { 0.1 * factor.ln() + 1.0 } else { 1.0 };
                Ok(RopeScaling::Yarn(Yarn {
                    factor,
                    original: self.number("rope.scaling.original_context_length").unwrap_or(context_length)
                        as f64,
                    beta_fast: self.float("rope.scaling.yarn_beta_fast").unwrap_or(32.0),
                    beta_slow: self.float("rope.scaling.yarn_beta_slow").unwrap_or(1.0),
                    // Here the file's factor comes on top.
                    magnitude: self.float("rope.scaling.attn_factor").map(|factor| factor * magnitude),
                    truncate: true,
                }))
            }
            Some(other) => Err(EngineError::Unsupported {
                what: "rope scaling",
                value: other.to_owned(),
                supported: "none, linear, yarn, rope_freqs.weight",
            }),
        }
    }
}

fn divisors(gguf: &mut Gguf) -> Result<Option<Vec<f32>>, EngineError> {
    debug_assert!(names::is_ignored(DIVISORS), "read here and not by the planner");
    let Some(info) = gguf.tensor(DIVISORS) else { return Ok(None) };
    let plan =
        VectorPlan { tensor: DIVISORS.to_owned(), format: info.format, len: info.shape.iter().product() };
    read_vector(gguf, &plan, &mut Vec::new()).map(Some)
}
