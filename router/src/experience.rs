use serde::{Deserialize, Serialize};

use crate::{ArmKey, Cluster, Features};

/// One answered request whose quality is known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Experience {
    pub features: Features,
    /// The arm that answered, which is not the one decided on if that tier failed.
    pub arm: ArmKey,
    /// Quality of the answer, in [0, 1].
    pub reward: f64,
    /// Quality of the dearest tier's answer to the same request, where a shadow run or a judge told it.
    #[serde(default)]
    pub baseline: Option<f64>,
    /// The harm guard's cluster of the request.
    #[serde(default)]
    pub cluster: Option<Cluster>,
}
