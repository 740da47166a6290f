//! The file, read again while the gateway runs: what can take effect at once does, the rest waits for a restart and is named.

use toml::{Table, Value};

use super::raw::RawConfig;
use super::read::ConfigError;
use super::{Config, validate};

/// What takes effect at once: these keys and all under them. In `tiers` the index is left out.
const LIVE: &[&str] = &[
    "auth",
    "cache.admit",
    "cache.diversity",
    "cache.max_examples",
    "cache.similarity_floor",
    "cache.tau",
    "cache.token_budget",
    "cache.top_k",
    "ledger.unwritable",
    "resilience.longest_wait_s",
    "resilience.retries",
    "resilience.retry_backoff_ms",
    "resilience.single_flight",
    "router.deadline_ms",
    "server.body_timeout_s",
    "server.drain_timeout_s",
    "server.header_timeout_s",
    "server.max_body_bytes",
    "server.request_timeout_s",
    "server.tls",
    "server.write_stall_timeout_s",
    "tiers.completion_price",
    "tiers.hedge_after_ms",
    "tiers.prompt_price",
];

/// A configuration that can take the place of the one in force.
#[derive(Debug)]
pub struct Reloaded {
    pub config: Config,
    /// Keys whose new values wait for a restart.
    pub waiting: Vec<String>,
}

impl Config {
    /// What `new` makes of this one without a restart.
    ///
    /// # Errors
    /// The two together do not hold.
    pub fn follow(&self, new: &Self) -> Result<Reloaded, ConfigError> {
        let syntax = |error: &dyn std::fmt::Display| ConfigError::Syntax(error.to_string());
        let tree = |raw: &RawConfig| Table::try_from(raw).map_err(|error| syntax(&error));
        let mut waiting = Vec::new();
        let merged = merge(&tree(&self.raw)?, &tree(&new.raw)?, "", &mut waiting);
        let raw = Value::Table(merged).try_into().map_err(|error| syntax(&error))?;
        Ok(Reloaded { config: validate::config(raw)?, waiting })
    }
}

fn merge(old: &Table, new: &Table, path: &str, waiting: &mut Vec<String>) -> Table {
    let mut merged = Table::new();
    let added = new.keys().filter(|key| !old.contains_key(*key));
    for key in old.keys().chain(added) {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        let value = match (old.get(key), new.get(key)) {
            (old, new) if old == new => old.cloned(),
            (_, new) if is_live(&path) => new.cloned(),
            (Some(Value::Table(old)), Some(Value::Table(new))) => {
                Some(Value::Table(merge(old, new, &path, waiting)))
            }
            (Some(Value::Array(old)), Some(Value::Array(new))) if same_tiers(old, new) => {
                let pairs = old.iter().zip(new).filter_map(|(old, new)| old.as_table().zip(new.as_table()));
                Some(Value::Array(
                    pairs.map(|(old, new)| Value::Table(merge(old, new, &path, waiting))).collect(),
                ))
            }
            (old, _) => {
                waiting.push(path);
                old.cloned()
            }
        };
        merged.extend(value.map(|value| (key.clone(), value)));
    }
    merged
}

pub(super) fn is_live(path: &str) -> bool {
    LIVE.iter()
        .any(|live| path.strip_prefix(live).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
}

/// The same ones in the same order.
fn same_tiers(old: &[Value], new: &[Value]) -> bool {
    let name = |tier: &Value| tier.get("name").and_then(Value::as_str).map(str::to_owned);
    old.len() == new.len()
        && old.iter().zip(new).all(|(old, new)| name(old).is_some() && name(old) == name(new))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(change: impl FnOnce(&mut RawConfig)) -> Config {
        let mut raw = RawConfig::default();
        change(&mut raw);
        validate::config(raw).unwrap()
    }

    #[test]
    fn what_can_changes_at_once_and_the_rest_is_named() {
        let old = config(|_| ());
        let new = config(|raw| {
            raw.listen = "127.0.0.1:9".parse().unwrap();
            raw.server.request_timeout_s = 7.0;
            raw.server.max_concurrent_requests = 3;
            raw.cache.tau = 0.25;
            raw.cache.byte_budget = 1;
            raw.tiers[0].prompt_price = Some(2.0);
            raw.tiers[1].queue = Some(9);
            raw.router.load.theta = 0.75;
            raw.auth.default_max_tokens = 77;
        });
        let Reloaded { config, waiting } = old.follow(&new).unwrap();
        assert_eq!(config.server.request_timeout.as_secs(), 7);
        assert!((config.cache.tau - 0.25).abs() < 1e-6);
        assert_eq!(config.auth.default_max_tokens, 77);
        assert_eq!(config.tiers[0].price().prompt.nanos(), 2000);
        assert_eq!((config.listen, config.cache.byte_budget), (old.listen, old.cache.byte_budget));
        assert_eq!(config.server.max_concurrent_requests, old.server.max_concurrent_requests);
        let expected = [
            "cache.byte_budget",
            "listen",
            "router.load.theta",
            "server.max_concurrent_requests",
            "tiers.queue",
        ];
        let mut waiting = waiting;
        waiting.sort();
        assert_eq!(waiting, expected);
        let again = config.follow(&new).unwrap();
        assert_eq!(again.waiting.len(), expected.len(), "they wait until there is a restart");
        let back = config.follow(&old).unwrap();
        assert_eq!((back.waiting.len(), back.config.cache.tau), (0, old.cache.tau));
    }

    #[test]
    fn other_tiers_wait_as_a_whole() {
        let old = config(|_| ());
        let new = config(|raw| {
            raw.tiers.pop();
            raw.tiers[0].prompt_price = Some(2.0);
        });
        let Reloaded { config, waiting } = old.follow(&new).unwrap();
        assert_eq!((config.tiers.len(), waiting), (2, vec!["tiers".to_owned()]));
    }

    #[test]
    fn every_live_key_is_one() {
        let tree = Table::try_from(RawConfig::default()).unwrap();
        for live in LIVE.iter().filter(|live| !live.starts_with("tiers.")) {
            let mut at = Some(&Value::Table(tree.clone())).cloned();
            for key in live.split('.') {
                at = at.and_then(|value| value.get(key).cloned());
            }
            assert!(at.is_some(), "{live}");
        }
    }
}
