//! Which key it is: one of the configuration, one that was made while the gateway runs, or the admin's.
//!
//! Keys are found and compared by their SHA-256 in a way whose time tells nothing of other keys, see
//! [`HashIndex`].

use std::sync::Arc;

use arc_swap::ArcSwap;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use jiff::Timestamp;
use reprise_accounts::keys::{Digest, sha256};
use reprise_accounts::{HashIndex, KeyBook};
use reprise_cache::{InvalidTenant, TenantId};
use secrecy::ExposeSecret;

use super::caller::{AuthError, Caller, Grant};
use crate::config::{ADMIN_TENANT, Auth};

pub struct Keyring {
    /// Replaced as a whole when the configuration is read again.
    configured: ArcSwap<Configured>,
    book: KeyBook,
    /// Only this machine can reach the gateway.
    loopback: bool,
}

#[derive(Debug, Default)]
struct Configured {
    index: HashIndex<Caller>,
    /// Keys of clients; the admin's is none.
    clients: usize,
}

impl Keyring {
    /// `loopback`: only this machine can reach the gateway.
    ///
    /// # Errors
    /// A tenant's name that is none.
    pub fn new(auth: &Auth, loopback: bool, book: KeyBook) -> Result<Self, InvalidTenant> {
        Ok(Self { configured: ArcSwap::from_pointee(configured(auth)?), book, loopback })
    }

    /// From now on these are the keys of the configuration.
    ///
    /// # Errors
    /// As [`Self::new`]; then nothing changes.
    pub fn configure(&self, auth: &Auth) -> Result<(), InvalidTenant> {
        self.configured.store(Arc::new(configured(auth)?));
        Ok(())
    }

    /// Keys that are made and revoked while the gateway runs.
    #[must_use]
    pub fn book(&self) -> &KeyBook {
        &self.book
    }

    /// # Errors
    /// No key where one is needed, or a wrong one. As long as no client has a key, any but the admin's counts as none:
    /// clients often insist on sending one.
    pub fn caller(&self, headers: &HeaderMap) -> Result<Caller, AuthError> {
        let presented = bearer(headers);
        if let Some(caller) = presented.and_then(|key| self.find(key)) {
            return Ok(caller);
        }
        // Once there is a key, or was one, nobody is let in without: revoking the last must not open the door.
        if self.loopback && self.configured.load().clients == 0 && self.book.is_empty() {
            let tenant = "default".parse().map_err(|_| AuthError::Missing)?;
            return Ok(Caller { tenant, admin: false, anonymous: true, grant: Grant::Open });
        }
        Err(if presented.is_some() { AuthError::Wrong } else { AuthError::Missing })
    }

    fn find(&self, presented: &str) -> Option<Caller> {
        let configured = self.configured.load();
        let (configured, made) =
            (configured.index.find(presented).cloned(), self.book.find(presented, Timestamp::now()));
        configured.or_else(|| {
            let key = made?;
            let tenant: TenantId = key.tenant.parse().ok()?;
            Some(Caller { tenant, admin: false, anonymous: false, grant: Grant::Virtual(key) })
        })
    }
}

fn configured(auth: &Auth) -> Result<Configured, InvalidTenant> {
    let mut configured = Configured { clients: auth.keys.len(), ..Configured::default() };
    for key in &auth.keys {
        let digest = Digest(key.sha256);
        let id = format!("config_{}", &digest.to_string()[..12]);
        let grant = Grant::Configured(id.into(), Arc::new(key.clone()));
        let caller = Caller { tenant: key.tenant.parse()?, admin: false, anonymous: false, grant };
        configured.index.insert(digest, caller);
    }
    if let Some(key) = &auth.admin_key {
        let caller =
            Caller { tenant: ADMIN_TENANT.parse()?, admin: true, anonymous: false, grant: Grant::Open };
        configured.index.insert(sha256(key.expose_secret()), caller);
    }
    Ok(configured)
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let configured = self.configured.load().clients;
        f.debug_struct("Keyring").field("configured", &configured).finish_non_exhaustive()
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, key) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let key = key.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !key.is_empty()).then_some(key)
}

#[cfg(test)]
mod tests {
    use reprise_accounts::{Limits, NewKey};

    use super::*;
    use crate::config::KeyEntry;

    fn ring(keys: &[(&str, &str)], admin: Option<&str>, loopback: bool) -> Keyring {
        let folder = tempfile::tempdir().unwrap();
        let book = KeyBook::open(&folder.path().join("keys.log")).unwrap();
        Keyring::new(&auth(keys, admin), loopback, book).unwrap()
    }

    fn auth(keys: &[(&str, &str)], admin: Option<&str>) -> Auth {
        let keys = keys.iter().map(|(key, tenant)| KeyEntry {
            name: "k".into(),
            tenant: (*tenant).into(),
            sha256: sha256(key).0,
            tiers: None,
            limits: Limits::default(),
        });
        let (admin_key, keys) = (admin.map(Into::into), keys.collect());
        Auth { admin_key, keys, tenants: std::collections::HashMap::new(), default_max_tokens: 1 }
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
    fn once_a_key_was_made_nobody_is_anonymous_again() {
        let ring = ring(&[], None, true);
        let new = NewKey {
            name: "n".into(),
            tenant: "made".into(),
            tiers: None,
            limits: Limits::default(),
            expires_at: None,
        };
        let (key, secret) = ring.book().create(new, Timestamp::now()).unwrap();
        let header = format!("Bearer {}", secret.expose_secret());
        assert_eq!(ask(&ring, Some(&header)), Ok(("made".into(), false)));
        assert_eq!(ask(&ring, None), Err(AuthError::Missing));
        ring.book().revoke(&key.id, Timestamp::now()).unwrap();
        assert_eq!(ask(&ring, Some(&header)), Err(AuthError::Wrong));
        assert_eq!(ask(&ring, None), Err(AuthError::Missing));
    }

    #[test]
    fn keys_of_a_new_configuration_take_the_place_of_the_old() {
        let ring = ring(&[("ka", "a")], None, true);
        ring.configure(&auth(&[("kb", "b")], Some("root"))).unwrap();
        assert_eq!(ask(&ring, Some("Bearer ka")), Err(AuthError::Wrong));
        assert_eq!(ask(&ring, Some("Bearer kb")), Ok(("b".into(), false)));
        assert_eq!(ask(&ring, Some("Bearer root")), Ok(("admin".into(), true)));
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
