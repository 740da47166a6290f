use serde_json::json;

use super::RunFile;
use crate::gateway::{Gateway, GatewayError};

/// Writes down what answers: the tiers and their cost (the report calls the dearest one "large"), the gateway's
/// version and counts, and the router before the run.
pub(super) async fn fill(gateway: &Gateway, run: &mut RunFile) -> Result<(), GatewayError> {
    run.tiers = gateway.pool().await?.tiers;
    let mut state = gateway.state().await?;
    if let Some(state) = state.as_object_mut() {
        // Requests of other people have no place in a result.
        state.remove("recent");
        state.remove("recent_requests");
    }
    run.gateway = json!({ "state": state, "router": gateway.router().await? });
    Ok(())
}
