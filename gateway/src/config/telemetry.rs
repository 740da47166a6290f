//! Where traces go.

use http::{HeaderMap, HeaderName, HeaderValue};
use reqwest::Url;
use secrecy::ExposeSecret;

use super::raw::TelemetrySection;
use super::read::ConfigError;
use super::secret;

#[derive(Debug, Clone)]
pub struct TelemetryPlan {
    /// With `/v1/traces`.
    pub endpoint: Url,
    /// Marked as secret.
    pub headers: HeaderMap,
    /// In [0, 1].
    pub sample_share: f64,
    /// At least 1.
    pub queue: usize,
}

pub(super) fn plan(raw: TelemetrySection) -> Result<Option<TelemetryPlan>, ConfigError> {
    if !(0.0..=1.0).contains(&raw.sample_share) {
        let message = format!("{} is not in [0, 1]", raw.sample_share);
        return Err(ConfigError::value("telemetry.sample_share", message));
    }
    if raw.queue == 0 {
        return Err(ConfigError::value("telemetry.queue", "must be at least 1"));
    }
    let Some(base) = raw.otlp_endpoint else { return Ok(None) };
    let endpoint = Url::parse(&base).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    let mut endpoint = endpoint.ok_or_else(|| {
        let message = format!("{base} is no address as http://localhost:4318");
        ConfigError::value("telemetry.otlp_endpoint", message)
    })?;
    endpoint.set_path(&format!("{}/v1/traces", endpoint.path().trim_end_matches('/')));
    let headers = raw.otlp_headers_env.as_deref().map_or_else(|| Ok(HeaderMap::new()), headers)?;
    Ok(Some(TelemetryPlan { endpoint, headers, sample_share: raw.sample_share, queue: raw.queue }))
}

fn headers(variable: &str) -> Result<HeaderMap, ConfigError> {
    let wrong = |message: String| ConfigError::value("telemetry.otlp_headers_env", message);
    let text = secret::from_env(variable).ok_or_else(|| wrong(format!("{variable} is not set")))?;
    read(text.expose_secret())
        .ok_or_else(|| wrong(format!("{variable} must hold name=value, with commas between")))
}

fn read(text: &str) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    for pair in text.split(',') {
        let (name, value) = pair.split_once('=')?;
        let name = HeaderName::from_bytes(name.trim().as_bytes()).ok()?;
        let mut value = HeaderValue::from_str(value.trim()).ok()?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Some(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(endpoint: &str) -> Result<Option<TelemetryPlan>, ConfigError> {
        plan(TelemetrySection { otlp_endpoint: Some(endpoint.into()), ..TelemetrySection::default() })
    }

    #[test]
    fn an_endpoint_is_a_base() {
        assert!(plan(TelemetrySection::default()).unwrap().is_none());
        for base in ["http://collector:4318", "http://collector:4318/"] {
            let plan = planned(base).unwrap().unwrap();
            assert_eq!(plan.endpoint.as_str(), "http://collector:4318/v1/traces");
        }
        for bad in ["collector:4318", "ftp://collector", "http://"] {
            assert!(planned(bad).unwrap_err().to_string().starts_with("telemetry.otlp_endpoint: "), "{bad}");
        }
    }

    #[test]
    fn headers_are_pairs() {
        let headers = read("authorization=Bearer a=b, x-team = ops").unwrap();
        assert_eq!(
            (&headers["authorization"], &headers["x-team"]),
            (&"Bearer a=b".parse().unwrap(), &"ops".parse().unwrap())
        );
        assert!(headers["authorization"].is_sensitive());
        assert!(read("no pair").is_none() && read("bad name=x").is_none());
    }

    #[test]
    fn a_share_is_a_share() {
        let refused = plan(TelemetrySection { sample_share: 1.5, ..TelemetrySection::default() });
        assert!(refused.unwrap_err().to_string().starts_with("telemetry.sample_share: "));
    }
}
