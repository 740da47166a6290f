//! What devices send each other: metadata here, the numbers in a payload that only the devices know.

use crate::{
    Backend, BackendError, PartWork, Row, SubLayerId,
    placement::DeviceId,
    queues::{Ahead, Visit},
};

/// A part of a row that is computed on another device than the row's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RemotePart {
    pub work: PartWork,
    pub visit: Visit,
}

/// Which way a parcel goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leg {
    /// From the gate to the experts. The payload: what experts see of `rows`, in order.
    Inputs,
    /// From the experts to the rows' own device. The payload: `parts`, in order.
    Results,
}

/// All that one device sends another of one call: one parcel per sub-layer and destination, however many rows and experts.
#[derive(Debug, Clone, PartialEq)]
pub struct Parcel {
    pub from: DeviceId,
    pub to: DeviceId,
    /// Of the sender and of the receiver ([`Lane`](crate::Lane)).
    pub lane: u8,
    pub sub_layer: SubLayerId,
    pub leg: Leg,
    /// Of the sender's barrier.
    pub tick: u64,
    /// Distinct; empty for results.
    pub rows: Vec<Row>,
    pub parts: Vec<RemotePart>,
    /// Nothing more comes from the sender for this sub-layer in this tick. Such a parcel may be empty.
    pub last: bool,
    /// What is about to come from the sender, where a schedule wants to know. Such a parcel may be empty too.
    pub ahead: Option<Ahead>,
}

impl Parcel {
    /// Vectors of hidden numbers in the payload.
    #[must_use]
    pub fn vectors(&self) -> usize {
        match self.leg {
            Leg::Inputs => self.rows.len(),
            Leg::Results => self.parts.len(),
        }
    }
}

/// A backend that computes its share of a model that is spread over devices.
///
/// Rows are numbered through over all devices with attention: device of rank r owns rows `[r * R, (r + 1) * R)` of an arena of R rows for each,
/// and has room for the rows of all others, so that a guest needs no place of its own to be found. On a GPU a payload is a buffer in
/// the receiver's memory with the event that says when it is written.
pub trait Exchange: Backend {
    type Payload: Send;

    /// What experts see of these rows, as the gate left it, for the device `to`.
    ///
    /// # Errors
    /// The device failed. All other calls alike.
    fn inputs(
        &mut self,
        sub_layer: SubLayerId,
        rows: &[Row],
        to: DeviceId,
    ) -> Result<Self::Payload, BackendError>;

    /// Keeps what another device sent of its rows.
    fn put_inputs(
        &mut self,
        sub_layer: SubLayerId,
        rows: &[Row],
        payload: Self::Payload,
    ) -> Result<(), BackendError>;

    /// Parts that were computed, for the device `to`.
    fn parts(
        &mut self,
        sub_layer: SubLayerId,
        parts: &[RemotePart],
        to: DeviceId,
    ) -> Result<Self::Payload, BackendError>;

    /// Keeps parts that another device computed, as if they had been computed here: each with its place in the payload. Others
    /// of the payload are void.
    fn put_parts(
        &mut self,
        sub_layer: SubLayerId,
        parts: &[(usize, PartWork)],
        payload: Self::Payload,
    ) -> Result<(), BackendError>;

    /// Bytes of a vector in a payload.
    fn vector_bytes(&self) -> usize;

    /// What its payloads took to be written, where the device itself can tell.
    fn way_times(&self) -> WayTimes {
        WayTimes::default()
    }
}

/// Payloads that a device timed, and their seconds.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct WayTimes {
    pub transfers: u64,
    pub seconds: f64,
}
