//! The gateway as replay sees it: over HTTP only, through its OpenAI and admin interfaces.

pub mod admin;
pub mod chat;
mod error;

use std::path::Path;
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Certificate, Method, RequestBuilder, Response};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use error::GatewayError;

/// Time for one call of the admin interface; answers of a model have their own.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The keys of a gateway. Without any, only a gateway on loopback answers.
#[derive(Debug, Clone, Default)]
pub struct Keys {
    pub admin: Option<SecretString>,
    /// For `/v1`; its tenant is the one whose cache is used. Without one the admin key serves (tenant `admin`).
    pub api: Option<SecretString>,
}

#[derive(Debug, Clone)]
pub struct Gateway {
    http: reqwest::Client,
    base: String,
    keys: Keys,
}

impl Gateway {
    /// `base` is the gateway's address without a path, such as `http://127.0.0.1:8080`.
    pub fn new(base: &str, keys: Keys) -> Result<Self, GatewayError> {
        Self::trusting(base, keys, None)
    }

    /// Trusts the authorities of this PEM file as well.
    pub fn trusting(base: &str, keys: Keys, ca_file: Option<&Path>) -> Result<Self, GatewayError> {
        let base = base.trim_end_matches('/').to_owned();
        let valid = reqwest::Url::parse(&base).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
        if !valid {
            return Err(GatewayError::Address { base });
        }
        let mut http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .user_agent(concat!("reprise-replay/", env!("CARGO_PKG_VERSION")));
        for root in ca_file.map(roots).transpose()?.unwrap_or_default() {
            http = http.add_root_certificate(root);
        }
        let http = http.build().map_err(|source| GatewayError::Transport { url: base.clone(), source })?;
        Ok(Self { http, base, keys })
    }

    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    async fn admin<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&(impl Serialize + ?Sized)>,
    ) -> Result<T, GatewayError> {
        self.admin_within(ADMIN_TIMEOUT, method, path, body).await
    }

    async fn admin_within<T: DeserializeOwned>(
        &self,
        timeout: Duration,
        method: Method,
        path: &str,
        body: Option<&(impl Serialize + ?Sized)>,
    ) -> Result<T, GatewayError> {
        let mut request = self.request(method, path, self.keys.admin.as_ref()).timeout(timeout);
        if let Some(body) = body {
            request = request.json(body);
        }
        let (url, response) = self.send(path, request).await?;
        let bytes =
            response.bytes().await.map_err(|source| GatewayError::Transport { url: url.clone(), source })?;
        // DELETE and some POSTs answer with nothing.
        let text: &[u8] = if bytes.is_empty() { b"null" } else { &bytes };
        serde_json::from_slice(text).map_err(|source| GatewayError::Body { url, source })
    }

    fn request(&self, method: Method, path: &str, key: Option<&SecretString>) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match key {
            Some(key) => request.bearer_auth(key.expose_secret()),
            None => request,
        }
    }

    /// Sends, and turns anything but 2xx into an error that carries the gateway's own words.
    async fn send(&self, path: &str, request: RequestBuilder) -> Result<(String, Response), GatewayError> {
        let url = format!("{}{path}", self.base);
        let response =
            request.send().await.map_err(|source| GatewayError::Transport { url: url.clone(), source })?;
        if response.status().is_success() {
            return Ok((url, response));
        }
        let status = response.status().as_u16();
        let retry_after =
            header(response.headers(), RETRY_AFTER.as_str()).and_then(|value| value.parse().ok());
        let body = response.text().await.unwrap_or_default();
        Err(GatewayError::refused(url, status, &body, retry_after))
    }
}

/// A header's value as text.
fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).map(HeaderValue::to_str)?.ok()
}

fn roots(file: &Path) -> Result<Vec<Certificate>, GatewayError> {
    let path = file.to_owned();
    let pem = std::fs::read(file).map_err(|source| GatewayError::CaFile { path: path.clone(), source })?;
    match Certificate::from_pem_bundle(&pem) {
        Ok(roots) if !roots.is_empty() => Ok(roots),
        Ok(_) | Err(_) => Err(GatewayError::NoCertificates { path }),
    }
}
