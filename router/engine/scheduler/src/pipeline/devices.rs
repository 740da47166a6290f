//! A pipeline of a device that shares its model with others.

use super::Pipeline;
use crate::{
    DeviceId, Executor, ExpertId, Mode, Moment, Notice, Parcel, PartWork, QueueState, Stage, SubLayerId, Work,
};

impl Pipeline {
    /// Takes in what another device sent; see [`Executor::receive`].
    pub fn receive(&mut self, parcel: &Parcel, now: Moment) -> Vec<(usize, PartWork)> {
        let lane = self.lanes.get_mut(usize::from(parcel.lane));
        lane.map_or_else(Vec::new, |lane| lane.receive(parcel, now))
    }

    /// What must be told to all other devices, each with its lane, in order and before any parcel that comes after.
    pub fn notices(&mut self) -> Vec<(u8, Notice)> {
        let lanes = (0..).zip(&mut self.lanes);
        lanes.flat_map(|(index, lane)| lane.notices().map(move |notice| (index, notice))).collect()
    }

    pub fn hear(&mut self, from: DeviceId, lane: u8, notice: Notice) {
        if let Some(lane) = self.lanes.get_mut(usize::from(lane)) {
            lane.hear(from, notice);
        }
    }

    /// All devices change what they do, for the `change`-th time, the same for all.
    pub fn set_mode(&mut self, mode: Mode, change: u32) {
        self.lanes.iter_mut().for_each(|lane| lane.use_copies(mode.copies));
        let pace = mode.pace;
        if (pace.is_free() || self.pace.is_free())
            && pace != self.pace
            && let Some(lane) = self.lanes.first_mut()
        {
            lane.set_pace(pace, change);
        }
        self.alternates &= pace == self.pace;
        self.pace = pace;
    }

    /// Takes all that waits in a queue of one of the lanes, which take turns; none: there is nothing to compute, or it waits for more.
    pub fn begin(&mut self, now: Moment) -> Option<Work<'_>> {
        let count = self.lanes.len();
        let order = (1..=count).map(|after| (self.busy + after) % count);
        for lane in order {
            if self.lanes[lane].begin(now).is_some() {
                self.busy = lane;
                return Some(self.lanes[lane].work());
            }
        }
        None
    }

    /// The lane that computes.
    pub fn busy_mut(&mut self) -> &mut Executor {
        &mut self.lanes[self.busy]
    }

    /// With nothing begun although there are entries: when to try again if nothing comes before.
    #[must_use]
    pub fn asks_again(&self) -> Option<Moment> {
        self.lanes.iter().filter_map(Executor::asks_again).min()
    }

    /// What the micro-queues of each lane hold, in the order in which a token passes them.
    pub fn stages(&self) -> impl Iterator<Item = Stage> {
        self.lanes.first().into_iter().flat_map(Executor::stages)
    }

    /// Micro-queues of all lanes that are not empty, in any order.
    pub fn waiting(&self) -> impl Iterator<Item = &QueueState> {
        self.lanes.iter().flat_map(Executor::waiting)
    }

    /// The experts that this device hosts, by sub-layer.
    pub fn hosted(&self) -> impl Iterator<Item = (SubLayerId, ExpertId)> {
        self.lanes.first().into_iter().flat_map(Executor::hosted)
    }

    /// Of each part that waits for an expert here, in any lane, its sub-layer and its expert.
    pub fn waiting_parts(&self) -> impl Iterator<Item = (SubLayerId, ExpertId)> {
        self.lanes.iter().flat_map(Executor::waiting_parts)
    }

    /// When the entry came that has waited longest.
    #[must_use]
    pub fn oldest(&self) -> Option<Moment> {
        self.lanes.iter().filter_map(Executor::oldest).min()
    }
}
