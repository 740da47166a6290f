use std::path::Path;

use reprise_kernels::rope::Pairing;
use serde_json::Value;

use super::{Config, Container, ExpertConfig};
use crate::{
    EngineError,
    graph::{RopeScaling, Sizes, Yarn},
    loader::families::{ExpertFamily, Family},
    source::read_json,
};

impl Config {
    /// Reads a folder's `config.json`, as transformers writes it since version 4 (5 moved the settings of rotary embedding).
    pub(in crate::loader) fn from_folder(folder: &Path) -> Result<Self, EngineError> {
        let json: Value = read_json(&folder.join("config.json"))?;
        Self::from_json(&Settings(&json))
    }

    fn from_json(json: &Settings<'_>) -> Result<Self, EngineError> {
        let name = json.required("model_type", Value::as_str)?;
        let family = Family::by_name(name).ok_or_else(|| EngineError::Unsupported {
            what: "model_type",
            value: name.to_owned(),
            supported: Family::NAMES,
        })?;
        if let Some(activation) = json.text("hidden_act").filter(|name| *name != "silu") {
            return Err(EngineError::Unsupported {
                what: "hidden_act",
                value: activation.to_owned(),
                supported: "silu",
            });
        }
        if let Some(clip) = json.float("clip_qkv") {
            return Err(EngineError::Unsupported {
                what: "clip_qkv",
                value: clip.to_string(),
                supported: "none",
            });
        }
        let (hidden, heads) = (json.size("hidden_size")?, json.size("num_attention_heads")?);
        let context_length = json.size("max_position_embeddings")?;
        // Within its window, sliding attention is plain attention.
        let slides = json.flag("use_sliding_window").unwrap_or(true);
        let window = json.number("sliding_window").filter(|window| slides && *window > 0);
        let layers = json.size("num_hidden_layers")?;
        let sizes = Sizes {
            hidden,
            vocabulary: json.size("vocab_size")?,
            context_length: window.map_or(context_length, |window| window.min(context_length)),
            heads,
            kv_heads: json.number("num_key_value_heads").unwrap_or(heads),
            head_dim: json.number("head_dim").or_else(|| hidden.checked_div(heads)).unwrap_or_default(),
            norm_eps: json.float("rms_norm_eps").map_or(1e-6, |eps| eps as f32),
        };
        let rope = json.rope();
        let experts = family.experts.as_ref().map(|experts| json.experts(experts, layers)).transpose()?;
        Self {
            container: Container::Folder,
            family,
            layers,
            width: json.size("intermediate_size")?,
            rope_base: rope.float("rope_theta").or_else(|| json.float("rope_theta")).unwrap_or(10_000.0),
            rope_scaling: rope.scaling(context_length as f64)?,
            pairing: Pairing::Halves,
            qkv_bias: family.qkv_bias && json.flag("qkv_bias").unwrap_or(true),
            tied: Some(json.flag("tie_word_embeddings").unwrap_or(false)),
            experts,
            sizes,
        }
        .check()
    }
}

/// An object of `config.json`; a key that is null counts as absent.
struct Settings<'a>(&'a Value);

impl<'a> Settings<'a> {
    fn get<T>(&self, key: &str, read: impl Fn(&'a Value) -> Option<T>) -> Option<T> {
        self.0.get(key).and_then(read)
    }

    fn required<T>(&self, key: &str, read: impl Fn(&'a Value) -> Option<T>) -> Result<T, EngineError> {
        self.get(key, read).ok_or_else(|| EngineError::MissingMetadata { key: key.to_owned() })
    }

    fn number(&self, key: &str) -> Option<usize> {
        self.get(key, Value::as_u64).and_then(|number| usize::try_from(number).ok())
    }

    fn size(&self, key: &str) -> Result<usize, EngineError> {
        self.number(key).ok_or_else(|| EngineError::MissingMetadata { key: key.to_owned() })
    }

    fn float(&self, key: &str) -> Option<f64> {
        self.get(key, Value::as_f64)
    }

    fn flag(&self, key: &str) -> Option<bool> {
        self.get(key, Value::as_bool)
    }

    fn text(&self, key: &str) -> Option<&'a str> {
        self.get(key, Value::as_str)
    }

    fn rope(&self) -> Settings<'a> {
        let object = ["rope_parameters", "rope_scaling"]
            .iter()
            .find_map(|key| self.get(key, |value| value.is_object().then_some(value)));
        Settings(object.unwrap_or(&Value::Null))
    }

    fn experts(&self, family: &ExpertFamily, layers: usize) -> Result<ExpertConfig, EngineError> {
        let count = match self.number(family.count_key) {
            Some(count) => count,
            // transformers 5 has one name for all.
            None => self.size("num_local_experts")?,
        };
        let step = self.number("decoder_sparse_step").unwrap_or(1).max(1);
        let dense: Vec<u64> = self
            .get("mlp_only_layers", Value::as_array)
            .map(|layers| layers.iter().filter_map(Value::as_u64).collect())
            .unwrap_or_default();
        let has_experts = |layer: usize| !dense.contains(&(layer as u64)) && (layer + 1).is_multiple_of(step);
        let shared_width = self.number("shared_expert_intermediate_size").filter(|width| *width > 0);
        Ok(ExpertConfig {
            count,
            top_k: self.size("num_experts_per_tok")?,
            width: self.size(family.width_key)?,
            shared_width: shared_width.filter(|_| family.shared),
            renormalise: self.flag("norm_topk_prob").unwrap_or(family.renormalise),
            layers: Some((0..layers.min(4096)).map(has_experts).collect()),
        })
    }

    /// Of the object of rotary settings.
    fn scaling(&self, context_length: f64) -> Result<RopeScaling, EngineError> {
        if let Some(part) = self.float("partial_rotary_factor").filter(|part| *part != 1.0) {
            return Err(EngineError::Unsupported {
                what: "partial_rotary_factor",
                value: part.to_string(),
                supported: "1",
            });
        }
        let float = |key: &str| self.required(key, Value::as_f64);
        let original = self.float("original_max_position_embeddings").unwrap_or(context_length);
        match self.text("rope_type").or_else(|| self.text("type")).unwrap_or("default") {
            "default" | "none" => Ok(RopeScaling::None),
            "linear" => Ok(RopeScaling::Linear { factor: float("factor")? }),
            "llama3" => Ok(RopeScaling::Llama3 {
                factor: float("factor")?,
                low: float("low_freq_factor")?,
                high: float("high_freq_factor")?,
                original,
            }),
            "yarn" => {
                let factor = self.float("factor").unwrap_or(context_length / original);
                Ok(RopeScaling::Yarn(Yarn {
                    factor,
                    original,
                    beta_fast: self.float("beta_fast").unwrap_or(32.0),
                    beta_slow: self.float("beta_slow").unwrap_or(1.0),
                    magnitude: self.float("attention_factor").or_else(|| self.mscale(factor)),
                    truncate: self.flag("truncate").unwrap_or(true),
                }))
            }
            other => Err(EngineError::Unsupported {
                what: "rope scaling",
                value: other.to_owned(),
                supported: "default, linear, llama3, yarn",
            }),
        }
    }

    /// DeepSeek's two factors in place of yarn's one.
    fn mscale(&self, factor: f64) -> Option<f64> {
        let magnitude = |scale: f64| if factor > 1.0 { 0.1 * scale * factor.ln() + 1.0 } else { 1.0 };
        let scale = |key: &str| self.float(key).filter(|scale| *scale != 0.0).map(magnitude);
        Some(scale("mscale")? / scale("mscale_all_dim")?)
    }
}
