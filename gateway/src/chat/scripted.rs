//! A gateway in memory whose tiers and embedder do as they are told: for failures that a real model cannot be made to
//! have. What a real model does is tested on the real binary.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use axum::body::{Body, to_bytes};
use axum::extract::ConnectInfo;
use axum::http::Request;
use axum::response::Response;
use jiff::Timestamp;
use parking_lot::Mutex;
use reprise_accounts::{Desk, KeyBook, LedgerOptions};
use reprise_cache::{Cache, CacheConfig, EmbedError, Embedder, MemoryStore, ModelHash, UnitVector};
use reprise_router::{PolicyKind, Pool, Router, Share};
use reprise_tier::{
    Event, EventSender, Finish, FinishReason, GenerateRequest, Generation, LikelyToken, Pressure, SharedTier,
    Tier, TierError, TierInfo, TierState, Timings, TokenLogprob, Usage, call_begins, call_goes_on, channel,
};
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use crate::auth::Keyring;
use crate::config::{Config, Overrides};
use crate::decisions::DecisionLog;
use crate::http;
use crate::metrics::Metrics;
use crate::state::{AppState, Memory, Settling, SharedState};

/// What a tier does with one request.
#[derive(Debug, Clone)]
pub enum Play {
    /// A whole answer.
    Say(&'static str),
    Refuse(TierError),
    /// Fails before the first word.
    Fail(TierError),
    /// These words, and calls of this function with each of these arguments.
    Call(&'static str, &'static str, &'static [&'static str]),
    /// Fails after this word.
    Break(&'static str, TierError),
    /// This word and then nothing, for ever.
    Hang(&'static str),
    Panic,
}

/// Plays its script, then repeats the last play.
#[derive(Debug)]
pub struct Scripted {
    info: TierInfo,
    script: Mutex<VecDeque<Play>>,
    /// What it was asked, oldest first.
    pub asked: Mutex<Vec<GenerateRequest>>,
    /// Of generations that hang.
    pub hanging: Mutex<Vec<EventSender>>,
    /// Predicted wait, in seconds.
    pub queued_seconds: Mutex<f64>,
}

impl Scripted {
    pub fn new(name: &str, cost: f64, script: &[Play]) -> Arc<Self> {
        let info = TierInfo {
            name: name.into(),
            model: format!("model-{name}"),
            context_length: if cost < 1.0 { 1000 } else { 2000 },
            cost,
            remote: false,
        };
        let script = Mutex::new(script.iter().cloned().collect());
        Arc::new(Self {
            info,
            script,
            asked: Mutex::default(),
            hanging: Mutex::default(),
            queued_seconds: Mutex::default(),
        })
    }

    fn next(&self) -> Play {
        let mut script = self.script.lock();
        if script.len() > 1 { script.pop_front().unwrap() } else { script.front().unwrap().clone() }
    }
}

/// Each word is a token.
fn word(sender: &EventSender, text: &str, logprobs: bool) {
    let likely = LikelyToken { text: text.into(), bytes: Some(text.into()), logprob: -0.25 };
    let token = TokenLogprob { chosen: likely.clone(), top: vec![likely] };
    let logprobs = if logprobs { vec![token] } else { Vec::new() };
    assert!(sender.send(Ok(Event::Delta { text: text.into(), logprobs })));
}

impl Tier for Scripted {
    fn info(&self) -> &TierInfo {
        &self.info
    }

    fn state(&self) -> TierState {
        TierState::Ready
    }

    fn submit(&self, request: GenerateRequest) -> Result<Generation, TierError> {
        let logprobs = request.sampling.logprobs.is_some();
        self.asked.lock().push(request);
        let play = self.next();
        let (sender, generation) = channel(64);
        if let Play::Refuse(error) = play {
            return Err(error);
        }
        sender.send(Ok(Event::Started { prompt_tokens: 3 }));
        match play {
            Play::Call(text, name, arguments) => {
                if !text.is_empty() {
                    word(&sender, text, logprobs);
                }
                for (index, arguments) in arguments.iter().enumerate() {
                    let id = format!("call_{index}");
                    for piece in [call_begins(&id, name), call_goes_on(arguments)] {
                        sender.send(Ok(Event::ToolCall { index, piece }));
                    }
                }
                sender.send(Ok(Event::Finished(Finish {
                    reason: FinishReason::ToolCalls,
                    usage: Usage { prompt_tokens: 3, cached_tokens: 0, completion_tokens: 5 },
                    timings: Timings::default(),
                })));
            }
            Play::Say(text) => {
                let words: Vec<&str> = text.split_inclusive(' ').collect();
                words.iter().for_each(|text| word(&sender, text, logprobs));
                sender.send(Ok(Event::Finished(Finish {
                    reason: FinishReason::Stop,
                    usage: Usage {
                        prompt_tokens: 3,
                        cached_tokens: 0,
                        completion_tokens: words.len() as u32,
                    },
                    timings: Timings::default(),
                })));
            }
            Play::Refuse(error) | Play::Fail(error) => {
                sender.send(Err(error));
            }
            Play::Break(text, error) => {
                word(&sender, text, logprobs);
                sender.send(Err(error));
            }
            Play::Hang(text) => {
                word(&sender, text, logprobs);
                self.hanging.lock().push(sender);
            }
            Play::Panic => panic!("as the script says"),
        }
        Ok(generation)
    }

    fn pressure(&self) -> Pressure {
        Pressure { queued_seconds: *self.queued_seconds.lock(), queue_capacity: 64, ..Pressure::default() }
    }

    fn block_tokens(&self, _: &str, _: &str) -> u32 {
        5
    }
}

/// One direction a word, so that texts with common words are near.
#[derive(Debug)]
pub struct Words {
    /// Never answers.
    pub stuck: bool,
}

#[async_trait]
impl Embedder for Words {
    fn model_hash(&self) -> ModelHash {
        ModelHash::new([7; 32])
    }

    fn dimensions(&self) -> usize {
        256
    }

    async fn embed(&self, text: &str) -> Result<UnitVector, EmbedError> {
        if self.stuck {
            std::future::pending::<()>().await;
        }
        let mut vector = vec![0.0; 256];
        for word in text.split_whitespace() {
            let hash = word.bytes().fold(17_usize, |hash, byte| hash.wrapping_mul(31) ^ usize::from(byte));
            vector[hash % 256] += 1.0;
        }
        Ok(UnitVector::try_new(vector)?)
    }
}

#[derive(Debug)]
pub struct Stage {
    pub state: SharedState,
    app: axum::Router,
    _dir: tempfile::TempDir,
}

impl Stage {
    pub fn new(policy: PolicyKind, tiers: &[&Arc<Scripted>]) -> Self {
        Self::with(policy, tiers, false, |_| ())
    }

    pub fn with(
        policy: PolicyKind,
        tiers: &[&Arc<Scripted>],
        stuck: bool,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let mut config = Config::load(None, Overrides::default()).unwrap();
        config.router.policy = policy;
        // Nothing here waits for it but what is stuck.
        config.decision_deadline = std::time::Duration::from_secs(if stuck { 0 } else { 60 });
        change(&mut config);
        let dir = tempfile::tempdir().unwrap();
        let embedder: Arc<dyn Embedder> = Arc::new(Words { stuck });
        let store = Arc::new(MemoryStore::default());
        let cache = Cache::open(CacheConfig::default(), embedder.model_hash(), embedder.dimensions(), store);
        let memory = Memory { cache: Arc::new(cache.unwrap()), embedder };
        let tiers = tiers.iter().map(|tier| Arc::clone(tier) as SharedTier).collect();
        let state = Arc::new(AppState {
            keys: Keyring::new(&config.auth, true, KeyBook::open(&dir.path().join("keys.log")).unwrap())
                .unwrap(),
            desk: Desk::open(LedgerOptions::new(dir.path().join("usage"))).unwrap().0,
            flights: crate::chat::Flights::default(),
            retries: Share::new(config.resilience.retry_share),
            hedges: Share::new(config.resilience.hedge_share),
            pool: Pool::new(tiers, None).unwrap().with_breakers(config.resilience.breaker),
            router: Router::new(config.router.clone()).unwrap(),
            memory: OnceLock::from(memory),
            settling: Settling::settled(),
            decisions: DecisionLog::new(8),
            responses: crate::responses::ResponseStore::new(dir.path()),
            telemetry: crate::telemetry::Telemetry::default(),
            metrics: Metrics::new().unwrap(),
            slots: Arc::new(Semaphore::new(config.server.max_concurrent_requests)),
            searches: Arc::new(Semaphore::new(1)),
            afterwards: Arc::new(Semaphore::new(1)),
            shadow: crate::chat::ShadowBudget::new(0, Instant::now()),
            tasks: TaskTracker::new(),
            shutdown: CancellationToken::new(),
            abort: CancellationToken::new(),
            started: Instant::now(),
            started_at: Timestamp::now(),
            configuration: ArcSwap::from_pointee(config),
        });
        Self { app: http::app(&state), state, _dir: dir }
    }

    pub async fn send(&self, body: &Value, headers: &[(&str, &str)]) -> Response {
        self.send_to("POST", "/v1/chat/completions", body, headers).await
    }

    pub async fn send_to(
        &self,
        method: &str,
        path: &str,
        body: &Value,
        headers: &[(&str, &str)],
    ) -> Response {
        let mut request =
            Request::builder().method(method).uri(path).header("content-type", "application/json");
        if headers.iter().all(|(name, _)| *name != "host") {
            request = request.header("host", "localhost");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(Body::from(body.to_string())).unwrap();
        request.extensions_mut().insert(ConnectInfo(SocketAddr::from(([127, 0, 0, 1], 50_000))));
        self.app.clone().oneshot(request).await.unwrap()
    }

    /// What is learned after an answer has been learned.
    pub async fn settled(&self) {
        self.state.tasks.close();
        self.state.tasks.wait().await;
        self.state.tasks.reopen();
    }
}

pub async fn text(response: Response) -> String {
    let bytes = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}

pub async fn json(response: Response) -> Value {
    serde_json::from_str(&text(response).await).unwrap()
}
