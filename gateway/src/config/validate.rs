use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use reprise_accounts::Limits;
use reprise_cache::TenantId;
use reprise_router::{BreakerConfig, RouterConfig};

use super::raw::{
    AuthSection, CacheSection, KeySection, RawConfig, ResilienceSection, RouterSection, ServerSection,
    TenantSection,
};
use super::read::ConfigError;
use super::{Auth, Config, KeyEntry, Resilience, Server, TierPlan, secret, telemetry, tier, tls};

const ADMIN_KEY_ENV: &str = "REPRISE_ADMIN_KEY";
/// The tenant of the admin key.
pub const ADMIN_TENANT: &str = "admin";

pub(super) fn config(raw: RawConfig) -> Result<Config, ConfigError> {
    let written = raw.clone();
    let tiers = tiers(raw.tiers)?;
    let auth = auth(raw.auth, &tiers)?;
    if !raw.listen.ip().is_loopback() && auth.keys.is_empty() && auth.admin_key.is_none() {
        let message = format!(
            "{} is reachable from other machines, so keys are needed: set [[auth.keys]] or {ADMIN_KEY_ENV}, or listen \
             on 127.0.0.1",
            raw.listen
        );
        return Err(ConfigError::value("listen", message));
    }
    let default_tier = default_tier(&raw.router, &tiers)?;
    check_cache(&raw.cache)?;
    at_least_one("ledger.file_bytes", usize::try_from(raw.ledger.file_bytes).unwrap_or(usize::MAX))?;
    let resilience = resilience(raw.resilience, &tiers)?;
    at_least_one("embedder.threads", raw.embedder.threads)?;
    at_least_one("embedder.queue", raw.embedder.queue)?;
    let (router, decision_deadline) = router(&raw.router)?;
    Ok(Config {
        listen: raw.listen,
        data_dir: raw.data_dir,
        server: server(&raw.server)?,
        tls: tls::tls(&raw.server.tls)?,
        auth,
        ledger: raw.ledger,
        resilience,
        tiers,
        cache: raw.cache,
        embedder: raw.embedder,
        router,
        default_tier,
        decision_deadline,
        shadow_tokens_per_hour: raw.router.shadow_tokens_per_hour,
        telemetry: telemetry::plan(raw.telemetry)?,
        raw: written,
    })
}

fn server(raw: &ServerSection) -> Result<Server, ConfigError> {
    at_least_one("server.max_body_bytes", raw.max_body_bytes)?;
    at_least_one("server.max_concurrent_requests", raw.max_concurrent_requests)?;
    Ok(Server {
        max_body_bytes: raw.max_body_bytes,
        request_timeout: seconds("server.request_timeout_s", raw.request_timeout_s)?,
        header_timeout: seconds("server.header_timeout_s", raw.header_timeout_s)?,
        body_timeout: seconds("server.body_timeout_s", raw.body_timeout_s)?,
        write_stall_timeout: seconds("server.write_stall_timeout_s", raw.write_stall_timeout_s)?,
        drain_timeout: seconds("server.drain_timeout_s", raw.drain_timeout_s)?,
        max_concurrent_requests: raw.max_concurrent_requests,
    })
}

fn resilience(raw: ResilienceSection, tiers: &[TierPlan]) -> Result<Resilience, ConfigError> {
    let at = |key: &str| format!("resilience.{key}");
    known_tiers(&at("fallback"), &raw.fallback, tiers)?;
    for (key, share) in [("retry_share", raw.retry_share), ("hedge_share", raw.hedge_share)] {
        if !(0.0..=1.0).contains(&share) {
            return Err(ConfigError::value(at(key), format!("{share} is not in [0, 1]")));
        }
    }
    let open = seconds(at("breaker_open_s"), raw.breaker_open_s)?;
    let longest = seconds(at("breaker_longest_s"), raw.breaker_longest_s)?;
    if longest < open {
        return Err(ConfigError::value(at("breaker_longest_s"), "must be at least breaker_open_s"));
    }
    Ok(Resilience {
        fallback: raw.fallback,
        retries: raw.retries.min(10),
        retry_backoff: seconds(at("retry_backoff_ms"), raw.retry_backoff_ms / 1e3)?,
        retry_share: raw.retry_share,
        hedge_share: raw.hedge_share,
        breaker: BreakerConfig { failures: raw.breaker_failures, open, longest },
        longest_wait: seconds(at("longest_wait_s"), raw.longest_wait_s)?,
        single_flight: raw.single_flight,
    })
}

