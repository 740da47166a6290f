use std::{collections::BTreeMap, path::Path, sync::Arc, time::Instant};

use parking_lot::{Mutex, RwLock};
use rand::{Rng, RngCore};
use rand_distr::StandardNormal;
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    Arm, ArmKey, ArmReport, ArmScore, ArmState, Cluster, ConfigError, Context, Decision, Experience,
    Features, LoadReport, Policy, PolicyKind, Restored, RouteError, RouterConfig, Situation, SnapshotError,
    TokenSeconds, Took, Withheld,
    bandit::Bandit,
    cost::relative_costs,
    eligible::eligible,
    guard::Guard,
    load::LoadAverage,
    policies::{self, WinModel, WinModelState},
    snapshot::{self, Snapshot},
    speed::Speeds,
};

/// Decides which arm answers, and learns from how it went.
///
/// The locks are held for microseconds and never across I/O; none is taken while another is held.
#[derive(Debug)]
pub struct Router {
    config: RouterConfig,
    /// Replaced when an operator switches the policy.
    policy: RwLock<Arc<dyn Policy>>,
    /// Written at each outcome, and when an arm is seen for the first time.
    bandit: RwLock<Bandit>,
    wins: Arc<WinModel>,
    /// The cheapest tier last seen: the one whose answers teach `wins`.
    cheapest: RwLock<Option<Arc<str>>>,
    load: Mutex<LoadAverage>,
    /// Written at each outcome, and when a request leads a new cluster.
    guard: RwLock<Guard>,
    /// Written when an answer ends.
    speeds: RwLock<Speeds>,
}

impl Router {
    /// A cold router.
    ///
    /// # Errors
    /// A configured value is outside its range.
    pub fn new(config: RouterConfig) -> Result<Self, ConfigError> {
        Self::with_state(config, Bandit::default(), WinModelState::default(), Guard::default())
    }

    /// A router that knows what the snapshot at `path` knew. One that is missing or damaged means a cold start, never
    /// a failure; a damaged one is renamed aside, as [`Restored`] tells. Blocks on the disk.
    ///
    /// # Errors
    /// A configured value is outside its range.
    pub fn restore(config: RouterConfig, path: &Path) -> Result<(Self, Restored), ConfigError> {
        config.validate()?;
        let (snapshot, restored) = snapshot::load(path);
        let router = match snapshot {
            Some(Snapshot { bandit, wins, guard }) => {
                let bandit = Bandit::from_state(&config.bandit, bandit);
                Self::with_state(config, bandit, wins, Guard::from_state(guard))?
            }
            None => Self::new(config)?,
        };
        Ok((router, restored))
    }

    fn with_state(
        config: RouterConfig,
        bandit: Bandit,
        wins: WinModelState,
        guard: Guard,
    ) -> Result<Self, ConfigError> {
        config.validate()?;
        let wins = Arc::new(WinModel::new(wins));
        Ok(Self {
            policy: RwLock::new(policies::build(config.policy, &config, &wins)),
            config,
            bandit: RwLock::new(bandit),
            wins,
            cheapest: RwLock::new(None),
            load: Mutex::new(LoadAverage::default()),
            guard: RwLock::new(guard),
            speeds: RwLock::default(),
        })
    }

    /// Chooses an arm. `arms` are all arms of the pool, also those that are down: [`Pool::arms`](crate::Pool::arms).
    ///
    /// # Errors
    /// No arm can take the request.
    pub fn decide(
        &self,
        context: &Context<'_>,
        arms: &[ArmState],
        now: Instant,
        rng: &mut dyn RngCore,
    ) -> Result<Decision, RouteError> {
        let load = self.observe_load(arms, now);
        let load_bias = self.config.load.bias(load);
        let cluster = context
            .embedding
            .filter(|_| self.config.guard.enabled)
            .and_then(|embedding| self.join(embedding));
        let policy = Arc::clone(&self.policy.read());
        let withheld = self.withheld_arms(cluster, arms, policy.kind(), rng);
        let (open, excluded) = eligible(context, arms, &|state| withheld.contains(&state.arm))?;
        self.meet(arms);
        let features = Features::of(context);
        let scores = self.scores(context, &features, &open, load_bias, rng);
        let situation = Situation { context, features: &features, arms: &scores, load, load_bias };
        let choice = policy.choose(&situation, rng);
        let chosen = open.get(choice.index).ok_or(RouteError::NotReady)?;
        Ok(Decision {
            arm: chosen.arm,
            key: chosen.key.clone(),
            action: choice.action,
            policy: policy.kind(),
            solicit_preference: alike(&scores, self.config.bandit.solicit_sd),
            scores,
            excluded,
            load,
            load_bias,
            reason: choice.reason,
            features,
            cluster,
        })
    }

    /// Takes the pool's pressure into the load average, and returns it. Each decision does so; where none are made,
    /// call it on a timer, so that the load falls when traffic stops.
    pub fn observe_load(&self, arms: &[ArmState], now: Instant) -> f64 {
        let pressure = self.config.load.pressure(arms);
        self.load.lock().observe(pressure, self.config.load.half_life_s, now)
    }

    /// Learns from an answer whose quality is known. False if it could not be used: its arm was never offered, or the
    /// reward is not finite.
    pub fn learn(&self, experience: &Experience) -> bool {
        let learned = self.bandit.write().learn(&self.config.bandit, experience);
        if learned && self.cheapest.read().as_ref() == Some(&experience.arm.tier) {
            self.wins.learn(experience);
        }
        if let Some(cluster) = experience.cluster.filter(|_| learned) {
            self.guard.write().learn(&self.config.guard, cluster, &experience.arm, experience.reward);
        }
        learned
    }

