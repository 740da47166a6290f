//! Devices that die or stall. Nobody waits for them: all others drop what is in flight, and every request that is not over begins anew with the
//! tokens that it has, on the devices that are left. Its next tokens are the same, as tokens do not depend on where they are computed.

use std::{sync::Arc, time::Duration};

use reprise_scheduler::{DeviceId, Moment};

use super::{Cluster, Command, Event, RequestError};
use crate::worker::State;

/// A device that is not used any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    pub device: DeviceId,
    /// It did not move for so long; none: it failed.
    pub silent: Option<Duration>,
    /// What the operator is told.
    pub why: String,
    /// When that was noticed, and how many requests began anew for it.
    pub at: Moment,
    pub recomputed: usize,
}

impl<P: Send + 'static> Cluster<P> {
    /// The devices that were lost, in order.
    #[must_use]
    pub fn lost(&self) -> &[Lost] {
        &self.lost
    }

    /// KV blocks that sequences of a device held when it last looked up.
    #[must_use]
    pub fn held_blocks(&self, device: DeviceId) -> usize {
        self.workers[usize::from(device.0)].pulse.held()
    }

    pub(super) fn look_after(&mut self, events: &mut Vec<Event>) {
        let now = self.now();
        // After a pause of this very thread, or of the machine, nobody can be blamed for silence in it.
        if now.since(self.looked) > self.stall / 2 {
            self.fair_from = now;
        }
        self.looked = now;
        let fair = now.since(self.fair_from) > self.stall;
        for device in 0..self.workers.len() {
            let handle = &self.workers[device];
            if !handle.alive {
                continue;
            }
            let silent = handle.pulse.silence(now);
            let stalled = fair && handle.pulse.state() == State::Running && silent > self.stall;
            let suspected = handle.pulse.suspected();
            let device = DeviceId(u16::try_from(device).unwrap_or(u16::MAX));
            match handle.pulse.state() {
                State::Failed | State::Ended => self.lose(device, None, events),
                State::Running if stalled => self.lose(device, Some(silent), events),
                State::Running | State::Delivering => {}
            }
            // It took nothing, whatever its pulse says.
            if let Some(other) = suspected.filter(|other| self.workers[usize::from(other.0)].alive) {
                let pulse = &self.workers[usize::from(other.0)].pulse;
                let silent = (pulse.state() == State::Running).then(|| pulse.silence(now));
                self.lose(other, silent, events);
            }
        }
    }

    fn lose(&mut self, device: DeviceId, silent: Option<Duration>, events: &mut Vec<Event>) {
        self.workers[usize::from(device.0)].alive = false;
        self.workers[usize::from(device.0)].command(Command::Stop);
        let (at, recomputed) = (self.now(), self.requests.len());
        tracing::error!(device = device.0, ?silent, recomputed, "a device is lost");
        let pulse = &self.workers[usize::from(device.0)].pulse;
        let why = match (pulse.failure(), silent) {
            (Some(failure), _) => failure.to_owned(),
            (None, Some(silent)) => format!("it has not moved for {silent:?}"),
            (None, None) => "its thread has ended".to_owned(),
        };
        self.lost.push(Lost { device, silent, why: why.clone(), at, recomputed });
        if self.broken.is_some() {
            return;
        }
        let alive: Vec<DeviceId> = (0..)
            .map(DeviceId)
            .zip(&self.workers)
            .filter(|(_, handle)| handle.alive)
            .map(|(id, _)| id)
            .collect();
        let left = match &self.replan {
            Some(replan) => replan(&alive),
            None => self.placement.without(&self.layout, device),
        };
        match left {
            Ok(placement) => {
                self.placement = Arc::new(placement);
                self.epoch += 1;
                let (epoch, mode) = (self.epoch, self.mode());
                self.tell(|| Command::Reset { epoch, placement: Arc::clone(&self.placement), mode });
                self.resubmit();
            }
            Err(reason) => {
                let error = RequestError::Lost { device, why, reason };
                self.broken = Some(error.clone());
                let requests: Vec<_> = self.requests.keys().copied().collect();
                requests.iter().for_each(|request| self.cancel(*request));
                events.extend(
                    requests.into_iter().map(|request| Event::Failed { request, error: error.clone() }),
                );
            }
        }
    }
}
