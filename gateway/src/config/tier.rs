use std::num::{NonZeroU16, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use reprise_accounts::Price;
use reprise_engine::{DeviceKind, EngineError, LocalConfig, ScheduleKind, Spread};
use secrecy::SecretString;

use super::raw::TierSection;
use super::read::ConfigError;
use super::secret;
use super::validate::seconds;

/// A tier as it is to be brought up.
#[derive(Debug)]
pub enum TierPlan {
    Local(LocalPlan),
    Remote(RemotePlan),
}

#[derive(Debug, Clone)]
pub struct LocalPlan {
    pub name: String,
    pub price: Price,
    pub weights: Weights,
    pub cost: f64,
    /// Caps the model's own.
    pub context_length: Option<u32>,
    pub queue: NonZeroUsize,
    /// As many as the engine takes if not set.
    pub threads: Option<NonZeroUsize>,
    pub device: DeviceKind,
    /// The model is spread over devices, instead.
    pub spread: Option<Spread>,
    /// Sequences computed at once.
    pub max_sequences: NonZeroUsize,
    /// Tokens that the KV memory holds; the engine's own choice if not set.
    pub kv_tokens: Option<NonZeroUsize>,
    /// Prompt tokens between two tokens of those who generate.
    pub prefill_chunk: NonZeroUsize,
}

/// Where a local tier's weights are.
#[derive(Debug, Clone)]
pub enum Weights {
    /// A name of the manifest.
    Manifest(String),
    Gguf(PathBuf),
}

#[derive(Debug)]
pub struct RemotePlan {
    pub name: String,
    pub price: Price,
    /// Ask a second time after it.
    pub hedge_after: Option<Duration>,
    pub base_url: String,
    pub api_key: Option<SecretString>,
    pub model: String,
    pub cost: f64,
    pub context_length: u32,
    /// Requests under way at once; the router's own choice if not set.
    pub max_concurrent: Option<NonZeroUsize>,
    pub queue: NonZeroUsize,
}

const QUEUE: usize = 64;
/// More than a machine has sockets.
const MOST_DEVICES: u16 = 16;
const REMOTE_CONTEXT: u32 = 128_000;

impl TierPlan {
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Local(plan) => &plan.name,
            Self::Remote(plan) => &plan.name,
        }
    }

    #[must_use]
    pub fn price(&self) -> Price {
        match self {
            Self::Local(plan) => plan.price,
            Self::Remote(plan) => plan.price,
        }
    }

    /// `None`: never.
    #[must_use]
    pub fn hedge_after(&self) -> Option<Duration> {
        match self {
            Self::Local(_) => None,
            Self::Remote(plan) => plan.hedge_after,
        }
    }

    #[must_use]
    pub fn cost(&self) -> f64 {
        match self {
            Self::Local(plan) => plan.cost,
            Self::Remote(plan) => plan.cost,
        }
    }
}

/// Reads the tier at this index; errors name `tiers[index].key`.
pub(super) fn plan(index: usize, raw: TierSection) -> Result<TierPlan, ConfigError> {
    let at = |key: &str| format!("tiers[{index}].{key}");
    let cost = raw.cost.unwrap_or(1.0);
    if !(0.0..=1.0).contains(&cost) {
        return Err(ConfigError::value(at("cost"), format!("{cost} is not in [0, 1]")));
    }
    if raw.name.is_empty() || raw.name == "auto" {
        return Err(ConfigError::value(at("name"), "must be neither empty nor `auto`, which means any tier"));
    }
    if raw.context_length == Some(0) {
        return Err(ConfigError::value(at("context_length"), "must be at least 1"));
    }
    let price = price(&at, &raw)?;
    if raw.base_url.is_some() { remote(&at, raw, cost, price) } else { local(&at, raw, cost, price) }
}

fn price(at: &dyn Fn(&str) -> String, raw: &TierSection) -> Result<Price, ConfigError> {
    for (key, price) in [("prompt_price", raw.prompt_price), ("completion_price", raw.completion_price)] {
        if price.is_some_and(|price| !(0.0..=1e6).contains(&price)) {
            return Err(ConfigError::value(at(key), "must be a price of a million tokens, up to a million"));
        }
    }
    let of = |price: Option<f64>| price.unwrap_or_default();
    Ok(Price::per_million(of(raw.prompt_price), of(raw.completion_price)).unwrap_or_default())
}

fn local(
    at: &dyn Fn(&str) -> String,
    raw: TierSection,
    cost: f64,
    price: Price,
) -> Result<TierPlan, ConfigError> {
    refuse(
        at,
        "is only for a remote tier (one with base_url)",
        &[
            ("api_key_env", raw.api_key_env.is_some()),
            ("api_key_file", raw.api_key_file.is_some()),
            ("hedge_after_ms", raw.hedge_after_ms.is_some()),
            ("max_concurrent", raw.max_concurrent.is_some()),
        ],
    )?;
    let weights = match (raw.model, raw.path) {
        (Some(model), None) => Weights::Manifest(model),
        (None, Some(path)) => Weights::Gguf(path),
        (Some(_), Some(_)) => return Err(ConfigError::value(at("path"), "give `model` or `path`, not both")),
        (None, None) => {
            let message =
                "a tier needs `model` (of the manifest), `path` (a GGUF file) or `base_url` (a server)";
            return Err(ConfigError::value(at("model"), message));
        }
    };
    let (queue, threads) = (queue(at, raw.queue)?, raw.threads);
    let threads = positive(at, "threads", threads, "leave it out for all cores")?;
    let max_sequences =
        positive(at, "max_sequences", raw.max_sequences, "1 answers one request after the other")?;
    let kv_tokens = positive(at, "kv_tokens", raw.kv_tokens, "leave it out for what the sequences need")?;
    let prefill_chunk =
        positive(at, "prefill_chunk", raw.prefill_chunk, "leave it out for what suits a CPU")?;
    let device = raw.device.as_deref().map_or(Ok(DeviceKind::Cpu), str::parse);
    let device = device.map_err(|error: EngineError| ConfigError::value(at("device"), error.to_string()))?;
    let spread = spread(at, raw.device.is_some(), raw.devices, raw.schedule)?;
    let context_length = raw.context_length;
    let max_sequences = max_sequences.unwrap_or_else(|| LocalConfig::default_max_sequences(device));
    Ok(TierPlan::Local(LocalPlan {
        name: raw.name,
        price,
        weights,
        cost,
        context_length,
        queue,
        threads,
        device,
        spread,
        max_sequences,
        kv_tokens,
        prefill_chunk: prefill_chunk.unwrap_or_else(|| LocalConfig::default_prefill_chunk(device)),
    }))
}

