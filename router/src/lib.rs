//! Which tier answers, and with or without examples.
//!
//! The decision is pure: [`Router::decide`] takes what is known of a request ([`Context`]), the state of every arm
//! ([`ArmState`]), a time and a random source, and returns a [`Decision`]. It does no I/O and reads no clock, so the
//! same code runs live and in replay. What it learns ([`Router::learn`]) survives a restart as a checksummed snapshot.
//!
//! I/O stands at the edges: [`Pool`] holds the tiers, [`RemoteTier`] reaches one over HTTP.

mod arm;
mod bandit;
mod breaker;
mod config;
mod context;
mod cost;
mod decision;
mod eligible;
mod experience;
mod features;
mod guard;
mod load;
mod policies;
mod pool;
mod remote;
mod router;
mod share;
mod snapshot;
mod speed;
#[cfg(test)]
mod testing;

pub use arm::{Arm, ArmKey, ArmState};
pub use bandit::{ArmReport, BanditConfig};
pub use breaker::{BreakerConfig, Pass};
pub use config::{ConfigError, RouterConfig};
pub use context::{Context, TaskFlags};
pub use cost::CostConfig;
pub use decision::{Action, ArmScore, Decision, RouteError};
pub use eligible::{Excluded, Exclusion};
pub use experience::Experience;
pub use features::{DIMENSIONS as FEATURE_DIMENSIONS, Features};
pub use guard::{Cluster, GuardConfig, Withheld};
pub use load::{LoadConfig, LoadReport};
pub use policies::{Choice, Policy, PolicyKind, Situation, UnknownPolicy};
pub use pool::{Pool, PoolError};
pub use remote::{RemoteConfig, RemoteConfigError, RemoteTier, RemoteTimeouts};
pub use router::{Router, RouterReport};
pub use share::Share;
pub use snapshot::{Restored, SnapshotError};
pub use speed::{TokenSeconds, Took};
