//! Parts that are computed on other devices, and the ticks that devices in lock-step pass together.

use std::{ops::Range, sync::Arc};

use super::{Executor, Finished, Lane, Task};
use crate::{
    ExpertId, ModelLayout, Moment, PartWork, SubLayerId, SubLayerKind,
    exchange::{Leg, Parcel, RemotePart},
    placement::{DeviceId, Placement},
    queues::{Barrier, Item, Notice, Visits},
};

/// Which device this is, and what it knows of the others.
#[derive(Debug)]
pub(super) struct Site {
    me: DeviceId,
    placement: Arc<Placement>,
    lane: Lane,
    /// Rows of each device with attention, in all its lanes.
    rows_each: u32,
    pub(super) visits: Visits,
    /// None: there is no other device.
    pub(super) barrier: Option<Barrier>,
    notices: Vec<Notice>,
    /// Whether copies of experts compute; parts sent to groups with several hosts, of which each gets its turn.
    copies: bool,
    turns: usize,
    /// By destination.
    outgoing: Vec<Option<Parcel>>,
}

impl Site {
    pub(super) fn new(layout: &ModelLayout, placement: Arc<Placement>, me: DeviceId, lane: Lane) -> Self {
        let devices = placement.devices();
        let rows = u32::try_from(layout.rows).unwrap_or(u32::MAX);
        let attention = u32::try_from(placement.attention().len()).unwrap_or(u32::MAX);
        let barrier =
            (devices > 1).then(|| Barrier::new(placement.rank(me), 0..attention, layout.sub_layers.len()));
        Self {
            me,
            lane,
            rows_each: rows / attention.max(1),
            visits: Visits::new(layout.rows),
            barrier,
            notices: Vec::new(),
            copies: true,
            turns: 0,
            outgoing: vec![None; usize::from(devices)],
            placement,
        }
    }

    pub(super) const fn is_alone(&self) -> bool {
        self.barrier.is_none()
    }

    pub(super) fn own_rows(&self) -> Range<u32> {
        let rows = self.rows_each / u32::from(self.lane.of.max(1));
        let first = |rank| rank * self.rows_each + u32::from(self.lane.index) * rows;
        self.placement.rank(self.me).map(first).map_or(0..0, |first| first..first + rows)
    }

    /// Where a part is computed: here if it can be.
    fn route(&mut self, sub_layer: SubLayerId, expert: ExpertId) -> DeviceId {
        let group = self.placement.group(expert);
        if let Some(home) = self.placement.home(sub_layer, group).filter(|_| !self.copies) {
            return home;
        }
        let hosts = self.placement.hosts_of(sub_layer, expert);
        if hosts.contains(&self.me) {
            return self.me;
        }
        if hosts.len() > 1 {
            self.turns = self.turns.wrapping_add(1);
        }
        hosts[self.turns % hosts.len()]
    }

    fn parcel(&mut self, to: DeviceId, sub_layer: SubLayerId, leg: Leg, last: bool) -> &mut Parcel {
        let tick = self.barrier.as_ref().map_or(0, Barrier::tick);
        let (from, lane, rows, parts) = (self.me, self.lane.index, Vec::new(), Vec::new());
        self.outgoing[usize::from(to.0)].get_or_insert(Parcel {
            from,
            to,
            lane,
            sub_layer,
            leg,
            tick,
            rows,
            parts,
            last,
            ahead: None,
        })
    }

    fn flush(&mut self, outbox: &mut Vec<Parcel>) {
        outbox.extend(self.outgoing.iter_mut().filter_map(Option::take));
    }
}

impl Executor {
    /// What holds rows up, in lock-step with others.
    pub(super) fn barrier(&self) -> Option<&Barrier> {
        self.site.barrier.as_ref().filter(|_| self.schedule.fuses())
    }

    /// True if a tick may begin here without any device waiting for it: none has begun it.
    pub(crate) fn is_between_ticks(&self) -> bool {
        self.barrier().is_some_and(Barrier::is_over)
    }

    /// Gated sub-layers that its rows in flight have passed; none: it has none.
    pub(crate) fn passed(&self) -> Option<usize> {
        let barrier = self.barrier().filter(|_| self.in_flight() > 0)?;
        // Of a free pace still they are anywhere.
        Some(if barrier.is_settling() { 0 } else { barrier.passed() })
    }

    /// How far it is kept from other lanes ([`Placement::stagger`]).
    pub(crate) fn stagger(&self) -> usize {
        self.site.placement.stagger()
    }

