//! Where a model's sub-layers are computed: a value that a [`Planner`] returns, so that another planner (a learned one: GiPH, arXiv
//! 2305.14562) can take the place of the greedy one.

#[cfg(test)]
mod fixture;
mod greedy;
mod loads;
mod stagger;

use thiserror::Error;

pub use greedy::Greedy;
pub use loads::Loads;

use crate::{ExpertId, ModelLayout, SubLayerId, SubLayerKind};

/// A device of a placement, numbered from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId(pub u16);

/// More devices than these cannot have attention.
pub const MOST_ATTENTION: usize = 64;

/// Which device computes what. Attention is data parallel: each of its devices holds all attention, dense feed-forward, gates and the head, and
/// the KV of its own sequences. Each group of experts lies on one device or, replicated, on several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    devices: u16,
    experts_per_group: u16,
    /// In order of rank.
    attention: Vec<DeviceId>,
    /// Per sub-layer and group, ascending; no groups where it is not gated.
    hosts: Vec<Vec<Vec<DeviceId>>>,
    /// Per sub-layer and group, one of its hosts.
    homes: Vec<Vec<DeviceId>>,
    /// Per sub-layer, ascending.
    hosts_of_any: Vec<Vec<DeviceId>>,
    stagger: usize,
    /// Devices of both roles are on the same processors.
    shares_processors: bool,
}

/// Where the experts of a gated sub-layer are, as one device sees them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hosting {
    /// Experts that this device hosts.
    pub here: usize,
    /// Of all parts, what comes to it if all experts get as many, and copies of one share them.
    pub share: f64,
    /// Devices that host any, and how many each does in the mean.
    pub hosts: usize,
    pub each: f64,
    /// Devices with attention, and whether none of them hosts any, nor shares a processor with one that does.
    pub attends: usize,
    pub apart: bool,
}

/// Which devices may have which role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Roles {
    /// The first `attention` devices have attention, all others experts.
    Disjoint { attention: u16 },
    /// Every device has both.
    Shared,
}

/// What a planner must place.
#[derive(Debug, Clone)]
pub struct Demand<'a> {
    pub layout: &'a ModelLayout,
    /// Devices that can be used, ascending; numbers may be missing.
    pub devices: &'a [DeviceId],
    pub roles: Roles,
    pub experts_per_group: u16,
    /// Copies of groups per gated sub-layer, beyond one of each.
    pub replicas: usize,
    pub loads: &'a Loads,
}

/// Why nothing can be placed, or a placement is none.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum PlacementError {
    #[error(
        "{attention} devices with attention and {experts} with experts: each needs at least 1, attention at most 64"
    )]
    Roles { attention: usize, experts: usize },
    #[error(
        "{groups} groups of experts and {replicas} replicas do not fit {devices} devices, one copy on each"
    )]
    Replicas { groups: usize, replicas: usize, devices: usize },
    #[error(
        "group {group} of sub-layer {sub_layer} lies on no device, or twice on one, or on one that there is not"
    )]
    Hosts { sub_layer: SubLayerId, group: usize },
    #[error("loads of {found} sub-layers for a model of {expected}")]
    Loads { found: usize, expected: usize },
}

/// Decides where everything goes.
pub trait Planner {
    /// # Errors
    /// The devices do not suffice.
    fn place(&self, demand: &Demand<'_>) -> Result<Placement, PlacementError>;
}

impl Placement {
    /// `hosts`: per sub-layer and group of experts, its home first; groups of consecutive experts.
    ///
    /// # Errors
    /// A role without a device, or a group without a host.
    pub fn new(
        layout: &ModelLayout,
        experts_per_group: u16,
        attention: Vec<DeviceId>,
        mut hosts: Vec<Vec<Vec<DeviceId>>>,
    ) -> Result<Self, PlacementError> {
        let experts_per_group = experts_per_group.max(1);
        if attention.is_empty() || attention.len() > MOST_ATTENTION {
            return Err(PlacementError::Roles { attention: attention.len(), experts: 0 });
        }
        hosts.resize(layout.sub_layers.len(), Vec::new());
        let mut homes = Vec::with_capacity(hosts.len());
        for (sub_layer, (kind, hosts)) in layout.sub_layers.iter().zip(&mut hosts).enumerate() {
            let groups = groups(*kind, experts_per_group);
            hosts.resize(groups, Vec::new());
            homes.push(hosts.iter().filter_map(|hosts| hosts.first().copied()).collect());
            for (group, hosts) in hosts.iter_mut().enumerate() {
                hosts.sort_unstable();
                if hosts.is_empty() || hosts.windows(2).any(|pair| pair[0] == pair[1]) {
                    return Err(PlacementError::Hosts { sub_layer, group });
                }
            }
        }
        let hosts_of_any: Vec<Vec<DeviceId>> = hosts
            .iter()
            .map(|groups| {
                let mut all: Vec<_> = groups.iter().flatten().copied().collect();
                all.sort_unstable();
                all.dedup();
                all
            })
            .collect();
        let last = attention.iter().chain(hosts_of_any.iter().flatten()).map(|device| device.0).max();
        let devices = last.map_or(0, |last| last + 1);
        Ok(Self {
            devices,
            experts_per_group,
            attention,
            hosts,
            homes,
            hosts_of_any,
            stagger: 0,
            shares_processors: false,
        })
    }

