//! `POST /admin/v1/examples/import`: known good pairs, from a file or another gateway.
//!
//! A fault of one pair refuses that pair alone; a fault of the gateway refuses the call, which may be sent again whole:
//! what was taken in before is merged, not doubled.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use futures::{StreamExt, TryStreamExt, stream};
use reprise_cache::{
    Admission, CacheError, EmbedError, Embedder, Instructions, NewExample, TenantId, UnitVector,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::body::Fields;
use super::pair::Pair;
use super::{Admin, AdminError};
use crate::chat::embedded_text;
use crate::state::{Memory, now_ms};

const MAX_PAIRS: usize = 256;
/// Texts given to the embedder at once: live requests wait in the same queue.
const AT_ONCE: usize = 4;
/// Pauses while the embedder's queue is full, and how many before the call is refused.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSES: usize = 100;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Import {
    #[schemars(regex(pattern = r"^[A-Za-z0-9_.-]{1,64}$"))]
    tenant: String,
    /// Objects with `request` and `answer`, and maybe `instructions`, `quality` in [0, 1] and `source`. Read one by one, so that one
    /// that is wrong does not spoil the others.
    #[schemars(length(max = 256))]
    examples: Vec<Value>,
}

#[derive(Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Imported {
    inserted: usize,
    /// Near-duplicates of what is there; the better measured answer stays.
    merged: usize,
    refused: Vec<Refused>,
}

#[derive(Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "RefusedPair")]
struct Refused {
    /// Position in the call's list, from 0.
    index: usize,
    reason: String,
}

/// A pair on its way in.
#[derive(Debug)]
struct Item<T> {
    index: usize,
    it: T,
}

pub async fn import(
    State(admin): State<Admin>,
    Fields(import): Fields<Import>,
) -> Result<Json<Imported>, AdminError> {
    let tenant: TenantId = import.tenant.parse()?;
    if import.examples.len() > MAX_PAIRS {
        let message = format!("{} pairs; at most {MAX_PAIRS} are taken in one call", import.examples.len());
        return Err(AdminError::invalid("examples", message));
    }
    let memory = admin.app().memory().cloned().ok_or_else(AdminError::no_cache)?;
    let mut imported = Imported::default();
    let pairs = admin.blocking(move |_| import.examples.into_iter().map(read).collect::<Vec<_>>()).await?;
    let pairs = imported.keep(pairs.into_iter().enumerate());
    let embedded: Vec<(usize, Result<NewExample, String>)> =
        stream::iter(pairs).map(|pair| embed(&memory.embedder, pair)).buffered(AT_ONCE).try_collect().await?;
    let new = imported.keep(embedded.into_iter());
    let imported = admin.blocking(move |_| admit(&memory, &tenant, new, imported)).await??;
    imported.count(&admin);
    Ok(Json(imported))
}

/// The pair, and what of it is embedded.
fn read(value: Value) -> Result<(Pair, String), String> {
    let pair = Pair::parse(value).map_err(|error| error.to_string())?;
    let text = embedded_text(&pair.request);
    Ok((pair, text))
}

async fn embed(
    embedder: &Arc<dyn Embedder>,
    Item { index, it: (pair, text) }: Item<(Pair, String)>,
) -> Result<(usize, Result<NewExample, String>), AdminError> {
    let vector = match patiently(embedder, &text).await {
        Ok(vector) => vector,
        Err(EmbedError::Vector(error)) => return Ok((index, Err(error.to_string()))),
        Err(error) => return Err(AdminError::Unavailable(error.to_string())),
    };
    let Pair { request, answer, instructions, quality, source } = pair;
    let instructions = Instructions::of(instructions.as_deref());
    Ok((index, Ok(NewExample { request, answer, instructions, embedding: vector, source, quality })))
}

/// A full queue is live traffic's right of way, and no reason to give up at once.
async fn patiently(embedder: &Arc<dyn Embedder>, text: &str) -> Result<UnitVector, EmbedError> {
    for _ in 0..PAUSES {
        match embedder.embed(text).await {
            Err(EmbedError::Overloaded) => tokio::time::sleep(PAUSE).await,
            done => return done,
        }
    }
    Err(EmbedError::Overloaded)
}

fn admit(
    memory: &Memory,
    tenant: &TenantId,
    new: Vec<Item<NewExample>>,
    mut imported: Imported,
) -> Result<Imported, AdminError> {
    let cache = memory.cache.tenant(tenant);
    for Item { index, it } in new {
        match cache.admit(&it, now_ms()) {
            Ok(Admission::Inserted(_)) => imported.inserted += 1,
            Ok(Admission::Merged(_)) => imported.merged += 1,
            Err(CacheError::Refused(refusal)) => {
                imported.refused.push(Refused { index, reason: refusal.to_string() });
            }
            Err(error) => return Err(error.into()),
        }
    }
    imported.refused.sort_by_key(|refused| refused.index);
    Ok(imported)
}

impl Imported {
    /// Those that are still good; the others are noted.
    fn keep<T>(&mut self, items: impl Iterator<Item = (usize, Result<T, String>)>) -> Vec<Item<T>> {
        let mut good = Vec::new();
        for (index, item) in items {
            match item {
                Ok(it) => good.push(Item { index, it }),
                Err(reason) => self.refused.push(Refused { index, reason }),
            }
        }
        good
    }

    fn count(&self, admin: &Admin) {
        let admissions = &admin.app().metrics.cache_admissions;
        let counts = [("inserted", self.inserted), ("merged", self.merged), ("refused", self.refused.len())];
        for (result, n) in counts {
            admissions.with_label_values(&[result]).inc_by(n as u64);
        }
    }
}
