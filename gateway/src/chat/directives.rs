//! What the client says about cache and priority, in headers.

use std::time::Duration;

use http::HeaderMap;
use http::header::CACHE_CONTROL;
use reprise_tier::Priority;

use crate::error::ApiError;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Directives {
    /// Stored answers and examples may be used at all.
    pub read: bool,
    /// An exact repeat may be served from the store.
    pub reuse: bool,
    /// The oldest stored answer that is wanted.
    pub max_age: Option<Duration>,
    /// The answer may be remembered.
    pub write: bool,
    pub max_examples: Option<u32>,
    pub priority: Priority,
}

impl Default for Directives {
    fn default() -> Self {
        Self {
            read: true,
            reuse: true,
            max_age: None,
            write: true,
            max_examples: None,
            priority: Priority::Interactive,
        }
    }
}

impl Directives {
    /// `cache-control` as HTTP has it, where what is not understood is skipped; Reprise's own headers are checked.
    ///
    /// # Errors
    /// 400 that names the header.
    pub fn read(headers: &HeaderMap) -> Result<Self, ApiError> {
        let mut directives = Self::default();
        for line in headers.get_all(CACHE_CONTROL) {
            for directive in line.to_str().unwrap_or_default().split(',') {
                directives.cache_control(&directive.trim().to_ascii_lowercase());
            }
        }
        match text(headers, "x-reprise-cache")?.as_deref() {
            None | Some("on") => {}
            Some("off") => (directives.read, directives.reuse, directives.write) = (false, false, false),
            Some("read-only") => directives.write = false,
            Some(other) => return Err(refused("x-reprise-cache", other, "off or read-only")),
        }
        if let Some(count) = text(headers, "x-reprise-max-examples")? {
            let number = count.parse().map_err(|_| refused("x-reprise-max-examples", &count, "a number"))?;
            directives.max_examples = Some(number);
        }
        match text(headers, "x-reprise-priority")?.as_deref() {
            None | Some("interactive") => {}
            Some("batch") => directives.priority = Priority::Batch,
            Some(other) => return Err(refused("x-reprise-priority", other, "interactive or batch")),
        }
        Ok(directives)
    }

    fn cache_control(&mut self, directive: &str) {
        match directive.split_once('=').unwrap_or((directive, "")) {
            ("no-cache", _) => self.reuse = false,
            ("no-store", _) => self.write = false,
            ("max-age", seconds) => {
                if let Ok(seconds) = seconds.trim_matches('"').parse() {
                    self.max_age = Some(Duration::from_secs(seconds));
                }
            }
            _ => {}
        }
    }
}

fn text(headers: &HeaderMap, name: &'static str) -> Result<Option<String>, ApiError> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    let text = value.to_str().map_err(|_| refused(name, "that", "plain text"))?;
    Ok(Some(text.trim().to_ascii_lowercase()))
}

fn refused(header: &str, given: &str, wanted: &str) -> ApiError {
    ApiError::invalid(header, format!("Invalid header '{header}': '{given}' is not {wanted}."))
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    fn read(headers: &[(&'static str, &str)]) -> Result<Directives, ApiError> {
        let pairs =
            headers.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()));
        Directives::read(&pairs.collect())
    }

    #[test]
    fn each_directive_has_its_effect() {
        assert_eq!(read(&[]).unwrap(), Directives::default());
        let of = |value: &str| read(&[("cache-control", value)]).unwrap();
        assert!(!of("no-cache").reuse && of("no-cache").write && of("no-cache").read);
        assert!(!of("private, No-Store").write && of("no-store").reuse);
        assert_eq!(of("max-age=60").max_age, Some(Duration::from_secs(60)));
        assert_eq!(of("max-age=soon, foo=1"), Directives::default());
        let off = read(&[("x-reprise-cache", "off")]).unwrap();
        assert!(!off.read && !off.write && !off.reuse);
        let read_only = read(&[("x-reprise-cache", "read-only")]).unwrap();
        assert!(read_only.read && read_only.reuse && !read_only.write);
        assert_eq!(read(&[("x-reprise-max-examples", "2")]).unwrap().max_examples, Some(2));
        assert_eq!(read(&[("x-reprise-priority", "Batch")]).unwrap().priority, Priority::Batch);
    }

    #[test]
    fn a_wrong_word_is_refused_by_the_headers_name() {
        for name in ["x-reprise-cache", "x-reprise-max-examples", "x-reprise-priority"] {
            let error = read(&[(name, "banana")]).unwrap_err();
            assert_eq!(error.body.param.as_deref(), Some(name));
            assert_eq!(error.status, 400);
        }
    }
}
