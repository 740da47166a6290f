//! The policies and settings that are compared.

use anyhow::Context as _;
use reprise_router::{PolicyKind, Router, RouterConfig};

use super::classifier::Classifier;
use super::drift::{Change, Step, drift};
use super::measure::{Measured, Name, measure};
use super::play::{Play, Played};
use crate::harness::outcome::{Outcome, REFERENCES, TEST};
use crate::harness::table::{Table, Vector};
use crate::simulate::machine::NamedSpeed;
use crate::simulate::requests::{KnownTier, Logged, Taken, in_order, logged};

/// What the table is asked.
#[derive(Debug)]
pub struct Study<'a> {
    pub outcomes: &'a [Outcome],
    pub vectors: &'a Table<Vector>,
    pub speeds: &'a [NamedSpeed],
    /// Split that the classifier and the taught bandit learn from.
    pub train: &'a str,
    pub seeds: &'a [u64],
    /// Arms that show examples, with their pools: the first is the one that learned policies use.
    pub shows: &'a [(String, String)],
}

/// The pressures that the bandit is played under.
const LOADS: [f64; 5] = [0.0, 0.75, 1.0, 1.5, 3.0];
const SIMILARITIES: [f64; 8] = [0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95];
/// Quantiles of the classifier's probabilities that are tried as thresholds.
const SHARES: usize = 20;

/// One pool and arm, ready to be played.
struct Ready {
    requests: Vec<Logged>,
    always: Vec<Played>,
    tiers: Vec<KnownTier>,
    speeds: Vec<crate::simulate::TierSpeed>,
    pool: String,
    arm: String,
}

