use std::{collections::HashSet, sync::Arc, time::Instant};

use reprise_tier::{SharedTier, Tier, TierState};
use thiserror::Error;

use crate::breaker::{Breaker, BreakerConfig, Pass};
use crate::{Arm, ArmKey, ArmState};

/// The tiers that can answer, in order of cost, cheapest first.
#[derive(Debug)]
pub struct Pool {
    members: Vec<Member>,
    default_tier: usize,
    /// The order in which others are tried after one that failed, if one was given.
    fallbacks: Option<Vec<usize>>,
}

#[derive(Debug)]
struct Member {
    tier: SharedTier,
    /// Keys of its two arms, plain and with examples: shared, since every decision copies them.
    keys: [ArmKey; 2],
    breaker: Breaker,
}

/// The tiers do not make a pool.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PoolError {
    #[error("a pool needs at least one tier")]
    Empty,
    #[error("two tiers are named \"{0}\"")]
    DuplicateName(String),
    #[error("the default tier \"{0}\" is not in the pool")]
    UnknownDefault(String),
    #[error("the tier \"{0}\" of the fallbacks is not in the pool")]
    UnknownFallback(String),
    #[error("the cost of tier \"{0}\" is not between 0 and 1")]
    Cost(String),
}

impl Pool {
    /// Orders the tiers by cost. Without a default, the dearest is it: what goes straight past cache and router must
    /// be answered as well as can be.
    ///
    /// # Errors
    /// No tier, two of one name, a cost outside [0, 1], or a default that is not there.
    pub fn new(mut tiers: Vec<SharedTier>, default: Option<&str>) -> Result<Self, PoolError> {
        let last = tiers.len().checked_sub(1).ok_or(PoolError::Empty)?;
        tiers.sort_by(|a, b| a.info().cost.total_cmp(&b.info().cost));
        let mut names = HashSet::new();
        for tier in &tiers {
            let info = tier.info();
            if !(0.0..=1.0).contains(&info.cost) {
                return Err(PoolError::Cost(info.name.clone()));
            }
            if !names.insert(info.name.clone()) {
                return Err(PoolError::DuplicateName(info.name.clone()));
            }
        }
        let default_tier = match default {
            Some(name) => tiers
                .iter()
                .position(|tier| tier.info().name == name)
                .ok_or_else(|| PoolError::UnknownDefault(name.to_owned()))?,
            None => last,
        };
        Ok(Self { members: tiers.into_iter().map(Member::new).collect(), default_tier, fallbacks: None })
    }

    /// With a circuit breaker like this for every tier.
    #[must_use]
    pub fn with_breakers(mut self, config: BreakerConfig) -> Self {
        self.members.iter_mut().for_each(|member| member.breaker = Breaker::new(config));
        self
    }

    /// With these tiers, in this order, as what is tried after one that failed; none: all, see [`Self::fallbacks`].
    ///
    /// # Errors
    /// A name that is not in the pool.
    pub fn with_fallbacks(mut self, names: &[String]) -> Result<Self, PoolError> {
        let index = |name: &String| {
            let found = self.iter().position(|tier| tier.info().name == *name);
            found.ok_or_else(|| PoolError::UnknownFallback(name.clone()))
        };
        let order: Vec<usize> = names.iter().map(index).collect::<Result<_, _>>()?;
        self.fallbacks = (!order.is_empty()).then_some(order);
        Ok(self)
    }

    /// The right to ask this tier now; `None` while its circuit breaker is open.
    #[must_use]
    pub fn enter(&self, index: usize, now: Instant) -> Option<Pass> {
        self.members.get(index)?.breaker.enter(now)
    }

    /// Its circuit breaker lets no request through.
    #[must_use]
    pub fn is_broken(&self, index: usize) -> bool {
        self.members.get(index).is_some_and(|member| !member.breaker.allows(Instant::now()))
    }

    /// The tier that a client's `model` names, by tier name first, then by model id, and its index.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<(usize, &SharedTier)> {
        let find = |matches: fn(&dyn Tier, &str) -> bool| {
            self.iter().enumerate().find(move |(_, tier)| matches(tier.as_ref(), name))
        };
        find(|tier, name| tier.info().name == name).or_else(|| find(|tier, name| tier.info().model == name))
    }

    #[must_use]
    pub fn tier(&self, index: usize) -> Option<&SharedTier> {
        self.members.get(index).map(|member| &member.tier)
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = &SharedTier> {
        self.members.iter().map(|member| &member.tier)
    }

    /// Where requests go that the router does not decide on: the configured default.
    #[must_use]
    pub fn default_index(&self) -> usize {
        self.default_tier
    }

    /// How able a tier is taken to be, in [0, 1], by its cost among the pool's: 0 the cheapest, 1 the dearest.
    #[must_use]
    pub fn strength(&self, index: usize) -> f64 {
        let cost = |index: usize| self.tier(index).map(|tier| tier.info().cost);
        match (cost(0), cost(index), cost(self.members.len() - 1)) {
            (Some(low), Some(own), Some(high)) if high > low => (own - low) / (high - low),
            _ => 0.5,
        }
    }

    #[must_use]
    pub fn any_ready(&self) -> bool {
        self.iter().any(|tier| tier.state() == TierState::Ready)
    }

    /// Every arm with its tier's present state: what [`Router::decide`](crate::Router::decide) takes.
    #[must_use]
    pub fn arms(&self) -> Vec<ArmState> {
        let now = Instant::now();
        let states = |(index, member): (usize, &Member)| {
            let (info, pressure) = (member.tier.info(), member.tier.pressure());
            let ready = member.tier.state() == TierState::Ready && member.breaker.allows(now);
            member.keys.each_ref().map(|key| ArmState {
                arm: Arm { tier: index, examples: key.examples },
                key: key.clone(),
                cost: info.cost,
                context_length: info.context_length,
                ready,
                pressure,
            })
        };
        self.members.iter().enumerate().flat_map(states).collect()
    }

    /// The ready tiers to try after `failed`, best first: in the order that was given, or else dearer ones upwards, so that
    /// quality is not lost, then cheaper ones downwards.
    #[must_use]
    pub fn fallbacks(&self, failed: usize) -> Vec<usize> {
        if let Some(order) = &self.fallbacks {
            return order.iter().copied().filter(|index| *index != failed && self.is_ready(*index)).collect();
        }
        let dearer = failed.saturating_add(1)..self.members.len();
        let cheaper = (0..failed.min(self.members.len())).rev();
        dearer.chain(cheaper).filter(|index| self.is_ready(*index)).collect()
    }

    /// The default tier if it is ready, else the first of its fallbacks.
    #[must_use]
    pub fn straight(&self) -> Option<usize> {
        if self.is_ready(self.default_tier) {
            return Some(self.default_tier);
        }
        self.fallbacks(self.default_tier).first().copied()
    }

    fn is_ready(&self, index: usize) -> bool {
        self.tier(index).is_some_and(|tier| tier.state() == TierState::Ready) && !self.is_broken(index)
    }
}

impl Member {
    fn new(tier: SharedTier) -> Self {
        let (name, model) = (Arc::from(tier.info().name.as_str()), Arc::from(tier.info().model.as_str()));
        let key = |examples| ArmKey { tier: Arc::clone(&name), model: Arc::clone(&model), examples };
        Self { keys: [key(false), key(true)], breaker: Breaker::new(BreakerConfig::default()), tier }
    }
}
