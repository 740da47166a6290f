use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::CurateError;
use crate::gateway::{Gateway, GatewayError};

/// The right to curate one gateway, renewed in the background until it is given back or lost.
#[derive(Debug)]
pub(super) struct Lease {
    gateway: Gateway,
    id: String,
    lost: CancellationToken,
    renewal: JoinHandle<()>,
}

impl Lease {
    pub(super) async fn take(gateway: &Gateway, holder: &str, ttl: Duration) -> Result<Self, CurateError> {
        let grant = match gateway.acquire_lease(holder, ttl.as_secs().max(1)).await {
            Ok(grant) => grant,
            Err(GatewayError::Refused { status: 409, message, .. }) => {
                return Err(CurateError::LeaseHeld(message));
            }
            Err(error) => return Err(error.into()),
        };
        info!(holder, "lease taken");
        let lost = CancellationToken::new();
        let renewal = tokio::spawn(renew(gateway.clone(), grant.lease.clone(), ttl, lost.clone()));
        Ok(Self { gateway: gateway.clone(), id: grant.lease, lost, renewal })
    }

    /// Cancelled once the lease is no longer ours.
    pub(super) fn lost(&self) -> &CancellationToken {
        &self.lost
    }

    pub(super) async fn release(self) {
        self.renewal.abort();
        if !self.lost.is_cancelled()
            && let Err(error) = self.gateway.release_lease(&self.id).await
        {
            warn!(%error, "the lease was not given back; it ends by itself");
        }
    }
}

/// Renews at a third of the time. Refused: lost. Unreachable: tries on, until the time is over.
async fn renew(gateway: Gateway, id: String, ttl: Duration, lost: CancellationToken) {
    let mut valid_until = Instant::now() + ttl;
    loop {
        tokio::time::sleep(ttl / 3).await;
        let asked = Instant::now();
        match gateway.renew_lease(&id).await {
            Ok(()) => valid_until = asked + ttl,
            Err(error) if error.status().is_some_and(|status| (400..500).contains(&status)) => {
                warn!(%error, "the lease is lost");
                return lost.cancel();
            }
            Err(error) => {
                warn!(%error, "the lease could not be renewed");
                if Instant::now() >= valid_until {
                    return lost.cancel();
                }
            }
        }
    }
}