fn known_tiers(key: &str, names: &[String], tiers: &[TierPlan]) -> Result<(), ConfigError> {
    for name in names {
        if !tiers.iter().any(|tier| tier.name() == name) {
            let known: Vec<&str> = tiers.iter().map(TierPlan::name).collect();
            let message = format!("there is no tier `{name}`; there are: {}", known.join(", "));
            return Err(ConfigError::value(key, message));
        }
    }
    Ok(())
}

fn auth(raw: AuthSection, tiers: &[TierPlan]) -> Result<Auth, ConfigError> {
    let admin_key = match (&raw.admin_key_env, &raw.admin_key_file) {
        (Some(_), Some(_)) => {
            return Err(ConfigError::value("auth.admin_key_file", "give it or `admin_key_env`, not both"));
        }
        (None, Some(path)) => Some(secret::from_file("auth.admin_key_file", path)?),
        (variable, None) => secret::from_env(variable.as_deref().unwrap_or(ADMIN_KEY_ENV)),
    };
    let keys: Vec<KeyEntry> = raw
        .keys
        .into_iter()
        .enumerate()
        .map(|(index, key)| key_entry(index, key, tiers))
        .collect::<Result<_, _>>()?;
    for (index, key) in keys.iter().enumerate() {
        if let Some(earlier) = keys[..index].iter().find(|earlier| earlier.sha256 == key.sha256) {
            let message = format!("\"{}\" and \"{}\" are the same key", earlier.name, key.name);
            return Err(ConfigError::value(format!("auth.keys[{index}].key_sha256"), message));
        }
    }
    if raw.default_max_tokens == 0 {
        return Err(ConfigError::value("auth.default_max_tokens", "must be at least 1"));
    }
    let tenants = tenants(raw.tenants)?;
    Ok(Auth { admin_key, keys, tenants, default_max_tokens: raw.default_max_tokens })
}

fn tenants(raw: Vec<TenantSection>) -> Result<HashMap<String, Arc<Limits>>, ConfigError> {
    let mut tenants = HashMap::new();
    for (index, TenantSection { tenant, limits }) in raw.into_iter().enumerate() {
        let at = format!("auth.tenants[{index}].tenant");
        let valid: Result<TenantId, _> = tenant.parse();
        valid.map_err(|error| ConfigError::value(&at, error.to_string()))?;
        if tenants.insert(tenant.clone(), Arc::new(limits)).is_some() {
            return Err(ConfigError::value(at, format!("{tenant} is there twice")));
        }
    }
    Ok(tenants)
}

fn key_entry(index: usize, raw: KeySection, tiers: &[TierPlan]) -> Result<KeyEntry, ConfigError> {
    let at = |key: &str| format!("auth.keys[{index}].{key}");
    if raw.tenant == ADMIN_TENANT {
        return Err(ConfigError::value(at("tenant"), "`admin` is the tenant of the admin key"));
    }
    let tenant: Result<TenantId, _> = raw.tenant.parse();
    tenant.map_err(|error| ConfigError::value(at("tenant"), error.to_string()))?;
    let sha256 = hex32(&raw.key_sha256).ok_or_else(|| {
        ConfigError::value(at("key_sha256"), "must be 64 hexadecimal digits: printf %s KEY | sha256sum")
    })?;
    known_tiers(&at("tiers"), raw.tiers.as_deref().unwrap_or_default(), tiers)?;
    let tiers = raw.tiers.filter(|tiers| !tiers.is_empty());
    let limits = raw.limits.unwrap_or_default();
    Ok(KeyEntry { name: raw.name, tenant: raw.tenant, sha256, tiers, limits })
}

fn hex32(text: &str) -> Option<[u8; 32]> {
    let digits: Vec<u8> = text
        .chars()
        .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect::<Option<_>>()?;
    let bytes: Vec<u8> =
        digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect();
    (digits.len() == 64).then(|| bytes.try_into().ok())?
}

