//! A tier that never answers: for the pool, which only looks at what a tier says of itself.

use std::sync::Arc;

use parking_lot::Mutex;
use reprise_tier::{GenerateRequest, Generation, Pressure, SharedTier, Tier, TierError, TierInfo, TierState};

#[derive(Debug)]
pub struct FakeTier {
    info: TierInfo,
    pub state: Mutex<TierState>,
}

impl FakeTier {
    pub fn shared(name: &str, cost: f64) -> Arc<Self> {
        let info = TierInfo {
            name: name.into(),
            model: format!("{name}-model"),
            context_length: 100,
            cost,
            remote: false,
        };
        Arc::new(Self { info, state: Mutex::new(TierState::Ready) })
    }
}

pub fn tiers(fakes: &[Arc<FakeTier>]) -> Vec<SharedTier> {
    fakes.iter().map(|fake| Arc::clone(fake) as SharedTier).collect()
}

impl Tier for FakeTier {
    fn info(&self) -> &TierInfo {
        &self.info
    }

    fn state(&self) -> TierState {
        self.state.lock().clone()
    }

    fn submit(&self, _: GenerateRequest) -> Result<Generation, TierError> {
        Err(TierError::ShuttingDown)
    }

    fn pressure(&self) -> Pressure {
        Pressure { queued_seconds: self.info.cost, ..Pressure::default() }
    }

    fn block_tokens(&self, _: &str, _: &str) -> u32 {
        1
    }
}