    /// Takes in what an answer took: the price of a tier's tokens.
    pub fn observe_speed(&self, tier: &str, took: &Took) {
        self.speeds.write().observe(tier, took);
    }

    /// Forgets what was learned of a tier, when its weights changed under the same model id.
    pub fn forget(&self, tier: &str) {
        self.bandit.write().forget(tier);
        self.guard.write().forget(tier);
    }

    /// Where the harm guard withholds examples.
    #[must_use]
    pub fn withheld(&self) -> Vec<Withheld> {
        self.guard.read().withheld()
    }

    #[must_use]
    pub fn policy(&self) -> PolicyKind {
        self.policy.read().kind()
    }

    /// Switches the policy, from the next decision on. Returns the previous one.
    pub fn set_policy(&self, kind: PolicyKind) -> PolicyKind {
        let next = policies::build(kind, &self.config, &self.wins);
        std::mem::replace(&mut *self.policy.write(), next).kind()
    }

    #[must_use]
    pub fn config(&self) -> &RouterConfig {
        &self.config
    }

    /// Outcomes learned from, over all restarts.
    #[must_use]
    pub fn updates(&self) -> u64 {
        self.bandit.read().updates()
    }

    #[must_use]
    pub fn load_report(&self) -> LoadReport {
        let load = self.load.lock().value();
        let config = &self.config.load;
        LoadReport {
            lambda0: config.lambda0,
            gamma: config.gamma,
            theta: config.theta,
            load,
            bias: config.bias(load),
        }
    }

    #[must_use]
    pub fn report(&self) -> RouterReport {
        let (updates, arms) = {
            let bandit = self.bandit.read();
            (bandit.updates(), bandit.report())
        };
        RouterReport {
            policy: self.policy(),
            updates,
            arms,
            load_bias: self.load_report(),
            withheld: self.withheld(),
            speeds: self.speeds.read().report(),
        }
    }

    /// Writes what was learned to `path`: all of it or nothing, also if the power fails. Blocks on the disk.
    ///
    /// # Errors
    /// The disk refused; the previous snapshot is intact.
    pub fn save(&self, path: &Path) -> Result<(), SnapshotError> {
        let bandit = self.bandit.read().state();
        snapshot::save(path, &Snapshot { bandit, wins: self.wins.state(), guard: self.guard.read().state() })
    }

    fn join(&self, embedding: &[f32]) -> Option<Cluster> {
        let known = self.guard.read().cluster(&self.config.guard, embedding);
        known.or_else(|| self.guard.write().join(&self.config.guard, embedding))
    }

    /// Arms whose examples the harm guard withholds from this request. Baselines do what they stand for.
    fn withheld_arms(
        &self,
        cluster: Option<Cluster>,
        arms: &[ArmState],
        policy: PolicyKind,
        rng: &mut dyn RngCore,
    ) -> Vec<Arm> {
        let config = &self.config.guard;
        let Some(cluster) = cluster.filter(|_| config.enabled && policy == PolicyKind::Bandit) else {
            return Vec::new();
        };
        let guard = self.guard.read();
        let off = arms.iter().filter(|state| guard.withholds(cluster, state)).map(|state| state.arm);
        let off: Vec<Arm> = off.collect();
        // Drawn only where it matters, so that the guard changes no other draw.
        if !off.is_empty() && rng.random::<f64>() < config.probe { Vec::new() } else { off }
    }

    /// Makes sure that every arm has a posterior, and notes which tier is the cheapest.
    fn meet(&self, arms: &[ArmState]) {
        let known = self.bandit.read().knows(arms);
        if !known {
            self.bandit.write().ensure(&self.config.bandit, arms);
        }
        let cheapest = arms.iter().min_by_key(|state| state.arm.tier).map(|state| &state.key.tier);
        if self.cheapest.read().as_ref() != cheapest {
            *self.cheapest.write() = cheapest.cloned();
        }
    }

    fn scores(
        &self,
        context: &Context<'_>,
        features: &Features,
        open: &[&ArmState],
        load_bias: f64,
        rng: &mut dyn RngCore,
    ) -> Vec<ArmScore> {
        let costs = relative_costs(&self.config.cost, context, open, &|tier| self.speeds.read().of(tier));
        let bandit = self.bandit.read();
        let score = |(state, cost): (&&ArmState, f64)| {
            let belief = bandit.belief(&state.key, features);
            let z: f64 = rng.sample(StandardNormal);
            let sampled = belief.mu + belief.sigma * z;
            let bias = load_bias * cost;
            let key: ArmKey = state.key.clone();
            ArmScore {
                arm: state.arm,
                key,
                mu: belief.mu,
                sigma: belief.sigma,
                sampled,
                cost,
                bias,
                score: sampled - bias,
            }
        };
        open.iter().zip(costs).map(score).collect()
    }
}

/// What the router is and knows, for the admin API.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct RouterReport {
    pub policy: PolicyKind,
    pub updates: u64,
    pub arms: Vec<ArmReport>,
    pub load_bias: LoadReport,
    /// Where the harm guard withholds examples.
    pub withheld: Vec<Withheld>,
    /// Measured seconds of a token, by tier.
    pub speeds: BTreeMap<Arc<str>, TokenSeconds>,
}

/// True if the mean scores of two or more arms have a standard deviation under `limit`: confidence is near uniform.
fn alike(scores: &[ArmScore], limit: f64) -> bool {
    if scores.len() < 2 {
        return false;
    }
    let count = scores.len() as f64;
    let value = |arm: &ArmScore| arm.mu - arm.bias;
    let mean = scores.iter().map(value).sum::<f64>() / count;
    let variance = scores.iter().map(|arm| (value(arm) - mean).powi(2)).sum::<f64>() / count;
    variance.sqrt() < limit
}

#[cfg(test)]
mod tests;
