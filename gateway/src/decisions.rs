//! The newest requests and why each was answered as it was: for the admin interface, and for feedback to find what a
//! rating is about. Bounded, in memory: it explains, it is no audit.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::Mutex;
use reprise_cache::{ExampleId, TenantId, UnitVector};
use reprise_openai::Usage;
use reprise_router::{ArmKey, Decision};
use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::broadcast;

/// What a request got from the cache, as the header `x-reprise-cache` says it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum CacheStatus {
    /// A stored answer.
    Hit,
    /// Examples beside the question.
    Examples,
    /// Nothing.
    Miss,
    /// It was not asked.
    #[default]
    Bypass,
}

/// One request that has ended.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct DecisionRecord {
    pub request_id: Arc<str>,
    pub created: Timestamp,
    pub tenant: TenantId,
    /// The tier that answered; none if it failed before one was chosen.
    pub tier: Option<String>,
    pub model: Option<String>,
    pub cache: CacheStatus,
    pub status: u16,
    /// Why it failed.
    pub error: Option<String>,
    /// Those in the prompt, in the prompt's order.
    pub examples: Vec<UsedExample>,
    /// Similarity of the nearest example, used or not.
    pub similarity: Option<f32>,
    pub decision: Option<Decision>,
    /// The arm that answered, which is not the one decided on if that tier failed.
    pub arm: Option<ArmKey>,
    /// True if cache and router were passed by, late or failing.
    pub straight: bool,
    pub timings: Timings,
    pub usage: Option<Usage>,
    pub finish_reason: Option<&'static str>,
    /// The feedback it got, in [0, 1].
    pub rating: Option<f32>,
    /// Of the question: what a rating teaches is learned from it.
    #[serde(skip)]
    pub embedding: Option<UnitVector>,
    /// Of the question.
    pub request_bytes: usize,
    /// The example that this answer became.
    pub admitted: Option<ExampleId>,
}

#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct UsedExample {
    pub id: ExampleId,
    pub similarity: f32,
    pub utility: f32,
    pub tokens: u32,
    pub request: String,
    pub answer: String,
    pub source: String,
}

/// Milliseconds; a stage that did not run is left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, JsonSchema)]
pub struct Timings {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parse_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exact_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embed_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retrieve_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub select_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queued_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefill_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decode_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttft_ms: Option<f64>,
    pub overhead_ms: f64,
    pub total_ms: f64,
}

/// What becomes of a request, as it happens.
#[derive(Debug, Clone)]
pub enum News {
    Begun {
        request_id: Arc<str>,
        created: Timestamp,
        tenant: TenantId,
        endpoint: &'static str,
    },
    /// A tier says its first words.
    Answering {
        request_id: Arc<str>,
        tier: Arc<str>,
        examples: usize,
    },
    Ended(Arc<DecisionRecord>),
    /// Its answer was offered to the cache; `None`: not taken as an example.
    Remembered {
        request_id: Arc<str>,
        example: Option<ExampleId>,
    },
}

/// News that a reader of [`DecisionLog::subscribe`] may lag behind before it loses the oldest.
const NEWS: usize = 64;

/// The newest records, by tenant and request id: clients name their requests themselves, and one tenant's name must not reach
/// another's record.
#[derive(Debug)]
pub struct DecisionLog {
    capacity: usize,
    ring: Mutex<Ring>,
    news: broadcast::Sender<News>,
}

#[derive(Debug, Default)]
struct Ring {
    /// Oldest first.
    order: VecDeque<Name>,
    records: HashMap<Name, Arc<DecisionRecord>>,
}

type Name = (TenantId, Arc<str>);

impl CacheStatus {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "HIT",
            Self::Examples => "EXAMPLES",
            Self::Miss => "MISS",
            Self::Bypass => "BYPASS",
        }
    }

    /// The label of `reprise_cache_lookups_total`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Examples => "examples",
            Self::Miss => "miss",
            Self::Bypass => "bypass",
        }
    }
}