fn tiers(raw: Vec<super::raw::TierSection>) -> Result<Vec<TierPlan>, ConfigError> {
    let tiers: Vec<TierPlan> =
        raw.into_iter().enumerate().map(|(index, raw)| tier::plan(index, raw)).collect::<Result<_, _>>()?;
    if tiers.is_empty() {
        return Err(ConfigError::value(
            "tiers",
            "at least one tier is needed; leave `tiers` out for the default two",
        ));
    }
    for (index, tier) in tiers.iter().enumerate() {
        if tiers[..index].iter().any(|earlier| earlier.name() == tier.name()) {
            let message = format!("there are two tiers called {}", tier.name());
            return Err(ConfigError::value(format!("tiers[{index}].name"), message));
        }
    }
    Ok(tiers)
}

fn default_tier(raw: &RouterSection, tiers: &[TierPlan]) -> Result<String, ConfigError> {
    let Some(name) = &raw.default_tier else {
        let dearest = tiers.iter().max_by(|a, b| a.cost().total_cmp(&b.cost()));
        return Ok(dearest.map(|tier| tier.name().to_owned()).unwrap_or_default());
    };
    if tiers.iter().any(|tier| tier.name() == name) {
        return Ok(name.clone());
    }
    let names: Vec<&str> = tiers.iter().map(TierPlan::name).collect();
    let message = format!("there is no tier `{name}`; there are: {}", names.join(", "));
    Err(ConfigError::value("router.default_tier", message))
}

fn router(raw: &RouterSection) -> Result<(RouterConfig, Duration), ConfigError> {
    let deadline = seconds("router.deadline_ms", raw.deadline_ms / 1e3)?;
    let config = RouterConfig {
        policy: raw.policy,
        load: raw.load,
        cost: raw.cost,
        bandit: raw.bandit,
        guard: raw.guard,
        similarity_threshold: raw.similarity_threshold,
        win_threshold: raw.win_threshold,
    };
    config.validate().map_err(|error| {
        ConfigError::value(format!("router.{}", error.key), format!("must be {}", error.range))
    })?;
    Ok((config, deadline))
}

fn check_cache(raw: &CacheSection) -> Result<(), ConfigError> {
    at_least_one("cache.byte_budget", raw.byte_budget)?;
    at_least_one("cache.top_k", raw.top_k)?;
    within("cache.similarity_floor", raw.similarity_floor, -1.0)?;
    within("cache.tau", raw.tau, 0.0)?;
    within("cache.diversity", raw.diversity, 0.0)?;
    seconds("cache.flush_interval_s", raw.flush_interval_s)?;
    seconds("cache.maintenance_interval_s", raw.maintenance_interval_s)?;
    Ok(())
}

fn within(key: &str, value: f32, low: f32) -> Result<(), ConfigError> {
    if (low..=1.0).contains(&value) {
        return Ok(());
    }
    Err(ConfigError::value(key, format!("{value} is not in [{low}, 1]")))
}

fn at_least_one(key: &str, value: usize) -> Result<(), ConfigError> {
    if value == 0 { Err(ConfigError::value(key, "must be at least 1")) } else { Ok(()) }
}

/// A checked time; the smallest there is instead of one that is not.
pub fn seconds_of(value: f64) -> Duration {
    Duration::try_from_secs_f64(value).unwrap_or(Duration::from_millis(1)).max(Duration::from_millis(1))
}