    /// With so much of it ([`stagger`](Self::stagger)); [`new`](Self::new) has none.
    #[must_use]
    pub fn with_stagger(self, stagger: usize) -> Self {
        Self { stagger, ..self }
    }

    /// Of devices that are streams of one processor: while one attends the experts of another do not compute, wherever these are.
    #[must_use]
    pub fn on_shared_processors(self) -> Self {
        Self { shares_processors: true, ..self }
    }

    /// What is left of it without a device: its replicas serve, and its sequences go to others.
    ///
    /// # Errors
    /// No other device has its role, or a group that it hosts.
    pub fn without(&self, layout: &ModelLayout, device: DeviceId) -> Result<Self, PlacementError> {
        let others = |devices: &Vec<DeviceId>| {
            devices.iter().copied().filter(|other| *other != device).collect::<Vec<_>>()
        };
        let left = |(hosts, home): (&Vec<DeviceId>, &DeviceId)| {
            let mut left = others(hosts);
            // The home stays the first.
            left.sort_by_key(|host| host != home);
            left
        };
        let hosts = self.hosts.iter().zip(&self.homes);
        let hosts = hosts.map(|(groups, homes)| groups.iter().zip(homes).map(left).collect()).collect();
        Self::new(layout, self.experts_per_group, others(&self.attention), hosts)
    }

    /// Everything on one device.
    #[must_use]
    pub fn alone(layout: &ModelLayout) -> Self {
        let here = vec![DeviceId(0)];
        let hosts: Vec<_> =
            layout.sub_layers.iter().map(|kind| vec![here.clone(); groups(*kind, 1)]).collect();
        let homes = hosts.iter().map(|groups| groups.concat()).collect();
        let gated = |groups: &Vec<Vec<DeviceId>>| if groups.is_empty() { Vec::new() } else { here.clone() };
        let hosts_of_any = hosts.iter().map(gated).collect();
        Self {
            devices: 1,
            experts_per_group: 1,
            attention: here,
            hosts,
            homes,
            hosts_of_any,
            stagger: 0,
            shares_processors: false,
        }
    }

    /// One more than the highest device.
    #[must_use]
    pub const fn devices(&self) -> u16 {
        self.devices
    }

    #[must_use]
    pub const fn experts_per_group(&self) -> u16 {
        self.experts_per_group
    }

    /// Those with attention, in order of rank.
    #[must_use]
    pub fn attention(&self) -> &[DeviceId] {
        &self.attention
    }

    /// The number of a device among those with attention.
    #[must_use]
    pub fn rank(&self, device: DeviceId) -> Option<u32> {
        let rank = self.attention.iter().position(|other| *other == device)?;
        u32::try_from(rank).ok()
    }

    /// Who hosts each group of a sub-layer; empty where it is not gated.
    #[must_use]
    pub fn groups(&self, sub_layer: SubLayerId) -> &[Vec<DeviceId>] {
        &self.hosts[sub_layer]
    }

    /// The host of a group that computes it where its copies rest.
    #[must_use]
    pub fn home(&self, sub_layer: SubLayerId, group: u16) -> Option<DeviceId> {
        self.homes[sub_layer].get(usize::from(group)).copied()
    }

    /// Whether a group lies on more than one device.
    #[must_use]
    pub fn has_copies(&self) -> bool {
        self.hosts.iter().flatten().any(|hosts| hosts.len() > 1)
    }

    /// The group of an expert.
    #[must_use]
    pub const fn group(&self, expert: ExpertId) -> u16 {
        expert / self.experts_per_group
    }

    /// Of a sub-layer, as a device sees it.
    #[must_use]
    pub fn hosting(&self, layout: &ModelLayout, sub_layer: SubLayerId, me: DeviceId) -> Hosting {
        let attends = self.attention().len();
        let SubLayerKind::Experts { experts, .. } = layout.sub_layers[sub_layer] else {
            return Hosting { here: 0, share: 0.0, hosts: 0, each: 0.0, attends, apart: false };
        };
        let (mut here, mut share, mut copies) = (0, 0.0, 0);
        for expert in 0..experts {
            let hosts = self.hosts_of(sub_layer, expert);
            copies += hosts.len();
            if hosts.contains(&me) {
                here += 1;
                share += 1.0 / (f64::from(experts) * hosts.len() as f64);
            }
        }
        let hosts = self.hosts_of_any[sub_layer].len();
        let is_host = |device: &DeviceId| self.hosts_of_any[sub_layer].contains(device);
        let apart = !self.shares_processors && !self.attention().iter().any(is_host);
        Hosting { here, share, hosts, each: copies as f64 / hosts.max(1) as f64, attends, apart }
    }

