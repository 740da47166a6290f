//! The harm guard: where answers with examples measured worse than answers without, examples are withheld.
//!
//! Requests fall into clusters by embedding (leader clustering, Hartigan 1975: a request joins the nearest leader within
//! `radius`, else becomes one). For each cluster and tier two means of measured quality are kept, with examples and without:
//!
//! ```text
//! n <- g n + 1,  m <- m + (q - m) / n,  v likewise of (q - m)^2;   both kinds fade by g at each outcome of the cluster
//! off   where  m_plain - m_examples > z sqrt(v_plain / n_plain + v_examples / n_examples)  and both n >= least
//! on    where  m_examples >= m_plain, or what is known of answers with examples has faded below least
//! ```
//!
//! So a switched-off cluster comes back in two ways: a share `probe` of its requests gets examples all the same and shows
//! that they help now, or the evidence against them is forgotten. Pure: the random draw is the caller's.

use std::collections::BTreeMap;
use std::sync::Arc;

use reprise_kernels::similarity::dot;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ArmKey, ArmState};

/// The parameters of the harm guard. All but `fade`, which is the bandit's discount at the rate of one cluster, are
/// assumptions: what they do is tested, what they should be is not measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GuardConfig {
    /// Withhold examples where they were measured to harm.
    pub enabled: bool,
    /// Outcomes of each kind, after fading, from which a comparison counts.
    pub least: f64,
    /// Standard errors by which the plain answers must be ahead.
    pub z: f64,
    /// What each outcome of a cluster keeps of the earlier ones, in (0, 1].
    pub fade: f64,
    /// Share of requests that get examples although they are switched off.
    pub probe: f64,
    /// Least cosine similarity of a request to its cluster's leader.
    pub radius: f64,
    /// Of requests, each judged by itself.
    pub clusters: usize,
}

impl Default for GuardConfig {
    fn default() -> Self {
        Self { enabled: true, least: 8.0, z: 2.0, fade: 0.99, probe: 0.05, radius: 0.5, clusters: 64 }
    }
}

/// Number of a cluster of requests.
pub type Cluster = u32;

#[derive(Debug, Clone, Default)]
pub struct Guard {
    leaders: Vec<Vec<f32>>,
    known: BTreeMap<Place, Known>,
}

/// A tier, with the model behind it, in a cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Place {
    cluster: Cluster,
    tier: Arc<str>,
    model: Arc<str>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Known {
    plain: Mean,
    examples: Mean,
    off: bool,
}

/// A fading mean with its fading variance.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Mean {
    n: f64,
    mean: f64,
    variance: f64,
}

/// What a snapshot keeps.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct GuardState {
    leaders: Vec<Vec<f32>>,
    known: Vec<(Place, Known)>,
}

/// A place where examples are withheld, for the admin API.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Withheld {
    pub cluster: Cluster,
    pub tier: Arc<str>,
    /// Mean quality without and with examples, and the outcomes behind each after fading.
    pub plain: (f64, f64),
    pub examples: (f64, f64),
}

/// Variance that a few equal outcomes are taken to hide: of a fair coin's half.
const LEAST_VARIANCE: f64 = 0.05;

impl Guard {
    /// The cluster of a request, if one is near.
    pub fn cluster(&self, config: &GuardConfig, embedding: &[f32]) -> Option<Cluster> {
        let (index, similarity) = self.nearest(embedding)?;
        let full = self.leaders.len() >= config.clusters;
        (full || f64::from(similarity) >= config.radius).then_some(index)
    }

    /// The cluster of a request; it leads a new one if none is near and there is room.
    pub fn join(&mut self, config: &GuardConfig, embedding: &[f32]) -> Option<Cluster> {
        if let Some(cluster) = self.cluster(config, embedding) {
            return Some(cluster);
        }
        let usable = !embedding.is_empty() && embedding.iter().all(|value| value.is_finite());
        if !usable || self.leaders.len() >= config.clusters {
            return None;
        }
        self.leaders.push(embedding.to_vec());
        Cluster::try_from(self.leaders.len() - 1).ok()
    }

