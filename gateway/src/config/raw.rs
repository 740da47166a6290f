//! The file as it is written. Every section may be left out; unknown keys are refused.

use std::net::SocketAddr;
use std::path::PathBuf;

use reprise_router::{BanditConfig, CostConfig, GuardConfig, LoadConfig, PolicyKind, RouterConfig};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawConfig {
    pub listen: SocketAddr,
    pub data_dir: PathBuf,
    pub server: ServerSection,
    pub auth: AuthSection,
    pub tiers: Vec<TierSection>,
    pub cache: CacheSection,
    pub embedder: EmbedderSection,
    pub router: RouterSection,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerSection {
    pub max_body_bytes: usize,
    /// From the first byte of a request to the last of its answer.
    pub request_timeout_s: f64,
    /// For a client to send its request's head; an idle connection is closed after it as well.
    pub header_timeout_s: f64,
    /// For a client to send its request's body.
    pub body_timeout_s: f64,
    /// A stream whose client reads nothing for so long is ended.
    pub write_stall_timeout_s: f64,
    /// On shutdown, for running answers to end.
    pub drain_timeout_s: f64,
    pub max_concurrent_requests: usize,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthSection {
    /// Environment variable that holds the admin key; `REPRISE_ADMIN_KEY` if neither this nor the file is named.
    pub admin_key_env: Option<String>,
    pub admin_key_file: Option<PathBuf>,
    pub keys: Vec<KeySection>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeySection {
    pub name: String,
    pub tenant: String,
    pub key_sha256: String,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TierSection {
    pub name: String,
    /// Local: a name of the model manifest. Remote: the model to ask for.
    pub model: Option<String>,
    /// Local: a GGUF file, instead of a model of the manifest.
    pub path: Option<PathBuf>,
    /// Remote: an OpenAI-compatible server, up to and with `/v1`.
    pub base_url: Option<String>,
    pub api_key_env: Option<String>,
    pub api_key_file: Option<PathBuf>,
    pub cost: Option<f64>,
    pub context_length: Option<u32>,
    pub queue: Option<usize>,
    pub threads: Option<usize>,
    pub device: Option<String>,
    /// Local: devices that share a mixture of experts, `["cpu", "cpu"]`, instead of one `device`.
    pub devices: Option<Vec<String>>,
    /// With `devices`: which micro-queue runs next, `adaptive` if not set.
    pub schedule: Option<String>,
    /// Local: sequences computed at once.
    pub max_sequences: Option<usize>,
    /// Local: tokens that the KV memory holds, all sequences together.
    pub kv_tokens: Option<usize>,
    /// Local: the most prompt tokens computed between two tokens of those who generate.
    pub prefill_chunk: Option<usize>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CacheSection {
    pub enabled: bool,
    /// All tenants together.
    pub byte_budget: usize,
    /// Stage 1: the most candidates, and the least cosine similarity.
    pub top_k: usize,
    pub similarity_floor: f32,
    /// Stage 2: the least utility.
    pub tau: f32,
    pub max_examples: usize,
    pub token_budget: u32,
    /// Weight of likeness among the chosen against their utility, in [0, 1]; 0 chooses by utility alone.
    pub diversity: f32,
    /// Whether answers are remembered as examples and exact repeats.
    pub admit: bool,
    pub flush_interval_s: f64,
    pub maintenance_interval_s: f64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EmbedderSection {
    /// A name of the model manifest.
    pub model: String,
    pub threads: usize,
    pub queue: usize,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RouterSection {
    pub policy: PolicyKind,
    /// The dearest tier if none is named.
    pub default_tier: Option<String>,
    /// For cache and router together; later, a request goes straight to the default tier.
    pub deadline_ms: f64,
    /// Tokens that shadow runs of the dearest tier may take where the router is uncertain; 0: none.
    pub shadow_tokens_per_hour: u32,
    pub similarity_threshold: f64,
    pub win_threshold: f64,
    pub load: LoadConfig,
    pub cost: CostConfig,
    pub bandit: BanditConfig,
    pub guard: GuardConfig,
}

impl Default for RawConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            data_dir: PathBuf::from("reprise-data"),
            server: ServerSection::default(),
            auth: AuthSection::default(),
            tiers: vec![
                TierSection::local("small", "smollm2-135m-instruct-moe-4x2-q4_1", 0.1),
                TierSection::local("large", "qwen2.5-coder-1.5b-instruct-q4_k_m", 1.0),
            ],
            cache: CacheSection::default(),
            embedder: EmbedderSection::default(),
            router: RouterSection::default(),
        }
    }
}

impl TierSection {
    fn local(name: &str, model: &str, cost: f64) -> Self {
        Self { name: name.into(), model: Some(model.into()), cost: Some(cost), ..Self::default() }
    }
}

impl Default for ServerSection {
    fn default() -> Self {
        Self {
            max_body_bytes: 4 << 20,
            request_timeout_s: 300.0,
            header_timeout_s: 10.0,
            body_timeout_s: 30.0,
            write_stall_timeout_s: 30.0,
            drain_timeout_s: 30.0,
            max_concurrent_requests: 256,
        }
    }
}

impl Default for CacheSection {
    fn default() -> Self {
        Self {
            enabled: true,
            byte_budget: 256 << 20,
            top_k: 32,
            similarity_floor: 0.5,
            tau: 0.5,
            max_examples: 5,
            token_budget: 1024,
            diversity: 0.3,
            admit: true,
            flush_interval_s: 1.0,
            maintenance_interval_s: 10.0,
        }
    }
}

impl Default for EmbedderSection {
    fn default() -> Self {
        Self { model: "all-minilm-l6-v2".into(), threads: 1, queue: 256 }
    }
}

impl Default for RouterSection {
    fn default() -> Self {
        let RouterConfig { policy, load, cost, bandit, guard, similarity_threshold, win_threshold } =
            RouterConfig::default();
        Self {
            policy,
            default_tier: None,
            deadline_ms: 250.0,
            shadow_tokens_per_hour: 0,
            similarity_threshold,
            win_threshold,
            load,
            cost,
            bandit,
            guard,
        }
    }
}
