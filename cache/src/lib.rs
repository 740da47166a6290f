//! What Reprise remembers, and what of it is worth showing again.
//!
//! Two kinds of memory, both kept per tenant: *exact answers*, served when the very same request returns under the same
//! deterministic sampling, and *examples*, earlier requests with their answers that are shown to a model beside a new
//! question (EchoLM / IC-Cache, arXiv 2501.12689).
//!
//! Everything here is synchronous and takes its time as a value; callers put it on threads that may block. A tenant's
//! data is reached only through the [`TenantCache`] made for that tenant by [`Cache::tenant`]: no call searches across
//! tenants, so there is no filter to forget.

mod admission;
mod answer;
mod bench;
mod cache;
mod config;
mod embed;
mod error;
pub mod eviction;
mod exact;
mod example;
mod fingerprint;
mod follow;
mod guard;
mod index;
mod instructions;
mod model_hash;
mod orders;
mod outcome;
mod partition;
mod scrub;
pub mod selection;
mod store;
mod tenant;
mod tenant_cache;
mod utility_versions;
mod vector;

pub use admission::{Admission, Refusal};
pub use answer::StoredAnswer;
pub use bench::{BenchConfig, RetrievalReport, bench_requests, bench_retrieval, bench_vectors};
pub use cache::{Cache, CacheStats, Maintenance};
pub use config::CacheConfig;
pub use embed::{EmbedError, Embedder};
pub use error::CacheError;
pub use example::{Candidate, Example, ExampleId, NewExample};
pub use fingerprint::Fingerprint;
pub use index::{Index, IndexConfig};
pub use instructions::Instructions;
pub use model_hash::ModelHash;
pub use orders::gives_orders;
pub use outcome::Outcome;
pub use scrub::scrub;
pub use store::{
    CheckReport, LoggedChange, MemoryStore, Probe, Recovery, SledConfig, SledStore, Store, StoreError, Write,
    check, open_or_recover, open_or_recover_with,
};
pub use tenant::{InvalidTenant, TenantId};
pub use tenant_cache::{ExampleChange, Order, Page, TenantCache};
pub use utility_versions::{ActiveUtility, UtilityVersion};
pub use vector::{UnitVector, VectorError};