    fn nearest(&self, embedding: &[f32]) -> Option<(Cluster, f32)> {
        let same = self.leaders.iter().enumerate().filter(|(_, leader)| leader.len() == embedding.len());
        let best =
            same.map(|(index, leader)| (index, dot(leader, embedding))).max_by(|a, b| a.1.total_cmp(&b.1))?;
        Some((Cluster::try_from(best.0).ok()?, best.1))
    }

    /// True if this arm shows examples where they are switched off.
    pub fn withholds(&self, cluster: Cluster, state: &ArmState) -> bool {
        state.arm.examples && self.known.get(&Place::of(cluster, &state.key)).is_some_and(|known| known.off)
    }

    /// Takes in an outcome; true if it switched examples off or on.
    pub fn learn(&mut self, config: &GuardConfig, cluster: Cluster, arm: &ArmKey, quality: f64) -> bool {
        if !quality.is_finite() || cluster as usize >= self.leaders.len() {
            return false;
        }
        let known = self.known.entry(Place::of(cluster, arm)).or_default();
        known.plain.n *= config.fade;
        known.examples.n *= config.fade;
        let kind = if arm.examples { &mut known.examples } else { &mut known.plain };
        kind.add(quality.clamp(0.0, 1.0));
        let before = known.off;
        known.off = known.judged(config);
        if known.off != before {
            tracing::info!(cluster, arm = %arm, off = known.off, "the harm guard switched examples");
        }
        known.off != before
    }

    pub fn withheld(&self) -> Vec<Withheld> {
        let off = self.known.iter().filter(|(_, known)| known.off);
        off.map(|(place, known)| Withheld {
            cluster: place.cluster,
            tier: Arc::clone(&place.tier),
            plain: (known.plain.mean, known.plain.n),
            examples: (known.examples.mean, known.examples.n),
        })
        .collect()
    }

    /// Forgets a tier, when its weights changed under the same model id.
    pub fn forget(&mut self, tier: &str) {
        self.known.retain(|place, _| &*place.tier != tier);
    }

    pub fn state(&self) -> GuardState {
        let known = self.known.iter().map(|(place, known)| (place.clone(), *known)).collect();
        GuardState { leaders: self.leaders.clone(), known }
    }

    /// What is not finite, or names a cluster that is not there, is left out.
    pub fn from_state(state: GuardState) -> Self {
        let whole = state.leaders.iter().flatten().all(|value| value.is_finite());
        let leaders = if whole { state.leaders } else { Vec::new() };
        let finite = |mean: &Mean| [mean.n, mean.mean, mean.variance].iter().all(|value| value.is_finite());
        let known = state
            .known
            .into_iter()
            .filter(|(place, known)| {
                (place.cluster as usize) < leaders.len() && finite(&known.plain) && finite(&known.examples)
            })
            .collect();
        Self { leaders, known }
    }
}

impl Place {
    fn of(cluster: Cluster, key: &ArmKey) -> Self {
        Self { cluster, tier: Arc::clone(&key.tier), model: Arc::clone(&key.model) }
    }
}

impl Mean {
    fn add(&mut self, value: f64) {
        self.n += 1.0;
        let off = value - self.mean;
        self.mean += off / self.n;
        self.variance += (off * (value - self.mean) - self.variance) / self.n;
    }

    fn error_squared(&self) -> f64 {
        self.variance.max(LEAST_VARIANCE) / self.n.max(1.0)
    }
}

