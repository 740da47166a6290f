use super::{Demand, DeviceId, Placement, PlacementError, Planner, groups, stagger};

/// Each gated sub-layer by itself: replicas go, one after the other, to the group with the most load per copy; then copies go, heaviest
/// first, to the least loaded device that has none of that group and a place left (longest processing time first, at most 4/3 of the
/// best possible maximum without the bound on places; Graham 1969). All devices hold equally many copies, up to one, as their memory is equal;
/// the devices with one more are not the same in every sub-layer, for ties turn with it. The home of a group with copies is, heaviest first, the
/// least loaded of its hosts, loads counted at the homes alone.
#[derive(Debug, Clone, Copy, Default)]
pub struct Greedy;

impl Planner for Greedy {
    fn place(&self, demand: &Demand<'_>) -> Result<Placement, PlacementError> {
        let (attention, devices) = demand.split()?;
        let expected = demand.layout.sub_layers.len();
        if demand.loads.sub_layers() != expected {
            return Err(PlacementError::Loads { found: demand.loads.sub_layers(), expected });
        }
        let mut hosts = Vec::with_capacity(expected);
        for (sub_layer, kind) in demand.layout.sub_layers.iter().enumerate() {
            let groups = groups(*kind, demand.experts_per_group.max(1));
            let loads: Vec<f64> = (0..groups)
                .map(|group| demand.loads.group(sub_layer, group, demand.experts_per_group))
                .collect();
            hosts.push(pack(&loads, &devices, demand.replicas, sub_layer / 2)?);
        }
        let placement = Placement::new(demand.layout, demand.experts_per_group, attention, hosts)?;
        let stagger = stagger::of(&placement, demand.loads);
        Ok(placement.with_stagger(stagger))
    }
}

/// Devices of each group.
fn pack(
    loads: &[f64],
    devices: &[DeviceId],
    replicas: usize,
    turn: usize,
) -> Result<Vec<Vec<DeviceId>>, PlacementError> {
    let groups = loads.len();
    if groups == 0 {
        return Ok(Vec::new());
    }
    let mut copies = vec![1usize; groups];
    for _ in 0..replicas {
        let free = (0..groups).filter(|group| copies[*group] < devices.len());
        let each = |group: usize| loads[group] / copies[group] as f64;
        // Of equal ones the first.
        let Some(most) = free.reduce(|most, other| if each(other) > each(most) { other } else { most })
        else {
            return Err(PlacementError::Replicas { groups, replicas, devices: devices.len() });
        };
        copies[most] += 1;
    }
    let places = (groups + replicas).div_ceil(devices.len());
    let mut order: Vec<usize> = (0..groups).collect();
    let each = |group: usize| loads[group] / copies[group] as f64;
    order.sort_by(|a, b| each(*b).total_cmp(&each(*a)).then(a.cmp(b)));
    let (mut load, mut held) = (vec![0.0; devices.len()], vec![0usize; devices.len()]);
    let mut hosts = vec![Vec::new(); groups];
    for group in order {
        // Its copies are equally heavy, so that they stand side by side in the order.
        for _ in 0..copies[group] {
            let turned = (0..devices.len()).map(|at| (at + turn) % devices.len());
            let room = turned.filter(|at| !hosts[group].contains(&devices[*at]));
            let key = |at: usize| (held[at] >= places, load[at]);
            let least = room.reduce(|least, other| {
                let ((full, load), (least_full, least_load)) = (key(other), key(least));
                if (!full && least_full) || (full == least_full && load < least_load) { other } else { least }
            });
            let Some(least) = least else {
                return Err(PlacementError::Replicas { groups, replicas, devices: devices.len() });
            };
            load[least] += each(group);
            held[least] += 1;
            hosts[group].push(devices[least]);
        }
    }
    home_first(&mut hosts, loads, devices);
    Ok(hosts)
}

