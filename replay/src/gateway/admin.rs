//! The admin interface: its messages, and one method for each call.

use std::time::Duration;

use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Gateway, GatewayError};

/// Every pair of a call is embedded, on a gateway that is serving.
const IMPORT_TIMEOUT: Duration = Duration::from_secs(300);

/// A remembered example, as far as replay needs it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Example {
    pub id: String,
    pub request: String,
    pub answer: String,
    /// The tier that wrote the answer, or what an import called its source.
    #[serde(default)]
    pub source_tier: String,
    #[serde(default)]
    pub quality: Option<f32>,
    #[serde(default)]
    pub created_at_ms: i64,
    /// G(e): EMA of (1 - quality) * cost over its uses.
    #[serde(default)]
    pub replay_gain: f64,
    #[serde(default)]
    pub uses: u64,
    /// Times it would have stood in a prompt if its answer were better.
    #[serde(default)]
    pub missed: u64,
    #[serde(default)]
    pub replays: u32,
    /// False if the answer leaned on instructions or a conversation that are not stored with it.
    #[serde(default = "yes")]
    pub context_free: bool,
}

fn yes() -> bool {
    true
}

#[derive(Debug, Clone, Deserialize)]
pub struct ExamplePage {
    pub data: Vec<Example>,
    #[serde(default)]
    pub has_more: bool,
}

/// What changes of an example. Absent fields stay as they are.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ExamplePatch {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quality: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_tier: Option<String>,
    /// Counts one more replay.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub replayed: bool,
}

/// One pair to import.
#[derive(Debug, Clone, Serialize)]
pub struct NewExample<'a> {
    pub request: &'a str,
    pub answer: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instructions: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quality: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct ImportRequest<'a> {
    tenant: &'a str,
    examples: &'a [NewExample<'a>],
}

#[derive(Debug, Clone, Deserialize)]
pub struct Imported {
    pub inserted: usize,
    pub merged: usize,
    #[serde(default)]
    pub refused: Vec<Refusal>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Refusal {
    /// Position in the call's list, from 0.
    pub index: usize,
    pub reason: String,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Pool {
    #[serde(default)]
    pub load: f64,
    pub idle: bool,
    pub tiers: Vec<TierInfo>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TierInfo {
    pub name: String,
    pub model: String,
    #[serde(default)]
    pub state: String,
    /// Relative cost in [0, 1].
    #[serde(default)]
    pub cost: f64,
    #[serde(default)]
    pub context_length: Option<u32>,
    #[serde(default)]
    pub remote: bool,
}

#[derive(Debug, Clone, Deserialize)]
pub struct PolicySet {
    pub policy: String,
    #[serde(default)]
    pub previous: Option<String>,
}

/// What the router decided for one request, as far as the report needs it.
#[derive(Debug, Clone, Deserialize)]
pub struct DecisionRecord {
    #[serde(default)]
    pub examples: Vec<DecisionExample>,
    #[serde(default)]
    pub timings: DecisionTimings,
}

/// Where the tier's time went; absent where it does not say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
pub struct DecisionTimings {
    #[serde(default)]
    pub prefill_ms: Option<f64>,
    #[serde(default)]
    pub decode_ms: Option<f64>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct DecisionExample {
    #[serde(default)]
    pub tokens: u32,
}

#[derive(Debug, Clone, Deserialize)]
pub struct LeaseGrant {
    pub lease: String,
    #[serde(default)]
    pub expires_in_s: u64,
}

#[derive(Debug, Serialize)]
struct Rating<'a> {
    request_id: &'a str,
    rating: f64,
}

/// A rated answer, as `/admin/v1/outcomes` tells it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct LiveOutcome {
    pub request_id: String,
    pub tier: String,
    pub model: String,
    pub cost: f64,
    pub strength: f64,
    pub quality: f32,
    pub embedding: Vec<f32>,
    pub request_bytes: usize,
    pub nearest: f32,
    pub prompt_tokens: u32,
    pub completion_tokens: u32,
    pub examples: Vec<LiveExample>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct LiveExample {
    pub embedding: Vec<f32>,
    pub similarity: f32,
    pub utility: f32,
    pub quality: Option<f32>,
    pub bytes: usize,
}

#[derive(Debug, Deserialize)]
struct LiveOutcomes {
    data: Vec<LiveOutcome>,
}

#[derive(Debug, Serialize)]
struct EmbeddingRequest<'a> {
    model: &'a str,
    input: &'a [&'a str],
}

#[derive(Debug, Deserialize)]
struct Embeddings {
    data: Vec<Embedding>,
}

#[derive(Debug, Deserialize)]
struct Embedding {
    embedding: Vec<f32>,
}

/// Which utility model scores, and which did.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct UtilitySwitched {
    pub active: u32,
    pub previous: u32,
}

impl Gateway {
    /// Vectors of at most 256 texts, in their order.
    pub async fn embed(&self, model: &str, texts: &[&str]) -> Result<Vec<Vec<f32>>, GatewayError> {
        let path = "/v1/embeddings";
        let request = self
            .request(Method::POST, path, self.api_key())
            .timeout(IMPORT_TIMEOUT)
            .json(&EmbeddingRequest { model, input: texts });
        let (url, response) = self.send(path, request).await?;
        let bytes =
            response.bytes().await.map_err(|source| GatewayError::Transport { url: url.clone(), source })?;
        let found: Embeddings =
            serde_json::from_slice(&bytes).map_err(|source| GatewayError::Body { url, source })?;
        Ok(found.data.into_iter().map(|row| row.embedding).collect())
    }