impl Known {
    fn judged(&self, config: &GuardConfig) -> bool {
        let Self { plain, examples, off } = self;
        let enough = plain.n >= config.least && examples.n >= config.least;
        let behind = plain.mean - examples.mean;
        if *off {
            // Harder to come back than to stay: the line is crossed once, not back and forth.
            return examples.n >= config.least / 2.0 && behind > 0.0;
        }
        enough && behind > config.z * (plain.error_squared() + examples.error_squared()).sqrt()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::four_arms;

    fn learnt(outcomes: impl IntoIterator<Item = (bool, f64)>) -> Guard {
        let (config, arms, mut guard) = (GuardConfig::default(), four_arms(), Guard::default());
        assert_eq!(guard.join(&config, &[1.0, 0.0]), Some(0));
        for (examples, quality) in outcomes {
            guard.learn(&config, 0, &arms[usize::from(examples)].key, quality);
        }
        guard
    }

    fn mixed(plain: f64, examples: f64, rounds: usize) -> impl Iterator<Item = (bool, f64)> {
        (0..rounds).flat_map(move |_| [(false, plain), (true, examples)])
    }

    #[test]
    fn worse_with_examples_switches_that_tier_off_in_that_cluster_only() {
        let (config, arms) = (GuardConfig::default(), four_arms());
        let mut guard = learnt(mixed(0.8, 0.3, 20));
        assert!(guard.withholds(0, &arms[1]));
        assert!(!guard.withholds(0, &arms[0]), "the plain arm shows none");
        assert!(!guard.withholds(0, &arms[3]), "the other tier is not judged by it");
        let other = guard.join(&config, &[0.0, 1.0]).unwrap();
        assert!(other != 0 && !guard.withholds(other, &arms[1]));
        assert_eq!(guard.withheld().len(), 1);
        guard.forget("small");
        assert!(guard.withheld().is_empty());
    }

    #[test]
    fn better_or_little_evidence_switches_nothing_off() {
        let arms = four_arms();
        assert!(!learnt(mixed(0.3, 0.8, 50)).withholds(0, &arms[1]));
        assert!(!learnt(mixed(0.9, 0.1, 3)).withholds(0, &arms[1]));
        assert!(!learnt((0..50).map(|_| (true, 0.0))).withholds(0, &arms[1]), "nothing to compare with");
    }

    #[test]
    fn probes_that_do_well_bring_examples_back_and_so_does_time() {
        let (config, arms) = (GuardConfig::default(), four_arms());
        let mut guard = learnt(mixed(0.7, 0.2, 15));
        let needed = (0..200).position(|_| guard.learn(&config, 0, &arms[1].key, 1.0)).unwrap();
        assert!(needed < 60 && !guard.withholds(0, &arms[1]), "{needed}");
        let mut guard = learnt(mixed(0.7, 0.2, 15));
        // Nobody probes: what is known of examples fades below half of what is needed.
        let needed = (0..500).position(|_| guard.learn(&config, 0, &arms[0].key, 0.7)).unwrap();
        assert!((50..400).contains(&needed), "{needed}");
    }

    #[test]
    fn state_survives_and_damage_is_left_out() {
        let guard = learnt(mixed(0.8, 0.3, 20));
        let text = serde_json::to_string(&guard.state()).unwrap();
        let back = Guard::from_state(serde_json::from_str(&text).unwrap());
        assert_eq!(back.state(), guard.state());
        let mut state = guard.state();
        state.leaders[0][0] = f32::NAN;
        assert_eq!(Guard::from_state(state).state(), GuardState::default());
    }

    proptest! {
        #[test]
        fn any_outcomes_leave_a_state_that_reads_back(
            outcomes in prop::collection::vec((prop::bool::ANY, prop::num::f64::ANY), 0..60),
        ) {
            let guard = learnt(outcomes);
            prop_assert_eq!(Guard::from_state(guard.state()).state(), guard.state());
        }

        /// Equal qualities never switch anything off, however many outcomes there are of each kind.
        #[test]
        fn no_difference_is_no_harm(kinds in prop::collection::vec(prop::bool::ANY, 0..200), quality in 0.0_f64..=1.0) {
            let guard = learnt(kinds.into_iter().map(|examples| (examples, quality)));
            prop_assert!(guard.withheld().is_empty());
        }
    }
}
