//! The file as it is written. Every section may be left out; unknown keys are refused.

use std::net::SocketAddr;
use std::path::PathBuf;

use reprise_accounts::Limits;
use reprise_router::{BanditConfig, CostConfig, GuardConfig, LoadConfig, PolicyKind, RouterConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::tls::TlsSection;

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawConfig {
    /// Address and port. Beyond loopback keys are needed.
    pub listen: SocketAddr,
    /// Where everything is kept: cache, keys, ledger, stored responses. One gateway at a time.
    pub data_dir: PathBuf,
    /// Limits of HTTP.
    pub server: ServerSection,
    /// Who may ask, and for how much.
    pub auth: AuthSection,
    /// The record of what was used.
    pub ledger: LedgerSection,
    /// What is done about tiers that fail or are slow.
    pub resilience: ResilienceSection,
    /// The models that answer.
    pub tiers: Vec<TierSection>,
    /// Remembered answers: exact repeats and examples.
    pub cache: CacheSection,
    /// Makes vectors of questions.
    pub embedder: EmbedderSection,
    /// Which tier answers, and with how many examples.
    pub router: RouterSection,
    /// Traces for an OpenTelemetry collector.
    pub telemetry: TelemetrySection,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ServerSection {
    /// Of a request.
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
    /// More are refused with 429.
    pub max_concurrent_requests: usize,
    /// A certificate, for HTTPS: HTTP/1.1 and HTTP/2. Without one it is plain HTTP/1.1.
    pub tls: TlsSection,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AuthSection {
    /// Environment variable that holds the admin key; `REPRISE_ADMIN_KEY` if neither this nor the file is named.
    pub admin_key_env: Option<String>,
    /// File that holds the admin key.
    pub admin_key_file: Option<PathBuf>,
    /// Tokens that a request which sets no `max_tokens` gets at most where its key's or tenant's tokens are limited.
    pub default_max_tokens: u32,
    /// Keys of clients, by their hash; others are made with `reprise keys create` while the gateway runs.
    pub keys: Vec<KeySection>,
    /// What all keys of a tenant may use together.
    pub tenants: Vec<TenantSection>,
}

/// A client's key; others are made with `reprise keys create` while the gateway runs.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeySection {
    /// For people.
    pub name: String,
    /// Whose data its requests reach.
    pub tenant: String,
    /// `printf %s KEY | sha256sum`
    pub key_sha256: String,
    /// Names of the only tiers that it may use; all if left out.
    pub tiers: Option<Vec<String>>,
    /// What it may use.
    pub limits: Option<Limits>,
}

/// What all keys of a tenant may use together.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TenantSection {
    /// Its name.
    pub tenant: String,
    /// What all its keys may use together.
    pub limits: Limits,
}

/// The record of what was used.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LedgerSection {
    /// What an answer waits for: that its use is written and, if the machine ended now, would not be missing. Either it is on the disk itself, or a sum that covers it stands there ahead of it, for callers that ask often; after the end of the machine that sum, about twice what is written between two syncs (5 ms), counts as used. If false, records are left to the system: they survive the end of the process but not of the machine.
    pub sync: bool,
    /// Of one file; a longer one is followed by another.
    pub file_bytes: u64,
    /// Files kept, with the one written to; 0: all.
    pub files: usize,
    /// Who is answered while it cannot be written, as on a full disk: `refuse-limited` (all but those with a limit, who get 503), `refuse` (nobody), `serve` (everybody; what is not recorded is counted).
    pub unwritable: Unwritable,
}

/// Who is answered while the ledger cannot be written, as on a full disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Unwritable {
    /// Only those whose use is not limited; the others get a 503.
    RefuseLimited,
    /// Nobody: all get a 503.
    Refuse,
    /// Everybody; what is not recorded is counted and told in the log.
    Serve,
}