    /// Who hosts an expert, ascending.
    #[must_use]
    pub fn hosts_of(&self, sub_layer: SubLayerId, expert: ExpertId) -> &[DeviceId] {
        &self.hosts[sub_layer][usize::from(self.group(expert))]
    }

    /// Devices that host any group of a sub-layer, ascending.
    #[must_use]
    pub fn hosts(&self, sub_layer: SubLayerId) -> &[DeviceId] {
        &self.hosts_of_any[sub_layer]
    }

    /// Gated sub-layers by which two halves of the sequences in ping-pong are held apart at least: there their hot experts lie on different
    /// devices. 0: they are not.
    #[must_use]
    pub const fn stagger(&self) -> usize {
        self.stagger
    }

    /// By device, what its experts of a sub-layer get. A replicated group is taken to be shared evenly.
    fn device_loads(&self, sub_layer: SubLayerId, loads: &Loads) -> Vec<f64> {
        let mut of = vec![0.0; usize::from(self.devices)];
        for (group, hosts) in self.hosts[sub_layer].iter().enumerate() {
            let share = loads.group(sub_layer, group, self.experts_per_group) / hosts.len() as f64;
            hosts.iter().for_each(|host| of[usize::from(host.0)] += share);
        }
        of
    }

    /// Mean over maximum of the devices' loads with experts, averaged over the gated sub-layers: 1 is even.
    #[must_use]
    pub fn balance(&self, loads: &Loads) -> f64 {
        let gated = (0..self.hosts.len()).filter(|sub_layer| !self.hosts[*sub_layer].is_empty());
        let (mut sum, mut count) = (0.0, 0);
        for sub_layer in gated {
            let of = self.device_loads(sub_layer, loads);
            let most = of.iter().fold(0.0f64, |most, load| most.max(*load));
            let mean = of.iter().sum::<f64>() / self.hosts_of_any[sub_layer].len() as f64;
            sum += if most > 0.0 { mean / most } else { 1.0 };
            count += 1;
        }
        if count == 0 { 1.0 } else { sum / f64::from(count) }
    }
}

/// How many groups a sub-layer's experts make.
pub(crate) fn groups(kind: SubLayerKind, experts_per_group: u16) -> usize {
    match kind {
        SubLayerKind::Experts { experts, .. } => usize::from(experts.div_ceil(experts_per_group)),
        SubLayerKind::Attention | SubLayerKind::DenseFeedForward => 0,
    }
}

impl Demand<'_> {
    /// Devices with attention, and with experts.
    ///
    /// # Errors
    /// A role has none.
    pub fn split(&self) -> Result<(Vec<DeviceId>, Vec<DeviceId>), PlacementError> {
        let (attention, experts): (Vec<_>, Vec<_>) = match self.roles {
            Roles::Shared => (self.devices.to_vec(), self.devices.to_vec()),
            Roles::Disjoint { attention } => {
                self.devices.iter().copied().partition(|device: &DeviceId| device.0 < attention)
            }
        };
        if attention.is_empty() || experts.is_empty() || attention.len() > MOST_ATTENTION {
            return Err(PlacementError::Roles { attention: attention.len(), experts: experts.len() });
        }
        Ok((attention, experts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_sees_what_it_hosts() {
        // Four experts, of which the first lies on both, the others on the second.
        let layout = fixture::layout(1, 4);
        let (both, second) = (vec![DeviceId(0), DeviceId(1)], vec![DeviceId(1)]);
        let hosts = (0..4).map(|expert| if expert == 0 { both.clone() } else { second.clone() }).collect();
        let placement =
            Placement::new(&layout, 1, both.clone(), vec![Vec::new(), hosts]).expect("all are hosted");
        let found = placement.hosting(&layout, 1, DeviceId(0));
        assert_eq!((found.here, found.hosts, found.each), (1, 2, 2.5));
        assert!((found.share - 0.125).abs() < 1e-9);
        let found = placement.hosting(&layout, 1, DeviceId(1));
        assert_eq!(found.here, 4);
        assert!((found.share - 0.875).abs() < 1e-9);
        assert_eq!(placement.hosting(&layout, 0, DeviceId(1)).here, 0, "attention");
        assert_eq!(placement.hosts_of(1, 0), both);
    }

    #[test]
    fn roles_are_apart_on_processors_of_their_own() {
        let layout = fixture::layout(1, 4);
        let place = |roles| fixture::place(&layout, |_, _| 1.0, 2, roles, 0).expect("fits");
        let apart = |placement: &Placement| placement.hosting(&layout, 1, DeviceId(1)).apart;
        let disjoint = place(Roles::Disjoint { attention: 1 });
        assert_eq!(disjoint.hosting(&layout, 1, DeviceId(1)).attends, 1);
        assert!(
            apart(&disjoint) && !apart(&disjoint.on_shared_processors()) && !apart(&place(Roles::Shared))
        );
    }
}