/// A positive time of at most a year: no sum of such times overflows.
pub(super) fn seconds(key: impl Into<String>, value: f64) -> Result<Duration, ConfigError> {
    if value > 0.0 && value <= 3.2e7 {
        return Ok(Duration::from_secs_f64(value));
    }
    Err(ConfigError::value(key, "must be a positive time"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut RawConfig)) -> String {
        let mut raw = RawConfig::default();
        change(&mut raw);
        config(raw).unwrap_err().to_string()
    }

    #[test]
    fn the_embedded_default_holds() {
        let config = config(RawConfig::default()).unwrap();
        assert_eq!(config.default_tier, "large");
        assert_eq!(config.tiers.len(), 2);
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert!(refused(|raw| raw.tiers.clear()).starts_with("tiers: "));
        assert!(refused(|raw| raw.tiers[1].name = "small".into()).starts_with("tiers[1].name: "));
        assert!(refused(|raw| raw.tiers[0].cost = Some(f64::NAN)).starts_with("tiers[0].cost: "));
        assert!(refused(|raw| raw.tiers[0].device = Some("gpu".into())).starts_with("tiers[0].device: "));
        for devices in [vec!["cpu"], vec!["cpu", "gpu"], vec!["cpu"; 17]] {
            let devices: Vec<String> = devices.into_iter().map(str::to_owned).collect();
            let refused = refused(|raw| raw.tiers[0].devices = Some(devices));
            assert!(refused.starts_with("tiers[0].devices: "), "{refused}");
        }
        let both = refused(|raw| {
            raw.tiers[0].device = Some("cpu".into());
            raw.tiers[0].devices = Some(vec!["cpu".into(); 2]);
        });
        assert!(both.starts_with("tiers[0].device: "), "{both}");
        assert!(
            refused(|raw| raw.tiers[0].schedule = Some("defrag".into())).starts_with("tiers[0].schedule: ")
        );
        let unknown = refused(|raw| {
            raw.tiers[0].devices = Some(vec!["cpu".into(); 2]);
            raw.tiers[0].schedule = Some("fifo".into());
        });
        assert!(unknown.starts_with("tiers[0].schedule: "), "{unknown}");
        assert!(refused(|raw| raw.tiers[0].path = Some("x".into())).starts_with("tiers[0].path: "));
        assert!(refused(|raw| raw.tiers[0].max_sequences = Some(0)).starts_with("tiers[0].max_sequences: "));
        assert!(refused(|raw| raw.tiers[0].kv_tokens = Some(0)).starts_with("tiers[0].kv_tokens: "));
        assert!(refused(|raw| raw.tiers[0].prefill_chunk = Some(0)).starts_with("tiers[0].prefill_chunk: "));
        assert!(
            refused(|raw| raw.router.default_tier = Some("x".into())).starts_with("router.default_tier: ")
        );
        assert!(refused(|raw| raw.router.load.gamma = -1.0).starts_with("router.load.gamma: "));
        assert!(
            refused(|raw| raw.resilience.fallback = vec!["x".into()]).starts_with("resilience.fallback: ")
        );
        assert!(refused(|raw| raw.resilience.hedge_share = 1.5).starts_with("resilience.hedge_share: "));
        assert!(
            refused(|raw| raw.tiers[0].hedge_after_ms = Some(5.0)).starts_with("tiers[0].hedge_after_ms: ")
        );
        assert!(
            refused(|raw| raw.tiers[0].max_concurrent = Some(5)).starts_with("tiers[0].max_concurrent: ")
        );
        assert!(refused(|raw| raw.tiers[0].prompt_price = Some(-1.0)).starts_with("tiers[0].prompt_price: "));
        assert!(refused(|raw| raw.cache.tau = 2.0).starts_with("cache.tau: "));
        assert!(
            refused(|raw| raw.server.request_timeout_s = f64::INFINITY)
                .starts_with("server.request_timeout_s: ")
        );
    }

    #[test]
    fn keys_are_checked() {
        let key = |tenant: &str, sha: &str| KeySection {
            name: "k".into(),
            tenant: tenant.into(),
            key_sha256: sha.into(),
            tiers: None,
            limits: None,
        };
        let sha = "ab".repeat(32);
        assert!(refused(|raw| raw.auth.keys = vec![key("a b", &sha)]).starts_with("auth.keys[0].tenant: "));
        assert!(refused(|raw| raw.auth.keys = vec![key("admin", &sha)]).starts_with("auth.keys[0].tenant: "));
        assert!(
            refused(|raw| raw.auth.keys = vec![key("a", "abc")]).starts_with("auth.keys[0].key_sha256: ")
        );
        let twice = vec![key("a", &sha), key("b", &sha.to_uppercase())];
        assert!(refused(|raw| raw.auth.keys = twice).starts_with("auth.keys[1].key_sha256: "));
        assert_eq!(hex32(&sha), Some([0xab; 32]));
    }

    #[test]
    fn without_keys_only_this_machine_is_served() {
        let mut raw = RawConfig { listen: "0.0.0.0:80".parse().unwrap(), ..RawConfig::default() };
        raw.auth.admin_key_env = Some("REPRISE_TEST_VARIABLE_THAT_NOBODY_SETS".into());
        assert!(config(raw.clone()).unwrap_err().to_string().starts_with("listen: "));
        let sha = "ab".repeat(32);
        raw.auth.keys.push(KeySection {
            name: "k".into(),
            tenant: "a".into(),
            key_sha256: sha,
            tiers: None,
            limits: None,
        });
        assert!(config(raw).is_ok());
    }
}
