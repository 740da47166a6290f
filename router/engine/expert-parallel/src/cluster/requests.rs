use reprise_scheduler::{DeviceId, Priority};

use super::{Cluster, Command, Event, Outcome, Report, RequestError, RequestId, Start};

/// A request that is not over.
#[derive(Debug)]
pub(super) struct Request {
    /// Prompt, and what was generated: all that is needed to begin anew elsewhere.
    tokens: Vec<u32>,
    left: usize,
    priority: Priority,
    scope: u64,
    device: Option<DeviceId>,
}

impl<P: Send + 'static> Cluster<P> {
    /// Requests that are not over.
    #[must_use]
    pub fn running(&self) -> usize {
        self.requests.len()
    }

    /// Submits a request to the device with the fewest.
    ///
    /// # Errors
    /// It could never be computed, or nothing can.
    pub fn submit(
        &mut self,
        tokens: Vec<u32>,
        max_new: usize,
        priority: Priority,
        scope: u64,
    ) -> Result<RequestId, RequestError> {
        if let Some(error) = &self.broken {
            return Err(error.clone());
        }
        self.core.check(tokens.len(), max_new)?;
        self.next += 1;
        let id = RequestId(self.next);
        self.requests.insert(id, Request { tokens, left: max_new, priority, scope, device: None });
        self.unsent.push_back(id);
        self.send_waiting();
        Ok(id)
    }

    /// Ends a request at any time; no event of it comes after.
    pub fn cancel(&mut self, request: RequestId) {
        let device = self.requests.remove(&request).and_then(|request| request.device);
        if let Some(device) = device {
            self.loads[usize::from(device.0)] -= 1;
            self.workers[usize::from(device.0)].command(Command::Cancel(request));
        }
    }

    /// All requests begin anew on the devices that there are.
    pub(super) fn resubmit(&mut self) {
        self.loads.fill(0);
        self.unsent = self.requests.keys().copied().collect();
        self.requests.values_mut().for_each(|request| request.device = None);
        self.send_waiting();
    }

    /// Each to the device that has the fewest, as long as one has room.
    pub(super) fn send_waiting(&mut self) {
        while let Some(id) = self.unsent.front().copied() {
            let attention = self.placement.attention().iter().copied();
            let Some(device) = attention.min_by_key(|device| self.loads[usize::from(device.0)]) else {
                return;
            };
            let load = &mut self.loads[usize::from(device.0)];
            if *load >= self.window {
                return;
            }
            self.unsent.pop_front();
            let Some(request) = self.requests.get_mut(&id) else { continue };
            *load += 1;
            request.device = Some(device);
            let Request { tokens, left, priority, scope, .. } = request;
            let start = Start {
                request: id,
                tokens: tokens.clone(),
                max_new: *left,
                priority: *priority,
                scope: *scope,
            };
            self.workers[usize::from(device.0)].command(Command::Start(start));
        }
    }

    pub(super) fn report(&mut self, report: Report, events: &mut Vec<Event>) {
        let Report { epoch, at, outcomes } = report;
        // Computed before a device was lost, and again since: the same tokens.
        if epoch != self.epoch {
            return;
        }
        for Outcome { request, token, last } in outcomes {
            let Some(running) = self.requests.get_mut(&request) else { continue };
            running.tokens.extend(token);
            running.left = running.left.saturating_sub(1);
            if last {
                let device = self.requests.remove(&request).and_then(|request| request.device);
                device.into_iter().for_each(|device| self.loads[usize::from(device.0)] -= 1);
            }
            events.push(Event::Token { request, token, last, at });
        }
    }
}