/// Puts each group's home before its other hosts.
fn home_first(hosts: &mut [Vec<DeviceId>], loads: &[f64], devices: &[DeviceId]) {
    let place = |host: DeviceId| devices.iter().position(|device| *device == host).unwrap_or(0);
    let mut order: Vec<usize> = (0..hosts.len()).collect();
    // Those that have no choice before all others.
    let copied = |group: &usize| hosts[*group].len() > 1;
    order.sort_by(|a, b| copied(a).cmp(&copied(b)).then(loads[*b].total_cmp(&loads[*a])).then(a.cmp(b)));
    let mut load = vec![0.0; devices.len()];
    for group in order {
        let hosts = &mut hosts[group];
        let least = (0..hosts.len()).reduce(|least, other| {
            if load[place(hosts[other])] < load[place(hosts[least])] { other } else { least }
        });
        let Some(least) = least else { continue };
        hosts.swap(0, least);
        load[place(hosts[0])] += loads[group];
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::placement::{Roles, fixture};

    /// Two layers, alike.
    fn place(
        loads: &[f64],
        devices: u16,
        roles: Roles,
        replicas: usize,
    ) -> Result<Placement, PlacementError> {
        let layout = fixture::layout(2, u16::try_from(loads.len()).expect("few"));
        fixture::place(&layout, |_, expert| loads[usize::from(expert)], devices, roles, replicas)
    }

    #[test]
    fn heavy_groups_lie_apart() {
        // 8 to the first, 7 to the second; 6 to the second, which has less; it has no place left, and 1 goes to the first.
        let placement = place(&[8.0, 7.0, 6.0, 1.0], 2, Roles::Shared, 0).expect("fits");
        let of = |group: usize| placement.groups(1)[group][0].0;
        assert_eq!([of(0), of(3)], [0, 0]);
        assert_eq!([of(1), of(2)], [1, 1]);
        assert_eq!(placement.attention(), [DeviceId(0), DeviceId(1)]);
    }

    #[test]
    fn the_hot_group_is_replicated() {
        let placement = place(&[9.0, 1.0, 1.0, 1.0], 6, Roles::Disjoint { attention: 2 }, 2).expect("fits");
        assert_eq!(placement.attention(), [DeviceId(0), DeviceId(1)]);
        assert_eq!(placement.groups(1)[0].len(), 3, "9, 4.5 and 3 are all above 1");
        assert!(placement.groups(1).iter().flatten().all(|host| host.0 >= 2));
    }

    #[test]
    fn homes_share_the_load_of_what_is_copied() {
        let loads = [9.0, 8.0, 1.0, 1.0];
        let placement = place(&loads, 2, Roles::Shared, 4).expect("fits");
        let mut of = [0.0; 2];
        for (group, load) in (0..).zip(loads) {
            let home = placement.home(1, group).expect("has one");
            assert!(placement.groups(1)[usize::from(group)].contains(&home));
            of[usize::from(home.0)] += load;
        }
        assert!(of.iter().all(|load| (9.0..=10.0).contains(load)), "{of:?}");
        assert!(placement.has_copies() && !place(&[1.0; 4], 2, Roles::Shared, 0).expect("fits").has_copies());
    }

    #[test]
    fn a_lost_home_leaves_its_copies() {
        let layout = fixture::layout(2, 2);
        let placement = place(&[9.0, 1.0], 5, Roles::Disjoint { attention: 2 }, 4).expect("fits");
        let (home, others) = (placement.home(1, 0).expect("has one"), placement.groups(1)[0].clone());
        let without = |device: DeviceId| placement.without(&layout, device).expect("copies");
        for lost in others {
            let left = without(lost).home(1, 0).expect("has one");
            assert!(left != lost && (lost == home || left == home), "{lost:?} of {home:?}: {left:?}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(matches!(
            place(&[1.0; 4], 2, Roles::Disjoint { attention: 2 }, 0),
            Err(PlacementError::Roles { experts: 0, .. })
        ));
        assert!(matches!(
            place(&[1.0; 4], 2, Roles::Shared, 5),
            Err(PlacementError::Replicas { groups: 4, replicas: 5, devices: 2 })
        ));
    }

    proptest! {
        #[test]
        fn every_group_has_its_copies_on_devices_of_their_own(
            loads in prop::collection::vec(0.0f64..100.0, 1..40), devices in 1u16..9, replicas in 0usize..12,
        ) {
            let outcome = place(&loads, devices, Roles::Shared, replicas);
            let most = loads.len() * (usize::from(devices) - 1);
            prop_assert_eq!(outcome.is_err(), replicas > most);
            let Ok(placement) = outcome else { return Ok(()) };
            let groups = placement.groups(3);
            prop_assert_eq!(groups.iter().map(Vec::len).sum::<usize>(), loads.len() + replicas);
            for hosts in groups {
                prop_assert!(hosts.windows(2).all(|pair| pair[0] < pair[1]));
            }
        }

        /// With one copy each and no bound that binds, greedy is within 4/3 of the mean or the heaviest, whichever is more.
        #[test]
        fn no_device_has_much_more_than_it_must(loads in prop::collection::vec(1.0f64..100.0, 8..40)) {
            let placement = place(&loads, 4, Roles::Shared, 0).expect("fits");
            let mut of = [0.0; 4];
            for (group, hosts) in placement.groups(1).iter().enumerate() {
                of[usize::from(hosts[0].0)] += loads[group];
            }
            let mean = loads.iter().sum::<f64>() / 4.0;
            let most = of.iter().fold(0.0f64, |a, b| a.max(*b));
            let heaviest = loads.iter().fold(0.0f64, |a, b| a.max(*b));
            // An upper bound of list scheduling: mean + heaviest; places bind at most for the lightest.
            prop_assert!(most <= mean + heaviest, "{most} of a mean of {mean}");
        }
    }
}