impl DecisionLog {
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { capacity: capacity.max(1), ring: Mutex::default(), news: broadcast::Sender::new(NEWS) }
    }

    /// The oldest record makes room. A second record of one name takes the place of the first.
    pub fn add(&self, record: DecisionRecord) {
        let name: Name = (record.tenant.clone(), Arc::clone(&record.request_id));
        let record = Arc::new(record);
        self.tell(|| News::Ended(Arc::clone(&record)));
        let mut ring = self.ring.lock();
        if ring.records.insert(name.clone(), record).is_some() {
            return;
        }
        ring.order.push_back(name);
        if ring.order.len() > self.capacity
            && let Some(oldest) = ring.order.pop_front()
        {
            ring.records.remove(&oldest);
        }
    }

    #[must_use]
    pub fn get(&self, tenant: &TenantId, request_id: &str) -> Option<Arc<DecisionRecord>> {
        self.ring.lock().records.get(&(tenant.clone(), request_id.into())).cloned()
    }

    /// Whoever's it is, for those who may see all; of several the newest.
    #[must_use]
    pub fn find(&self, request_id: &str) -> Option<Arc<DecisionRecord>> {
        let ring = self.ring.lock();
        let name = ring.order.iter().rev().find(|(_, id)| **id == *request_id)?;
        ring.records.get(name).cloned()
    }

    /// Newest first.
    #[must_use]
    pub fn newest(&self, limit: usize) -> Vec<Arc<DecisionRecord>> {
        let ring = self.ring.lock();
        ring.order.iter().rev().take(limit).filter_map(|id| ring.records.get(id).cloned()).collect()
    }

    /// To those who listen; where nobody does it costs nothing.
    pub fn tell(&self, news: impl FnOnce() -> News) {
        if self.news.receiver_count() > 0 {
            // Whoever listened may have gone just now.
            let _ = self.news.send(news());
        }
    }

    /// All news from now on.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<News> {
        self.news.subscribe()
    }

    /// Changes a record in place; false if it has gone.
    pub fn update(
        &self,
        tenant: &TenantId,
        request_id: &str,
        change: impl FnOnce(&mut DecisionRecord),
    ) -> bool {
        let mut ring = self.ring.lock();
        let Some(record) = ring.records.get_mut(&(tenant.clone(), request_id.into())) else { return false };
        change(Arc::make_mut(record));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: &str) -> DecisionRecord {
        DecisionRecord {
            request_id: id.into(),
            created: Timestamp::UNIX_EPOCH,
            tenant: "t".parse().unwrap(),
            tier: None,
            model: None,
            cache: CacheStatus::Miss,
            status: 200,
            error: None,
            examples: Vec::new(),
            similarity: None,
            decision: None,
            arm: None,
            straight: false,
            timings: Timings::default(),
            usage: None,
            finish_reason: None,
            rating: None,
            embedding: None,
            request_bytes: 0,
            admitted: None,
        }
    }

    #[test]
    fn the_oldest_makes_room() {
        let log = DecisionLog::new(2);
        for id in ["a", "b", "c"] {
            log.add(record(id));
        }
        assert!(log.find("a").is_none());
        let newest: Vec<_> = log.newest(9).iter().map(|record| record.request_id.to_string()).collect();
        assert_eq!(newest, ["c", "b"]);
    }

    #[test]
    fn one_id_is_kept_once_and_can_be_changed() {
        let log = DecisionLog::new(2);
        for id in ["a", "a", "b"] {
            log.add(record(id));
        }
        let t = "t".parse().unwrap();
        assert!(log.update(&t, "a", |record| record.rating = Some(0.5)));
        assert_eq!(log.get(&t, "a").unwrap().rating, Some(0.5));
        assert_eq!(log.newest(9).len(), 2);
        assert!(!log.update(&t, "gone", |_| ()));
    }

    #[test]
    fn one_id_of_two_tenants_is_two_records() {
        let log = DecisionLog::new(9);
        let [a, b] = ["a", "b"].map(|tenant| tenant.parse::<TenantId>().unwrap());
        log.add(DecisionRecord { tenant: a.clone(), ..record("x") });
        log.add(DecisionRecord { tenant: b.clone(), ..record("x") });
        assert!(log.update(&b, "x", |record| record.rating = Some(1.0)));
        assert_eq!((log.get(&a, "x").unwrap().rating, log.get(&b, "x").unwrap().rating), (None, Some(1.0)));
        assert_eq!(log.find("x").unwrap().tenant, b);
        assert!(log.get(&"c".parse().unwrap(), "x").is_none());
    }
}
