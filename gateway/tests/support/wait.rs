//! Waiting for what happens soon: no test measures time, so the deadline is only there to end a hang.

use std::future::Future;
use std::time::{Duration, Instant};

/// Far above anything a loaded two-core machine needs.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// Asks again and again until `probe` answers; panics with `what` after the deadline.
pub async fn eventually<T, F, Fut>(what: &str, mut probe: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let began = Instant::now();
    loop {
        if let Some(value) = probe().await {
            return value;
        }
        assert!(began.elapsed() < DEADLINE, "did not happen within {DEADLINE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