/// What is done about tiers that fail or are slow.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ResilienceSection {
    /// Names of the tiers that are tried after one that failed, in this order; none: dearer ones first, then cheaper ones.
    pub fallback: Vec<String>,
    /// Further attempts on the same remote tier where no other can help and nothing was sent to the client.
    pub retries: u32,
    /// Before the first of them, twice as long before each further one, each time by a random factor from 0.5 to 1.5.
    pub retry_backoff_ms: f64,
    /// Retries, as a share of all requests.
    pub retry_share: f64,
    /// Hedged requests (`hedge_after_ms` of a tier), as a share of all requests.
    pub hedge_share: f64,
    /// Failures in a row after which a tier is left alone; 0: it never is.
    pub breaker_failures: u32,
    /// For so long at first; twice as long after each failed trial.
    pub breaker_open_s: f64,
    /// And at most for so long.
    pub breaker_longest_s: f64,
    /// A request that would wait longer for its tier, as predicted, is refused at once; `batch` waits for as long as need be.
    pub longest_wait_s: f64,
    /// Identical requests at temperature 0 that come while the first of them is answered wait for its answer.
    pub single_flight: bool,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TierSection {
    /// What clients call it by, and other keys here.
    pub name: String,
    /// Local: a name of the model manifest. Remote: the model to ask for.
    pub model: Option<String>,
    /// Local: a GGUF file, instead of a model of the manifest.
    pub path: Option<PathBuf>,
    /// Remote: an OpenAI-compatible server, up to and with `/v1`.
    pub base_url: Option<String>,
    /// Remote: environment variable that holds the key.
    pub api_key_env: Option<String>,
    /// Remote: file that holds the key.
    pub api_key_file: Option<PathBuf>,
    /// Relative to the other tiers, in [0, 1]: what the router weighs.
    pub cost: Option<f64>,
    /// Of a million prompt tokens, in whatever currency budgets are in.
    pub prompt_price: Option<f64>,
    /// Of a million completion tokens.
    pub completion_price: Option<f64>,
    /// Remote: requests under way at once; more wait. 32 if left out.
    pub max_concurrent: Option<usize>,
    /// Remote: ask a second time if nothing has come by then, and take what comes first; never if left out.
    pub hedge_after_ms: Option<f64>,
    /// Tokens of prompt and completion together. Local: caps the model's own; remote: 128000 if left out.
    pub context_length: Option<u32>,
    /// Requests that wait; more are refused. 64 if left out.
    pub queue: Option<usize>,
    /// Local: all cores if left out.
    pub threads: Option<usize>,
    /// Local: `cpu` or `cuda:N`.
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

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CacheSection {
    /// Without it nothing is remembered.
    pub enabled: bool,
    /// All tenants together.
    pub byte_budget: usize,
    /// Stage 1: the most candidates.
    pub top_k: usize,
    /// Stage 1: the least cosine similarity.
    pub similarity_floor: f32,
    /// Stage 2: the least utility.
    pub tau: f32,
    /// In one prompt.
    pub max_examples: usize,
    /// Of all examples in one prompt.
    pub token_budget: u32,
    /// Weight of likeness among the chosen against their utility, in [0, 1]; 0 chooses by utility alone.
    pub diversity: f32,
    /// Whether answers are remembered as examples and exact repeats.
    pub admit: bool,
    /// Between two flushes of the store to the disk.
    pub flush_interval_s: f64,
    /// Between two rounds of eviction.
    pub maintenance_interval_s: f64,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EmbedderSection {
    /// A name of the model manifest.
    pub model: String,
    /// At work on one batch.
    pub threads: usize,
    /// Texts that wait; more are answered without the cache.
    pub queue: usize,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RouterSection {
    /// Who decides.
    pub policy: PolicyKind,
    /// The dearest tier if none is named.
    pub default_tier: Option<String>,
    /// For cache and router together; later, a request goes straight to the default tier.
    pub deadline_ms: f64,
    /// Tokens that shadow runs of the dearest tier may take where the router is uncertain; 0: none.
    pub shadow_tokens_per_hour: u32,
    /// Policy `static-threshold`: cosine similarity from which the cheapest tier is taken, with examples.
    pub similarity_threshold: f64,
    /// Policy `win-probability`: least probability to take the cheapest tier.
    pub win_threshold: f64,
    /// How load turns requests away from dear tiers.
    pub load: LoadConfig,
    /// How work is priced.
    pub cost: CostConfig,
    /// How it learns.
    pub bandit: BanditConfig,
    /// When examples are withheld.
    pub guard: GuardConfig,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetrySection {
    /// A collector that takes OTLP over HTTP, as `http://localhost:4318`: spans go to `/v1/traces` under it. No traces if left out.
    pub otlp_endpoint: Option<String>,
    /// Environment variable that holds headers for it, `name=value` with commas between, such as a key.
    pub otlp_headers_env: Option<String>,
    /// Of the requests that bring no `traceparent`, so many are recorded; those that bring one say it themselves. In [0, 1].
    pub sample_share: f64,
    /// Requests whose spans wait to be sent; those of more are dropped and counted.
    pub queue: usize,
}

impl Default for TelemetrySection {
    fn default() -> Self {
        Self { otlp_endpoint: None, otlp_headers_env: None, sample_share: 1.0, queue: 1024 }
    }
}

impl Default for RawConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            data_dir: PathBuf::from("reprise-data"),
            server: ServerSection::default(),
            auth: AuthSection::default(),
            ledger: LedgerSection::default(),
            resilience: ResilienceSection::default(),
            tiers: vec![
                TierSection::local("small", "smollm2-135m-instruct-moe-4x2-q4_1", 0.1),
                TierSection::local("large", "qwen2.5-coder-1.5b-instruct-q4_k_m", 1.0),
            ],
            cache: CacheSection::default(),
            embedder: EmbedderSection::default(),
            router: RouterSection::default(),
            telemetry: TelemetrySection::default(),
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
            tls: TlsSection::default(),
        }
    }
}

impl Default for AuthSection {
    fn default() -> Self {
        Self {
            admin_key_env: None,
            admin_key_file: None,
            default_max_tokens: 1024,
            keys: Vec::new(),
            tenants: Vec::new(),
        }
    }
}

impl Default for LedgerSection {
    fn default() -> Self {
        Self { sync: true, file_bytes: 16 << 20, files: 0, unwritable: Unwritable::RefuseLimited }
    }
}

impl Default for ResilienceSection {
    fn default() -> Self {
        Self {
            fallback: Vec::new(),
            retries: 2,
            retry_backoff_ms: 100.0,
            retry_share: 0.1,
            hedge_share: 0.05,
            breaker_failures: 5,
            breaker_open_s: 5.0,
            breaker_longest_s: 60.0,
            longest_wait_s: 60.0,
            single_flight: true,
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
