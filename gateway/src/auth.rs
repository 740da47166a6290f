//! Who asks: the tenant comes from the key and from nothing else.
//!
//! Keys are compared by their SHA-256, in constant time and against every entry, so that neither a guess's length nor
//! its first wrong byte nor which entry it is near to shows in the time taken. Keys are long and random: a slow
//! password hash would protect nothing more and cost each request.

use http::HeaderMap;
use http::header::AUTHORIZATION;
use reprise_cache::TenantId;
use secrecy::ExposeSecret;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::admin::origin::OriginError;
use crate::config::{ADMIN_TENANT, Auth};

/// Whose request it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    pub tenant: TenantId,
    /// It came with the admin key.
    pub admin: bool,
    /// It came without a key, and is believed because it came from this machine.
    pub anonymous: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    #[error("You did not provide an API key. Send it in the Authorization header: Authorization: Bearer KEY")]
    Missing,
    #[error("Incorrect API key provided.")]
    Wrong,
    /// Somebody may have talked a browser or a proxy on this machine into it.
    #[error(
        "No keys are configured, so only programs on this machine are served, and this did not come from one: {0}."
    )]
    Foreign(OriginError),
}

pub struct Keyring {
    entries: Vec<Entry>,
    /// Whom requests without a key belong to; only where no other machine can reach the gateway, and none once there
    /// are keys.
    anonymous: Option<TenantId>,
}

struct Entry {
    sha256: [u8; 32],
    caller: Caller,
}

impl Keyring {
    /// `loopback`: only this machine can reach the gateway.
    ///
    /// # Errors
    /// A tenant's name that is none.
    pub fn new(auth: &Auth, loopback: bool) -> Result<Self, reprise_cache::InvalidTenant> {
        let mut entries = Vec::new();
        for key in &auth.keys {
            let caller = Caller { tenant: key.tenant.parse()?, admin: false, anonymous: false };
            entries.push(Entry { sha256: key.sha256, caller });
        }
        if let Some(key) = &auth.admin_key {
            let caller = Caller { tenant: ADMIN_TENANT.parse()?, admin: true, anonymous: false };
            entries.push(Entry { sha256: Sha256::digest(key.expose_secret()).into(), caller });
        }
        let anonymous = if loopback && auth.keys.is_empty() { Some("default".parse()?) } else { None };
        Ok(Self { entries, anonymous })
    }

    /// # Errors
    /// No key where one is needed, or a wrong one. Without configured keys any but the admin key counts as none:
    /// clients often insist on sending one.
    pub fn caller(&self, headers: &HeaderMap) -> Result<Caller, AuthError> {
        let presented = bearer(headers);
        let known = presented.and_then(|key| self.find(key));
        match (known, &self.anonymous, presented) {
            (Some(caller), _, _) => Ok(caller.clone()),
            (None, Some(tenant), _) => Ok(Caller { tenant: tenant.clone(), admin: false, anonymous: true }),
            (None, None, Some(_)) => Err(AuthError::Wrong),
            (None, None, None) => Err(AuthError::Missing),
        }
    }

    fn find(&self, key: &str) -> Option<&Caller> {
        let hash: [u8; 32] = Sha256::digest(key).into();
        let mut found = None;
        for entry in &self.entries {
            if bool::from(entry.sha256.ct_eq(&hash)) {
                found = Some(&entry.caller);
            }
        }
        found
    }
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keyring").field("entries", &self.entries.len()).finish_non_exhaustive()
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, key) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let key = key.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !key.is_empty()).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::KeyEntry;

    fn ring(keys: &[(&str, &str)], admin: Option<&str>, loopback: bool) -> Keyring {
        let keys = keys.iter().map(|(key, tenant)| KeyEntry {
            name: "k".into(),
            tenant: (*tenant).into(),
            sha256: Sha256::digest(key).into(),
        });
        Keyring::new(&Auth { admin_key: admin.map(Into::into), keys: keys.collect() }, loopback).unwrap()
    }

    fn ask(ring: &Keyring, header: Option<&str>) -> Result<(String, bool), AuthError> {
        let mut headers = HeaderMap::new();
        if let Some(header) = header {
            headers.insert(AUTHORIZATION, header.parse().unwrap());
        }
        ring.caller(&headers).map(|caller| (caller.tenant.to_string(), caller.admin))
    }

    #[test]
    fn the_key_says_whose_request_it_is() {
        let ring = ring(&[("ka", "a"), ("kb", "b")], Some("root"), true);
        assert_eq!(ask(&ring, Some("Bearer kb")), Ok(("b".into(), false)));
        assert_eq!(ask(&ring, Some("bearer  ka ")), Ok(("a".into(), false)));
        assert_eq!(ask(&ring, Some("Bearer root")), Ok(("admin".into(), true)));
        assert_eq!(ask(&ring, Some("Bearer kc")), Err(AuthError::Wrong));
        assert_eq!(ask(&ring, Some("Basic ka")), Err(AuthError::Missing));
        assert_eq!(ask(&ring, None), Err(AuthError::Missing));
    }

    #[test]
    fn without_keys_everyone_is_the_default_tenant() {
        let open = ring(&[], None, true);
        assert_eq!(ask(&open, None), Ok(("default".into(), false)));
        assert_eq!(ask(&open, Some("Bearer anything")), Ok(("default".into(), false)));
    }

    #[test]
    fn reachable_from_elsewhere_nobody_is_anonymous() {
        let ring = ring(&[], Some("root"), false);
        assert_eq!(ask(&ring, None), Err(AuthError::Missing));
        assert_eq!(ask(&ring, Some("Bearer x")), Err(AuthError::Wrong));
        assert_eq!(ask(&ring, Some("Bearer root")), Ok(("admin".into(), true)));
    }

    #[test]
    fn the_debug_form_shows_no_key() {
        assert!(!format!("{:?}", ring(&[("secret", "a")], Some("root"), true)).contains("secret"));
    }
}
