//! A device that goes wrong as told, for checks of what is left behind.

use std::fmt;

use crate::{
    AttentionRow, Backend, BackendError, DeviceId, Exchange, ExpertId, ModelLayout, PartWork, RemotePart,
    Row, SubLayerId, WayTimes,
};

/// What happens before each call that computes.
pub type Before = Box<dyn FnMut() -> Result<(), BackendError> + Send>;

/// A device, and what happens before each of its calls; what is sent between devices is left alone.
pub struct Faulty<D> {
    device: D,
    before: Before,
}

impl<D> Faulty<D> {
    pub fn new(device: D, before: Before) -> Self {
        Self { device, before }
    }

    fn call(&mut self) -> Result<&mut D, BackendError> {
        (self.before)()?;
        Ok(&mut self.device)
    }
}

impl<D: fmt::Debug> fmt::Debug for Faulty<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faulty").field("device", &self.device).finish_non_exhaustive()
    }
}

impl<D: Exchange> Backend for Faulty<D> {
    fn layout(&self) -> &ModelLayout {
        self.device.layout()
    }

    fn embed(&mut self, rows: &[Row], tokens: &[u32]) -> Result<(), BackendError> {
        self.call()?.embed(rows, tokens)
    }

    fn attention(&mut self, at: SubLayerId, rows: &[AttentionRow<'_>]) -> Result<(), BackendError> {
        self.call()?.attention(at, rows)
    }

    fn feed_forward(&mut self, at: SubLayerId, rows: &[Row]) -> Result<(), BackendError> {
        self.call()?.feed_forward(at, rows)
    }

    fn gate(
        &mut self,
        at: SubLayerId,
        rows: &[Row],
        experts: &mut Vec<ExpertId>,
    ) -> Result<(), BackendError> {
        self.call()?.gate(at, rows, experts)
    }

    fn experts(&mut self, at: SubLayerId, parts: &[PartWork]) -> Result<(), BackendError> {
        self.call()?.experts(at, parts)
    }

    fn join(&mut self, at: SubLayerId, rows: &[Row]) -> Result<(), BackendError> {
        self.call()?.join(at, rows)
    }

    fn logits(&mut self, rows: &[Row], logits: &mut Vec<f32>) -> Result<(), BackendError> {
        self.call()?.logits(rows, logits)
    }

    fn greedy(&mut self, rows: &[Row], tokens: &mut Vec<Option<u32>>) -> Result<bool, BackendError> {
        self.call()?.greedy(rows, tokens)
    }
}

impl<D: Exchange> Exchange for Faulty<D> {
    type Payload = D::Payload;

    fn inputs(&mut self, at: SubLayerId, rows: &[Row], to: DeviceId) -> Result<D::Payload, BackendError> {
        self.device.inputs(at, rows, to)
    }

    fn put_inputs(&mut self, at: SubLayerId, rows: &[Row], payload: D::Payload) -> Result<(), BackendError> {
        self.device.put_inputs(at, rows, payload)
    }

    fn parts(
        &mut self,
        at: SubLayerId,
        parts: &[RemotePart],
        to: DeviceId,
    ) -> Result<D::Payload, BackendError> {
        self.device.parts(at, parts, to)
    }

    fn put_parts(
        &mut self,
        at: SubLayerId,
        parts: &[(usize, PartWork)],
        payload: D::Payload,
    ) -> Result<(), BackendError> {
        self.device.put_parts(at, parts, payload)
    }

    fn vector_bytes(&self) -> usize {
        self.device.vector_bytes()
    }

    fn way_times(&self) -> WayTimes {
        self.device.way_times()
    }
}
