use std::{
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, TrySendError, sync_channel},
    time::{Duration, Instant},
};

use reprise_scheduler::DeviceId;

use super::{Closed, Message, Transport, Unreachable};

/// How long a thread looks for a message before it parks, where cores are few: a wake-up costs some tens of microseconds, as a small call
/// does.
pub const SPIN: Duration = Duration::from_micros(40);

/// Devices that are threads of one process: a payload is a buffer that changes hands.
#[derive(Debug)]
pub struct ThreadTransport<P> {
    inbox: Receiver<Message<P>>,
    /// By device, this one's own included.
    outboxes: Vec<SyncSender<Message<P>>>,
    spin: Duration,
}

/// Transports of so many devices, and the way to each for commands. An inbox holds `capacity` messages: more than can be under way of all
/// rows in flight, so that a full one means that its device is stuck. Who waits looks for a message for as long as `spin` before it parks.
#[must_use]
pub fn threads<P: Send>(
    devices: u16,
    capacity: usize,
    spin: Duration,
) -> (Vec<ThreadTransport<P>>, Vec<SyncSender<Message<P>>>) {
    let (outboxes, inboxes): (Vec<_>, Vec<_>) =
        (0..devices).map(|_| sync_channel::<Message<P>>(capacity.max(1))).unzip();
    let transport = |inbox| ThreadTransport { inbox, outboxes: outboxes.clone(), spin };
    (inboxes.into_iter().map(transport).collect(), outboxes)
}

impl<P: Send> Transport<P> for ThreadTransport<P> {
    fn send(&mut self, to: DeviceId, message: Message<P>) -> Result<(), Unreachable> {
        let outbox = self.outboxes.get(usize::from(to.0)).ok_or(Unreachable { device: to })?;
        outbox.try_send(message).map_err(|error| match error {
            TrySendError::Full(_) | TrySendError::Disconnected(_) => Unreachable { device: to },
        })
    }

    fn receive(&mut self, wait: Duration) -> Result<Option<Message<P>>, Closed> {
        let mut begun = None;
        let left = loop {
            match self.inbox.try_recv() {
                Ok(message) => return Ok(Some(message)),
                Err(TryRecvError::Disconnected) => return Err(Closed),
                Err(TryRecvError::Empty) if wait.is_zero() => return Ok(None),
                Err(TryRecvError::Empty) => {}
            }
            match next(begun.get_or_insert_with(Instant::now).elapsed(), wait, self.spin) {
                Next::Look => std::hint::spin_loop(),
                Next::Park(left) => break left,
                Next::GiveUp => return Ok(None),
            }
        };
        match self.inbox.recv_timeout(left) {
            Ok(message) => Ok(Some(message)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(Closed),
        }
    }
}

/// What is done without a message.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Look,
    /// At most so long.
    Park(Duration),
    GiveUp,
}

/// Of who waits for `wait` and has looked for so much of it.
fn next(looked: Duration, wait: Duration, spin: Duration) -> Next {
    match wait.saturating_sub(looked) {
        Duration::ZERO => Next::GiveUp,
        left if looked > spin => Next::Park(left),
        _ => Next::Look,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_looks_and_parks_waits_no_longer_than_it_asked() {
        let us = Duration::from_micros;
        assert_eq!(next(us(0), us(300), us(40)), Next::Look);
        assert_eq!(next(us(40), us(300), us(40)), Next::Look);
        assert_eq!(next(us(50), us(300), us(40)), Next::Park(us(250)));
        assert_eq!(next(us(50), us(300), us(0)), Next::Park(us(250)));
        assert_eq!(next(us(299), us(300), us(2000)), Next::Look);
        for looked in [300, 301, 900] {
            assert_eq!(next(us(looked), us(300), us(2000)), Next::GiveUp);
        }
    }
}
