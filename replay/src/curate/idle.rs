use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::gateway::admin::Pool;
use crate::gateway::{Gateway, GatewayError};

const POLL: Duration = Duration::from_secs(2);

/// The pool once it is idle; `None` if it stayed busy for `patience` or `cancel` came first.
pub(super) async fn wait(
    gateway: &Gateway,
    patience: Duration,
    cancel: &CancellationToken,
) -> Result<Option<Pool>, GatewayError> {
    let deadline = Instant::now() + patience;
    loop {
        let pool = gateway.pool().await?;
        if pool.idle {
            return Ok(Some(pool));
        }
        let next = Instant::now() + POLL;
        if next > deadline {
            return Ok(None);
        }
        tokio::select! {
            () = cancel.cancelled() => return Ok(None),
            () = tokio::time::sleep_until(next) => {}
        }
    }
}