    pub(super) fn begin_tick(&mut self) {
        if self.schedule.fuses() {
            let notice = self.site.barrier.as_mut().and_then(Barrier::begin);
            self.site.notices.extend(notice);
        }
    }

    /// With its rows of a tick all out: tells the others.
    pub fn finish_tick(&mut self) {
        if self.site.barrier.as_ref().is_some_and(Barrier::has_begun) {
            self.pass();
        }
    }

    /// With no row in flight and none to inject: tells the others that they need not wait for this device.
    pub fn pass(&mut self) {
        if self.schedule.fuses() && self.in_flight() == 0 {
            let notice = self.site.barrier.as_mut().and_then(Barrier::end);
            self.site.notices.extend(notice);
        }
    }

    /// From now on parts go to all hosts of their experts, or to their homes alone.
    pub fn use_copies(&mut self, copies: bool) {
        self.site.copies = copies;
    }

    /// The experts that it hosts, by sub-layer.
    pub fn hosted(&self) -> impl Iterator<Item = (SubLayerId, ExpertId)> {
        let Site { me, placement, .. } = &self.site;
        let of = move |(at, kind): (SubLayerId, &SubLayerKind)| {
            let SubLayerKind::Experts { experts, .. } = *kind else { return Vec::new() };
            let here = (0..experts).filter(|expert| placement.hosts_of(at, *expert).contains(me));
            here.map(|expert| (at, expert)).collect()
        };
        self.kinds.iter().enumerate().flat_map(of)
    }

