//! A tier that is in the pool before its weights are on the disk.

use std::sync::OnceLock;

use reprise_tier::{
    DeviceLoad, GenerateRequest, Generation, Pressure, SharedTier, Tier, TierError, TierInfo, TierState,
};

/// `Loading` until the real tier is put in, which happens once.
#[derive(Debug)]
pub struct Deferred {
    info: TierInfo,
    tier: OnceLock<Result<SharedTier, String>>,
}

impl Deferred {
    #[must_use]
    pub fn new(info: TierInfo) -> Self {
        Self { info, tier: OnceLock::new() }
    }

    /// The tier, or why there will be none. What is put in second is dropped.
    pub fn settle(&self, tier: Result<SharedTier, String>) {
        if self.tier.set(tier).is_err() {
            tracing::error!(tier = self.info.name, "a tier was brought up twice");
        }
    }

    fn inner(&self) -> Option<&SharedTier> {
        self.tier.get().and_then(|tier| tier.as_ref().ok())
    }
}

impl Tier for Deferred {
    fn info(&self) -> &TierInfo {
        self.inner().map_or(&self.info, |tier| tier.info())
    }

    fn state(&self) -> TierState {
        match self.tier.get() {
            None => TierState::Loading,
            Some(Ok(tier)) => tier.state(),
            Some(Err(reason)) => TierState::Failed { reason: reason.clone() },
        }
    }

    fn submit(&self, request: GenerateRequest) -> Result<Generation, TierError> {
        match self.tier.get() {
            Some(Ok(tier)) => tier.submit(request),
            Some(Err(reason)) => Err(TierError::NotReady { reason: reason.clone() }),
            None => Err(TierError::NotReady { reason: "its weights are being fetched".to_owned() }),
        }
    }

    fn pressure(&self) -> Pressure {
        self.inner().map_or_else(Pressure::default, |tier| tier.pressure())
    }

    fn block_tokens(&self, user: &str, assistant: &str) -> u32 {
        let estimate = || u32::try_from((user.len() + assistant.len()) / 4 + 8).unwrap_or(u32::MAX);
        self.inner().map_or_else(estimate, |tier| tier.block_tokens(user, assistant))
    }

    fn devices(&self) -> Vec<DeviceLoad> {
        self.inner().map_or_else(Vec::new, |tier| tier.devices())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_loads_until_it_is_settled() {
        let info =
            TierInfo { name: "small".into(), model: "m".into(), context_length: 8, cost: 0.1, remote: false };
        let tier = Deferred::new(info);
        assert_eq!(tier.state(), TierState::Loading);
        tier.settle(Err("no such model".into()));
        assert_eq!(tier.state(), TierState::Failed { reason: "no such model".into() });
        assert_eq!(tier.info().name, "small");
    }
}
