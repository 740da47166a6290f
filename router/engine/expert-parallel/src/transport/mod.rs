//! How devices reach each other.

mod threads;

use std::time::Duration;

use reprise_scheduler::{DeviceId, Moment, Notice, Parcel};
use thiserror::Error;

pub use threads::{SPIN, ThreadTransport, threads};

use crate::cluster::Command;

/// What comes to a device.
#[derive(Debug)]
pub enum Message<P> {
    /// From another device, sent in this epoch at this time since the cluster's start. No payload: it is empty.
    Parcel { epoch: u64, sent: Moment, parcel: Parcel, payload: Option<P> },
    /// From another device in lock-step.
    Notice { epoch: u64, from: DeviceId, lane: u8, notice: Notice },
    /// From the cluster.
    Command(Command),
}

/// The other device cannot be reached, or takes nothing any more.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
#[error("device {} takes no more messages", device.0)]
pub struct Unreachable {
    pub device: DeviceId,
}

/// One device's way to the others. Messages from one device to another arrive in the order in which they were sent.
pub trait Transport<P>: Send {
    /// Hands a message over and does not wait for anything: a transfer goes on while the device computes.
    ///
    /// # Errors
    /// The other device is gone, or has not taken anything for so long that it must be taken for stuck.
    fn send(&mut self, to: DeviceId, message: Message<P>) -> Result<(), Unreachable>;

    /// The next message, waiting for it at most so long. None: there was none.
    ///
    /// # Errors
    /// Nothing will come any more.
    fn receive(&mut self, wait: Duration) -> Result<Option<Message<P>>, Closed>;
}

/// The cluster has gone.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
#[error("the cluster has gone")]
pub struct Closed;