    /// What must be told to all other devices, in order and before any parcel that comes after.
    pub fn notices(&mut self) -> impl Iterator<Item = Notice> + '_ {
        self.site.notices.drain(..)
    }

    pub fn hear(&mut self, from: DeviceId, notice: Notice) {
        if let (Some(rank), Some(barrier)) = (self.site.placement.rank(from), &mut self.site.barrier) {
            barrier.hear(rank, notice);
        }
    }

    /// Parts of rows that passed a gate go to their experts.
    pub(super) fn dispatch(
        &mut self,
        at: SubLayerId,
        top_k: u16,
        task: &Task,
        now: Moment,
        outbox: &mut Vec<Parcel>,
    ) {
        let last = self.barrier().is_some();
        let foresees = self.schedule.foresees() && !self.site.is_alone();
        let Self { site, queues, join, arena, upstream, .. } = self;
        let reach = |row| {
            let state = arena.state(row)?;
            Some((arena.index(row)?, (!state.prefill).then_some(state.position + 1)))
        };
        let mut ahead = upstream.pass(at, task.rows.iter().filter_map(|row| reach(*row)));
        for (row, chosen) in task.rows.iter().zip(task.experts.chunks_exact(usize::from(top_k.max(1)))) {
            let visit = site.visits.of(*row);
            if let Some(index) = arena.index(*row) {
                join.expect(index, visit, top_k);
            }
            for (slot, expert) in (0..top_k).zip(chosen) {
                let part = PartWork { row: *row, slot, expert: *expert };
                let to = site.route(at, *expert);
                if foresees {
                    upstream.sent(at, to);
                }
                let here = queues.experts(at).filter(|_| to == site.me);
                if let Some(queue) = here {
                    upstream.got(at);
                    queues.push(queue, Item { part, visit, since: now });
                    continue;
                }
                let parcel = site.parcel(to, at, Leg::Inputs, last);
                if parcel.rows.last() != Some(row) {
                    parcel.rows.push(*row);
                }
                parcel.parts.push(RemotePart { work: part, visit });
            }
        }
        if let (true, Some(barrier)) = (last, &mut site.barrier) {
            barrier.announce_own(at);
        }
        if foresees {
            upstream.count_most(at, &mut ahead);
        }
        if last || foresees {
            let (me, placement) = (site.me, Arc::clone(&site.placement));
            for host in placement.hosts(at).iter().filter(|host| **host != me) {
                site.parcel(*host, at, Leg::Inputs, last).ahead = foresees.then_some(ahead);
            }
        }
        site.flush(outbox);
    }

    /// Parts that were computed go to the devices of their rows.
    pub(super) fn results(
        &mut self,
        at: SubLayerId,
        task: &Task,
        now: Moment,
        finished: &mut Finished,
        outbox: &mut Vec<Parcel>,
    ) {
        let mut joined = Vec::new();
        for item in &task.items {
            let row = item.part.row;
            if let Some(index) = self.arena.index(row) {
                // Unless its sequence ended while it was computed.
                if self.site.visits.of(row) == item.visit && self.join.arrived(index, item.visit) {
                    joined.push(row);
                }
                continue;
            }
            let site = &mut self.site;
            let rank = (row.0 / site.rows_each.max(1)) as usize;
            let Some(to) = site.placement.attention().get(rank).copied() else { continue };
            let part = RemotePart { work: item.part, visit: item.visit };
            site.parcel(to, at, Leg::Results, false).parts.push(part);
        }
        self.site.flush(outbox);
        self.advance(&joined, at + 1, now, finished);
    }

    /// Takes in what another device sent. Of results it returns those that are still waited for, each with its place in the payload: they
    /// must be with the backend before the next [`begin`](Self::begin), as must the rows of inputs.
    pub fn receive(&mut self, parcel: &Parcel, now: Moment) -> Vec<(usize, PartWork)> {
        let at = parcel.sub_layer;
        match parcel.leg {
            Leg::Inputs => {
                for part in &parcel.parts {
                    self.site.visits.hear(part.work.row, part.visit);
                    if let Some(queue) = self.queues.experts(at) {
                        // Of rows that it was told of: only then do parts for each row come out right.
                        if parcel.ahead.is_some() {
                            self.upstream.got(at);
                        }
                        self.queues.push(queue, Item { part: part.work, visit: part.visit, since: now });
                    }
                }
                let rank = self.site.placement.rank(parcel.from);
                if let (Some(rank), Some(ahead)) = (rank, parcel.ahead) {
                    self.upstream.hear(rank, at, ahead);
                }
                if let (Some(rank), Some(barrier)) = (rank.filter(|_| parcel.last), &mut self.site.barrier) {
                    barrier.announce(rank, at, parcel.tick);
                }
                Vec::new()
            }
            Leg::Results => {
                let (mut taken, mut joined) = (Vec::with_capacity(parcel.parts.len()), Vec::new());
                for (place, part) in parcel.parts.iter().enumerate() {
                    let RemotePart { work, visit } = *part;
                    let Some(index) = self.arena.index(work.row) else { continue };
                    // The sequence has ended, or was preempted.
                    if self.site.visits.of(work.row) != visit {
                        continue;
                    }
                    taken.push((place, work));
                    if self.join.arrived(index, visit) {
                        joined.push(work.row);
                    }
                }
                // Rows that are done with their last attention have left before the gate: nothing can come out here.
                let mut finished = Finished::default();
                self.advance(&joined, at + 1, now, &mut finished);
                debug_assert!(finished.rows.is_empty());
                taken
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Backend, DeviceId, Row, ScheduleKind, Visit,
        placement::{Demand, Greedy, Loads, Planner, Roles},
        queues::Ahead,
        schedule::StageCosts,
        testing::Fake,
    };

    /// In lock-step, where nobody tells what is about to come, parts come too.
    #[test]
    fn parts_for_each_row_are_counted_of_rows_that_it_was_told_of() {
        let layout = Fake::new("ag", 8, 4, 1).layout().clone();
        let SubLayerKind::Experts { top_k, .. } = layout.sub_layers[1] else { panic!("gated") };
        let demand = Demand {
            layout: &layout,
            devices: &[DeviceId(0), DeviceId(1)],
            roles: Roles::Disjoint { attention: 1 },
            experts_per_group: 1,
            replicas: 0,
            loads: &Loads::with(&layout, |_, _, _| 1.0),
        };
        let placement = Arc::new(Greedy.place(&demand).expect("fits"));
        let costs = StageCosts::default();
        let mut lanes = Executor::lanes(&layout, &placement, DeviceId(1), ScheduleKind::Adaptive, &costs);
        let parts = (0..top_k).map(|slot| RemotePart {
            work: PartWork { row: Row(0), slot, expert: slot },
            visit: Visit::default(),
        });
        let mut parcel = Parcel {
            from: DeviceId(0),
            to: DeviceId(1),
            lane: 0,
            sub_layer: 1,
            leg: Leg::Inputs,
            tick: 0,
            rows: vec![Row(0)],
            parts: parts.collect(),
            last: true,
            ahead: None,
        };
        for _ in 0..1000 {
            lanes[0].receive(&parcel, Moment::default());
        }
        let ahead = Ahead { passed: 1, here: 5, ..Ahead::default() };
        parcel.ahead = Some(ahead);
        lanes[0].receive(&parcel, Moment::default());
        let soon = lanes[0].upstream.parts(1);
        assert!((soon - 5.0 * f64::from(top_k)).abs() < 1e-9, "{soon}");
    }
}