impl Study<'_> {
    /// A row for each policy, setting and set.
    ///
    /// # Errors
    /// The table lacks an arm on a tier, or a tier's speed is not given.
    pub fn run(&self) -> anyhow::Result<Vec<Measured>> {
        let mut rows = Vec::new();
        for (number, (pool, arm)) in self.shows.iter().enumerate() {
            let ready = self.ready(TEST, pool, arm)?;
            rows.extend(self.fixed(&ready, number == 0)?);
            rows.extend(self.bandit(&ready)?);
            if number == 0 {
                rows.extend(self.thresholds(&ready)?);
                rows.extend(self.classified(&ready)?);
            }
        }
        Ok(rows)
    }

    /// The bandit through changes of the mix, on the first of the pools and arms.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn drift(&self) -> anyhow::Result<(Vec<Change>, Vec<Step>)> {
        let (pool, arm) = self.shows.first().context("an arm with examples is needed")?;
        let ready = self.ready(TEST, pool, arm)?;
        Ok(drift(&ready.requests, &ready.play(0), self.seeds)?)
    }

    fn ready(&self, split: &str, pool: &str, arm: &str) -> anyhow::Result<Ready> {
        let (requests, tiers) = logged(self.outcomes, self.vectors, Taken { split, pool, arm })?;
        let speed = |tier: &KnownTier| {
            let named = self.speeds.iter().find(|speed| speed.tier == tier.name);
            Ok(named.with_context(|| format!("the table has a tier {}: give its --speed", tier.name))?.speed)
        };
        let speeds: Vec<_> = tiers.iter().map(speed).collect::<anyhow::Result<_>>()?;
        let mut ready =
            Ready { requests, always: Vec::new(), tiers, speeds, pool: pool.to_owned(), arm: arm.to_owned() };
        let dearest = ready.dearest();
        let play = ready.play(0);
        ready.always =
            ready.requests.iter().map(|request| play.played(request, dearest, false, None)).collect();
        Ok(ready)
    }

    /// Policies that neither learn nor draw. Those without examples are the same for every pool and arm.
    fn fixed(&self, ready: &Ready, first: bool) -> anyhow::Result<Vec<Measured>> {
        let without = [PolicyKind::SmallPlain, PolicyKind::LargePlain];
        let with = [PolicyKind::SmallExamples, PolicyKind::LargeExamples];
        let mut rows = Vec::new();
        for kind in without.into_iter().filter(|_| first).chain(with) {
            rows.extend(ready.one(kind, &ready.arm, &RouterConfig::default(), 0)?);
        }
        // The nearest answer does not depend on the arm, but on the pool.
        if first || ready.pool != REFERENCES {
            rows.extend(ready.one(PolicyKind::Reuse, "", &RouterConfig::default(), 0)?);
        }
        for &seed in self.seeds.iter().filter(|_| first) {
            rows.extend(ready.one(PolicyKind::Random, &ready.arm, &RouterConfig::default(), seed)?);
        }
        Ok(rows)
    }

    /// Cold over two passes, and taught by the split to learn from; then under loads.
    fn bandit(&self, ready: &Ready) -> anyhow::Result<Vec<Measured>> {
        let mut rows = Vec::new();
        let teach = self.ready(self.train, &ready.pool, &ready.arm).ok();
        for &seed in self.seeds {
            let requests = in_order(&ready.requests, ready.requests.len(), seed);
            let play = Play { feedback: true, ..ready.play(seed) };
            let cold = Router::new(RouterConfig::default())?;
            for pass in 1..=2 {
                let from_s = (pass - 1) * requests.len();
                let played = Play { from_s, ..play }.requests(&cold, &requests)?;
                rows.extend(ready.measured("bandit", &format!("cold, pass {pass}"), seed, &played));
            }
            let Some(teach) = &teach else { continue };
            for load in LOADS {
                let taught = Router::new(RouterConfig::default())?;
                let lessons = in_order(&teach.requests, teach.requests.len(), seed);
                play.requests(&taught, &lessons)?;
                let played = Play { load, from_s: lessons.len(), ..play }.requests(&taught, &requests)?;
                rows.extend(ready.measured("bandit", &format!("taught, load {load}"), seed, &played));
            }
        }
        Ok(rows)
    }

    fn thresholds(&self, ready: &Ready) -> anyhow::Result<Vec<Measured>> {
        let mut rows = Vec::new();
        for similarity_threshold in SIMILARITIES {
            let config = RouterConfig { similarity_threshold, ..RouterConfig::default() };
            let setting = format!("similarity {similarity_threshold}");
            rows.extend(ready.one(PolicyKind::StaticThreshold, &setting, &config, 0)?);
        }
        Ok(rows)
    }

    /// The classifier over thresholds: the same share of requests goes to the large tier on any mix.
    fn classified(&self, ready: &Ready) -> anyhow::Result<Vec<Measured>> {
        let teach = self.ready(self.train, &ready.pool, &ready.arm)?;
        let classifier = Classifier::train(&teach.requests).context("nothing to train the classifier on")?;
        let probable = |request: &Logged| classifier.probability(&request.embedding);
        let mut sorted: Vec<f64> = ready.requests.iter().map(probable).collect();
        sorted.sort_by(f64::total_cmp);
        let (play, dearest) = (ready.play(0), ready.dearest());
        let mut rows = Vec::new();
        for share in 0..=SHARES {
            let threshold = match share {
                SHARES => f64::INFINITY,
                _ => sorted[share * sorted.len() / SHARES],
            };
            let route = |request: &Logged| if probable(request) >= threshold { 0 } else { dearest };
            let played: Vec<Played> = ready
                .requests
                .iter()
                .map(|request| play.played(request, route(request), false, None))
                .collect();
            let setting = format!("large {:.2}", share as f64 / SHARES as f64);
            rows.extend(ready.measured("classifier", &setting, 0, &played));
        }
        Ok(rows)
    }
}

impl Ready {
    fn dearest(&self) -> usize {
        self.tiers.len() - 1
    }

    fn play(&self, seed: u64) -> Play<'_> {
        Play { tiers: &self.tiers, speeds: &self.speeds, feedback: false, load: 0.0, from_s: 0, seed }
    }

    fn one(
        &self,
        policy: PolicyKind,
        setting: &str,
        config: &RouterConfig,
        seed: u64,
    ) -> anyhow::Result<Vec<Measured>> {
        let router = Router::new(RouterConfig { policy, ..config.clone() })?;
        let played = self.play(seed).requests(&router, &self.requests)?;
        let plain = matches!(policy, PolicyKind::SmallPlain | PolicyKind::LargePlain);
        Ok(self.measured(policy.as_str(), if plain { "" } else { setting }, seed, &played))
    }

    fn measured(&self, policy: &str, setting: &str, seed: u64, played: &[Played]) -> Vec<Measured> {
        let arm = if setting.is_empty() || setting == self.arm {
            setting.to_owned()
        } else {
            format!("{}, {setting}", self.arm)
        };
        let name = Name { policy: policy.to_owned(), setting: arm, pool: self.pool.clone(), seed };
        measure(&name, played, &self.always, self.dearest())
    }
}
