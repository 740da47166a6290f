use std::sync::Arc;

use reprise_accounts::{Key, Limits, Payer};
use reprise_cache::TenantId;

use crate::admin::origin::OriginError;
use crate::config::KeyEntry;

/// Whose request it is.
#[derive(Debug, Clone)]
pub struct Caller {
    pub tenant: TenantId,
    /// It came with the admin key.
    pub admin: bool,
    /// It came without a key, and is believed because it came from this machine.
    pub anonymous: bool,
    pub grant: Grant,
}

/// What it came with.
#[derive(Debug, Clone)]
pub enum Grant {
    /// No key, or the admin's: nothing is limited but what limits the tenant.
    Open,
    /// A key of the configuration, and the id it is counted under.
    Configured(Arc<str>, Arc<KeyEntry>),
    Virtual(Arc<Key>),
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

impl Caller {
    /// Names of the only tiers that may answer; `None`: all may.
    #[must_use]
    pub fn tiers(&self) -> Option<&[String]> {
        match &self.grant {
            Grant::Open => None,
            Grant::Configured(_, entry) => entry.tiers.as_deref(),
            Grant::Virtual(key) => key.tiers.as_deref(),
        }
    }

    #[must_use]
    pub fn may_use(&self, tier: &str) -> bool {
        self.tiers().is_none_or(|tiers| tiers.iter().any(|name| name == tier))
    }

    /// Of the key.
    #[must_use]
    pub fn limits(&self) -> Option<&Limits> {
        match &self.grant {
            Grant::Open => None,
            Grant::Configured(_, entry) => Some(&entry.limits),
            Grant::Virtual(key) => Some(&key.limits),
        }
    }

    #[must_use]
    pub fn payer(&self) -> Payer {
        let key = match &self.grant {
            Grant::Open => None,
            Grant::Configured(id, _) => Some(Arc::clone(id)),
            Grant::Virtual(key) => Some(key.id.as_str().into()),
        };
        Payer { key, tenant: self.tenant.as_str().into() }
    }
}
