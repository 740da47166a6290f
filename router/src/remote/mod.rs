//! A tier that runs elsewhere, behind any OpenAI-compatible API, reached with reqwest or, where that will do, more [directly](direct).
//!
//! Always streamed, whatever the client asked for: the first token's time is known, a silent upstream is noticed, and a
//! client that goes away stops the upstream's work as the connection closes. Nothing that the upstream sends is
//! trusted: its size is bounded and what does not parse is a [`TierError`].

mod answer;
mod body;
mod chunk;
mod config;
mod direct;
mod exchange;
mod failure;
mod gauge;
mod health;
mod pattern;
mod rounds;
mod wire;

use std::sync::Arc;

use reprise_tier::{GenerateRequest, Generation, Pressure, Tier, TierError, TierInfo, TierState, channel};
use reqwest::{
    Client, Url,
    header::{AUTHORIZATION, HeaderMap, HeaderValue},
    redirect,
};
use secrecy::ExposeSecret;
use tokio::runtime::Handle;

pub use config::{RemoteConfig, RemoteConfigError, RemoteTimeouts};
use direct::Direct;
use gauge::Gauge;
use health::{Health, Standing};

/// A model behind an OpenAI-compatible API.
#[derive(Debug)]
pub struct RemoteTier {
    info: TierInfo,
    upstream: Arc<Upstream>,
}

/// What every request to the upstream shares.
#[derive(Debug)]
struct Upstream {
    client: Client,
    /// For requests for an answer, where it can be used.
    direct: Option<Direct>,
    chat: Url,
    models: Url,
    model: String,
    timeouts: RemoteTimeouts,
    gauge: Gauge,
    health: Health,
}

impl RemoteTier {
    /// Reaches for nothing yet: the upstream is looked for when somebody asks for the tier's state.
    ///
    /// # Errors
    /// The URL or the key cannot be used.
    pub fn new(config: RemoteConfig) -> Result<Self, RemoteConfigError> {
        if config.max_concurrent == 0 {
            return Err(RemoteConfigError::Concurrency);
        }
        let (chat, models) = (config.endpoint("chat/completions")?, config.endpoint("models")?);
        let mut headers = HeaderMap::new();
        if let Some(key) = &config.api_key {
            let mut bearer = HeaderValue::from_str(&format!("Bearer {}", key.expose_secret()))
                .map_err(|_| RemoteConfigError::ApiKey)?;
            bearer.set_sensitive(true);
            headers.insert(AUTHORIZATION, bearer);
        }
        let direct = Direct::to(&chat, headers.get(AUTHORIZATION), USER_AGENT, config.timeouts.connect);
        let client = Client::builder()
            .default_headers(headers)
            .user_agent(USER_AGENT)
            .connect_timeout(config.timeouts.connect)
            // A redirect would carry the key to another host.
            .redirect(redirect::Policy::none())
            .build()?;
        let gauge = Gauge::new(config.max_concurrent, config.queue);
        let RemoteConfig { name, model, cost, context_length, timeouts, .. } = config;
        let info = TierInfo { name, model: model.clone(), context_length, cost, remote: true };
        let upstream =
            Upstream { client, direct, chat, models, model, timeouts, gauge, health: Health::default() };
        Ok(Self { info, upstream: Arc::new(upstream) })
    }

    /// Asks the upstream for its models. Any answer, also a refusal, shows that it is there.
    ///
    /// # Errors
    /// It could not be reached.
    pub async fn probe(&self) -> Result<(), TierError> {
        exchange::probe(&self.upstream).await
    }
}

impl Tier for RemoteTier {
    fn info(&self) -> &TierInfo {
        &self.info
    }

    /// Loading until the upstream has answered once, then ready until several requests in a row could not reach it. While
    /// it is not ready it is probed, at most every few seconds and only while somebody asks.
    fn state(&self) -> TierState {
        let standing = self.upstream.health.standing();
        if standing == Standing::Up {
            return TierState::Ready;
        }
        if let (Ok(runtime), true) = (Handle::try_current(), self.upstream.health.probe_is_due()) {
            let upstream = Arc::clone(&self.upstream);
            // Its outcome is noted in `health`.
            drop(runtime.spawn(async move { exchange::probe(&upstream).await }));
        }
        match standing {
            Standing::Down(reason) => TierState::Failed { reason },
            Standing::Up | Standing::Unknown => TierState::Loading,
        }
    }

    fn submit(&self, request: GenerateRequest) -> Result<Generation, TierError> {
        let runtime = Handle::try_current()
            .map_err(|_| TierError::Internal { message: "a remote tier needs a tokio runtime".to_owned() })?;
        if request.text.is_some() {
            let message = "an upstream that chats completes no text".to_owned();
            return Err(TierError::Unsupported { param: "prompt".into(), message });
        }
        let ticket = self.upstream.gauge.enter()?;
        let capacity = request.max_tokens.unwrap_or(self.info.context_length).min(MOST_EVENTS) as usize
            + 8
            + exchange::RESERVED;
        let (sender, generation) = channel(capacity);
        let upstream = Arc::clone(&self.upstream);
        drop(runtime.spawn(exchange::run(upstream, request, ticket, sender, capacity)));
        Ok(generation)
    }

    fn pressure(&self) -> Pressure {
        let mut pressure = self.upstream.gauge.pressure();
        pressure.queued_seconds = pressure.queued_seconds.max(self.upstream.health.held_off().as_secs_f64());
        pressure
    }

    fn block_tokens(&self, user: &str, assistant: &str) -> u32 {
        estimate_tokens(user.len() + assistant.len()).saturating_add(TEMPLATE_TOKENS)
    }
}

const USER_AGENT: &str = concat!("reprise/", env!("CARGO_PKG_VERSION"));
/// Beyond this many events the rest of an answer comes as one piece.
const MOST_EVENTS: u32 = 32_768;
/// What a chat template puts around two turns, as ChatML does.
const TEMPLATE_TOKENS: u32 = 10;

/// Tokens of `bytes` of text, where the upstream's tokenizer is not at hand: about four bytes each in English.
fn estimate_tokens(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(4)).unwrap_or(u32::MAX)
}