    /// Rated answers of the newest requests.
    pub async fn outcomes(&self) -> Result<Vec<LiveOutcome>, GatewayError> {
        let path = "/admin/v1/outcomes";
        let found: LiveOutcomes = self.admin_within(IMPORT_TIMEOUT, Method::GET, path, None::<&()>).await?;
        Ok(found.data)
    }

    /// Delivers a utility model; it scores from the next request on.
    pub async fn install_utility(&self, model: &impl Serialize) -> Result<UtilitySwitched, GatewayError> {
        self.admin_within(IMPORT_TIMEOUT, Method::PUT, "/admin/v1/utility", Some(model)).await
    }

    /// Lets another stored version score; 0 is the similarity prior.
    pub async fn activate_utility(&self, version: u32) -> Result<UtilitySwitched, GatewayError> {
        let body = serde_json::json!({ "version": version });
        self.admin(Method::PUT, "/admin/v1/utility/active", Some(&body)).await
    }

    /// The tenant's examples, most replay gain first, one page.
    pub async fn examples_by_gain(
        &self,
        tenant: &str,
        limit: usize,
        after: Option<&str>,
    ) -> Result<ExamplePage, GatewayError> {
        let mut path = format!("/admin/v1/examples?tenant={}&order=gain&limit={limit}", escape(tenant));
        if let Some(after) = after {
            path.push_str("&after=");
            path.push_str(&escape(after));
        }
        self.admin(Method::GET, &path, None::<&()>).await
    }

    pub async fn example(&self, tenant: &str, id: &str) -> Result<Example, GatewayError> {
        self.admin(Method::GET, &example_path(tenant, id), None::<&()>).await
    }

    pub async fn patch_example(
        &self,
        tenant: &str,
        id: &str,
        patch: &ExamplePatch,
    ) -> Result<(), GatewayError> {
        self.admin::<Value>(Method::PATCH, &example_path(tenant, id), Some(patch)).await.map(drop)
    }

    /// At most 256 a call. To send the same ones again is safe: what was taken in before is merged.
    pub async fn import(&self, tenant: &str, examples: &[NewExample<'_>]) -> Result<Imported, GatewayError> {
        let body = ImportRequest { tenant, examples };
        self.admin_within(IMPORT_TIMEOUT, Method::POST, "/admin/v1/examples/import", Some(&body)).await
    }

    pub async fn pool(&self) -> Result<Pool, GatewayError> {
        self.admin(Method::GET, "/admin/v1/pool", None::<&()>).await
    }

    /// The router as the admin interface shows it, kept as it is for the record.
    pub async fn router(&self) -> Result<Value, GatewayError> {
        self.admin(Method::GET, "/admin/v1/router", None::<&()>).await
    }

    /// The overview as the admin interface shows it.
    pub async fn state(&self) -> Result<Value, GatewayError> {
        self.admin(Method::GET, "/admin/v1/state", None::<&()>).await
    }

    pub async fn set_policy(&self, policy: &str) -> Result<PolicySet, GatewayError> {
        let body = serde_json::json!({ "policy": policy });
        self.admin(Method::PUT, "/admin/v1/router/policy", Some(&body)).await
    }

    pub async fn decision(&self, request_id: &str) -> Result<DecisionRecord, GatewayError> {
        let path = format!("/admin/v1/router/decisions/{}", escape(request_id));
        self.admin(Method::GET, &path, None::<&()>).await
    }

    /// A refusal with status 409 names the holder in its message.
    pub async fn acquire_lease(&self, holder: &str, ttl_s: u64) -> Result<LeaseGrant, GatewayError> {
        let body = serde_json::json!({ "holder": holder, "ttl_s": ttl_s });
        self.admin(Method::POST, "/admin/v1/replay/lease", Some(&body)).await
    }

    pub async fn renew_lease(&self, lease: &str) -> Result<(), GatewayError> {
        let path = format!("/admin/v1/replay/lease/{}", escape(lease));
        self.admin::<Value>(Method::PUT, &path, None::<&()>).await.map(drop)
    }

    pub async fn release_lease(&self, lease: &str) -> Result<(), GatewayError> {
        let path = format!("/admin/v1/replay/lease/{}", escape(lease));
        self.admin::<Value>(Method::DELETE, &path, None::<&()>).await.map(drop)
    }

    pub async fn report_run(&self, report: &impl Serialize) -> Result<(), GatewayError> {
        self.admin::<Value>(Method::POST, "/admin/v1/replay/runs", Some(report)).await.map(drop)
    }

    /// Rates an answer in [0, 1], as the tenant that asked.
    pub async fn rate(&self, request_id: &str, rating: f64) -> Result<(), GatewayError> {
        let request = self
            .request(Method::POST, "/v1/feedback", self.api_key())
            .timeout(super::ADMIN_TIMEOUT)
            .json(&Rating { request_id, rating });
        self.send("/v1/feedback", request).await.map(drop)
    }
}

fn example_path(tenant: &str, id: &str) -> String {
    format!("/admin/v1/examples/{}?tenant={}", escape(id), escape(tenant))
}

/// Percent-encodes all but unreserved characters (RFC 3986).
fn escape(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_parts_are_escaped() {
        assert_eq!(example_path("a b", "x/../y"), "/admin/v1/examples/x%2F..%2Fy?tenant=a%20b");
    }

    #[test]
    fn a_patch_holds_only_what_changes() {
        let patch = ExamplePatch { replayed: true, ..ExamplePatch::default() };
        assert_eq!(serde_json::to_string(&patch).unwrap(), r#"{"replayed":true}"#);
    }
}
