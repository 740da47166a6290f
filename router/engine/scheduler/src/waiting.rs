use std::collections::VecDeque;

use crate::{Moment, Priority};

/// Requests that wait for a sequence: bounded, interactive before batch, each lane in order of arrival.
///
/// It is the one waiting queue of a tier. It is pure, so the tier keeps it under its lock and a test under a virtual clock.
#[derive(Debug)]
pub struct Waiting<T> {
    interactive: VecDeque<Entry<T>>,
    batch: VecDeque<Entry<T>>,
    capacity: usize,
    tickets: u64,
}

/// Names an entry for as long as it waits; never given twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

#[derive(Debug)]
pub struct Entry<T> {
    pub ticket: Ticket,
    pub priority: Priority,
    pub deadline: Option<Moment>,
    pub item: T,
}

impl<T> Waiting<T> {
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { interactive: VecDeque::new(), batch: VecDeque::new(), capacity, tickets: 0 }
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.interactive.len() + self.batch.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    #[must_use]
    pub fn is_full(&self) -> bool {
        self.len() >= self.capacity
    }

    /// # Errors
    /// The item itself, if as many wait as may.
    pub fn push(&mut self, priority: Priority, deadline: Option<Moment>, item: T) -> Result<Ticket, T> {
        if self.is_full() {
            return Err(item);
        }
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        let lane = match priority {
            Priority::Interactive => &mut self.interactive,
            Priority::Batch => &mut self.batch,
        };
        lane.push_back(Entry { ticket, priority, deadline, item });
        Ok(ticket)
    }

    /// Who is next.
    #[must_use]
    pub fn front(&self) -> Option<&Entry<T>> {
        self.interactive.front().or_else(|| self.batch.front())
    }

    pub fn pop(&mut self) -> Option<Entry<T>> {
        self.interactive.pop_front().or_else(|| self.batch.pop_front())
    }

    /// In the order in which they are served.
    pub fn iter(&self) -> impl Iterator<Item = &Entry<T>> {
        self.interactive.iter().chain(&self.batch)
    }

    /// In the order in which they are served.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Entry<T>> {
        self.interactive.iter_mut().chain(&mut self.batch)
    }

    pub fn get_mut(&mut self, ticket: Ticket) -> Option<&mut T> {
        self.iter_mut().find(|entry| entry.ticket == ticket).map(|entry| &mut entry.item)
    }

    pub fn remove(&mut self, ticket: Ticket) -> Option<T> {
        for lane in [&mut self.interactive, &mut self.batch] {
            if let Some(at) = lane.iter().position(|entry| entry.ticket == ticket) {
                return lane.remove(at).map(|entry| entry.item);
            }
        }
        None
    }

    /// Takes out those whose deadline has come (at `now` exactly, too) and those that `gone` says nobody waits for.
    /// Expired ones are returned; the others are dropped.
    pub fn sweep(&mut self, now: Moment, gone: impl Fn(&T) -> bool) -> Vec<T> {
        let mut expired = Vec::new();
        for lane in [&mut self.interactive, &mut self.batch] {
            let due = |entry: &Entry<T>| entry.deadline.is_some_and(|deadline| now >= deadline);
            if !lane.iter().any(|entry| due(entry) || gone(&entry.item)) {
                continue;
            }
            for entry in std::mem::take(lane) {
                if gone(&entry.item) {
                    continue;
                }
                if due(&entry) {
                    expired.push(entry.item);
                } else {
                    lane.push_back(entry);
                }
            }
        }
        expired
    }

    /// Takes all out, in the order in which they would have been served.
    pub fn drain(&mut self) -> impl Iterator<Item = T> + '_ {
        self.interactive.drain(..).chain(self.batch.drain(..)).map(|entry| entry.item)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment(Duration::from_secs(seconds))
    }

    #[test]
    fn interactive_goes_before_batch_each_in_order() {
        let mut waiting = Waiting::new(8);
        for (name, priority) in [
            ("b1", Priority::Batch),
            ("i1", Priority::Interactive),
            ("b2", Priority::Batch),
            ("i2", Priority::Interactive),
        ] {
            waiting.push(priority, None, name).expect("fits");
        }
        assert_eq!(waiting.front().map(|entry| entry.item), Some("i1"));
        let order: Vec<_> = std::iter::from_fn(|| waiting.pop()).map(|entry| entry.item).collect();
        assert_eq!(order, ["i1", "i2", "b1", "b2"]);
    }

    #[test]
    fn it_is_bounded_over_both_lanes() {
        let mut waiting = Waiting::new(2);
        waiting.push(Priority::Batch, None, 1).expect("fits");
        let second = waiting.push(Priority::Interactive, None, 2).expect("fits");
        assert_eq!(waiting.push(Priority::Interactive, None, 3), Err(3));
        assert_eq!(waiting.remove(second), Some(2));
        assert!(waiting.get_mut(second).is_none());
        let fourth = waiting.push(Priority::Interactive, None, 4).expect("fits");
        assert_ne!(fourth, second);
        assert_eq!(waiting.get_mut(fourth), Some(&mut 4));
    }

    #[test]
    fn a_sweep_returns_the_expired_and_drops_the_gone() {
        let mut waiting = Waiting::new(8);
        for (deadline, item) in [(Some(at(5)), 1), (Some(at(6)), 2), (None, 3), (Some(at(1)), 4)] {
            waiting.push(Priority::Batch, deadline, item).expect("fits");
        }
        assert_eq!(waiting.sweep(at(5), |item| *item >= 3), [1]);
        assert_eq!(waiting.iter().map(|entry| entry.item).collect::<Vec<_>>(), [2]);
        assert_eq!(waiting.drain().collect::<Vec<_>>(), [2]);
    }
}