/// Devices that share the model.
fn spread(
    at: &dyn Fn(&str) -> String,
    has_device: bool,
    devices: Option<Vec<String>>,
    schedule: Option<String>,
) -> Result<Option<Spread>, ConfigError> {
    let Some(devices) = devices else {
        refuse(at, "is only for a tier with `devices`", &[("schedule", schedule.is_some())])?;
        return Ok(None);
    };
    refuse(at, "give `device` or `devices`, not both", &[("device", has_device)])?;
    if let Some(other) = devices.iter().find(|device| *device != "cpu") {
        let message =
            format!("`{other}`: a model can be spread over parts of the CPU only, each called `cpu`");
        return Err(ConfigError::value(at("devices"), message));
    }
    let schedule = schedule.map_or(Ok(ScheduleKind::Adaptive), |name| name.parse());
    let schedule = schedule.map_err(|error: reprise_engine::UnknownSchedule| {
        ConfigError::value(at("schedule"), error.to_string())
    })?;
    let count = u16::try_from(devices.len()).ok().filter(|count| (2..=MOST_DEVICES).contains(count));
    let message = || format!("must name 2 to {MOST_DEVICES} devices");
    let devices =
        count.and_then(NonZeroU16::new).ok_or_else(|| ConfigError::value(at("devices"), message()))?;
    Ok(Some(Spread { devices, schedule }))
}

/// At least 1, if it is set at all.
fn positive(
    at: &dyn Fn(&str) -> String,
    key: &str,
    value: Option<usize>,
    hint: &str,
) -> Result<Option<NonZeroUsize>, ConfigError> {
    match value.map(NonZeroUsize::new) {
        Some(None) => Err(ConfigError::value(at(key), format!("must be at least 1; {hint}"))),
        value => Ok(value.flatten()),
    }
}

fn remote(
    at: &dyn Fn(&str) -> String,
    raw: TierSection,
    cost: f64,
    price: Price,
) -> Result<TierPlan, ConfigError> {
    refuse(
        at,
        "is only for a local tier (one without base_url)",
        &[
            ("path", raw.path.is_some()),
            ("threads", raw.threads.is_some()),
            ("device", raw.device.is_some()),
            ("devices", raw.devices.is_some()),
            ("schedule", raw.schedule.is_some()),
            ("max_sequences", raw.max_sequences.is_some()),
            ("kv_tokens", raw.kv_tokens.is_some()),
            ("prefill_chunk", raw.prefill_chunk.is_some()),
        ],
    )?;
    let queue = queue(at, raw.queue)?;
    let max_concurrent =
        positive(at, "max_concurrent", raw.max_concurrent, "1 asks for one answer after the other")?;
    let base_url = raw.base_url.unwrap_or_default();
    if !reqwest::Url::parse(&base_url)
        .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
    {
        return Err(ConfigError::value(at("base_url"), "must be an http or https URL, up to and with /v1"));
    }
    let hedge_after = match raw.hedge_after_ms {
        Some(time) => Some(seconds(at("hedge_after_ms"), time / 1e3)?),
        None => None,
    };
    let model =
        raw.model.ok_or_else(|| ConfigError::value(at("model"), "a remote tier needs a model to ask for"))?;
    let api_key = match (raw.api_key_env, raw.api_key_file) {
        (None, None) => None,
        (Some(_), Some(_)) => {
            return Err(ConfigError::value(
                at("api_key_file"),
                "give `api_key_env` or `api_key_file`, not both",
            ));
        }
        (None, Some(path)) => Some(secret::from_file(&at("api_key_file"), &path)?),
        (Some(variable), None) => Some(secret::from_env(&variable).ok_or_else(|| {
            ConfigError::value(at("api_key_env"), format!("the environment variable {variable} is not set"))
        })?),
    };
    Ok(TierPlan::Remote(RemotePlan {
        name: raw.name,
        price,
        hedge_after,
        base_url,
        api_key,
        model,
        cost,
        context_length: raw.context_length.unwrap_or(REMOTE_CONTEXT),
        max_concurrent,
        queue,
    }))
}

fn queue(at: &dyn Fn(&str) -> String, queue: Option<usize>) -> Result<NonZeroUsize, ConfigError> {
    NonZeroUsize::new(queue.unwrap_or(QUEUE))
        .ok_or_else(|| ConfigError::value(at("queue"), "must be at least 1"))
}

fn refuse(at: &dyn Fn(&str) -> String, why: &str, keys: &[(&str, bool)]) -> Result<(), ConfigError> {
    match keys.iter().find(|(_, given)| *given) {
        Some((key, _)) => Err(ConfigError::value(at(key), why)),
        None => Ok(()),
    }
}
