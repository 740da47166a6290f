//! Gates that are told what to choose, for measurements only.

use reprise_scheduler::{
    AttentionRow, Backend, BackendError, DeviceId, Exchange, ExpertId, ModelLayout, PartWork, RemotePart,
    Row, SubLayerId, WayTimes, placement::Loads,
};

use crate::{simulate::Gates, unit::key};

/// A device whose experts are chosen by drawn loads instead of its own gates, where there are any; the weights of a row's parts stay
/// its gates' own. What is drawn depends on a row's token and position, so that tokens are the same under every schedule. It counts what was
/// chosen.
#[derive(Debug)]
pub struct Steered<D> {
    device: D,
    gates: Option<Gates>,
    /// Per row of the arena.
    tokens: Vec<u32>,
    keys: Vec<u64>,
    loads: Loads,
}

impl<D: Exchange> Steered<D> {
    /// Without gates its own choose.
    pub fn new(device: D, gates: Option<Gates>) -> Self {
        let rows = device.layout().rows;
        let loads = Loads::with(device.layout(), |_, _, _| 0.0);
        Self { device, gates, tokens: vec![0; rows], keys: vec![0; rows], loads }
    }

    /// Parts of each expert so far.
    pub const fn loads(&self) -> &Loads {
        &self.loads
    }

    pub fn device_mut(&mut self) -> &mut D {
        &mut self.device
    }
}

impl<D: Exchange> Backend for Steered<D> {
    fn layout(&self) -> &ModelLayout {
        self.device.layout()
    }

    fn embed(&mut self, rows: &[Row], tokens: &[u32]) -> Result<(), BackendError> {
        for (row, token) in rows.iter().zip(tokens) {
            self.tokens[row.0 as usize] = *token;
        }
        self.device.embed(rows, tokens)
    }

    fn attention(&mut self, sub_layer: SubLayerId, rows: &[AttentionRow<'_>]) -> Result<(), BackendError> {
        for AttentionRow { row, position, .. } in rows {
            let at = row.0 as usize;
            self.keys[at] = key(&[u64::from(self.tokens[at]), u64::from(*position)]);
        }
        self.device.attention(sub_layer, rows)
    }

    fn feed_forward(&mut self, sub_layer: SubLayerId, rows: &[Row]) -> Result<(), BackendError> {
        self.device.feed_forward(sub_layer, rows)
    }

    fn gate(
        &mut self,
        sub_layer: SubLayerId,
        rows: &[Row],
        experts: &mut Vec<ExpertId>,
    ) -> Result<(), BackendError> {
        self.device.gate(sub_layer, rows, experts)?;
        if let Some(gates) = &self.gates {
            experts.clear();
            rows.iter().for_each(|row| gates.choose(sub_layer, self.keys[row.0 as usize], experts));
        }
        for expert in experts.iter() {
            self.loads.count(sub_layer, *expert, 1.0);
        }
        Ok(())
    }

    fn experts(&mut self, sub_layer: SubLayerId, parts: &[PartWork]) -> Result<(), BackendError> {
        self.device.experts(sub_layer, parts)
    }

    fn join(&mut self, sub_layer: SubLayerId, rows: &[Row]) -> Result<(), BackendError> {
        self.device.join(sub_layer, rows)
    }

    fn logits(&mut self, rows: &[Row], logits: &mut Vec<f32>) -> Result<(), BackendError> {
        self.device.logits(rows, logits)
    }

    fn greedy(&mut self, rows: &[Row], tokens: &mut Vec<Option<u32>>) -> Result<bool, BackendError> {
        self.device.greedy(rows, tokens)
    }
}

impl<D: Exchange> Exchange for Steered<D> {
    type Payload = D::Payload;

    fn inputs(
        &mut self,
        sub_layer: SubLayerId,
        rows: &[Row],
        to: DeviceId,
    ) -> Result<D::Payload, BackendError> {
        self.device.inputs(sub_layer, rows, to)
    }

    fn put_inputs(
        &mut self,
        sub_layer: SubLayerId,
        rows: &[Row],
        payload: D::Payload,
    ) -> Result<(), BackendError> {
        self.device.put_inputs(sub_layer, rows, payload)
    }

    fn parts(
        &mut self,
        sub_layer: SubLayerId,
        parts: &[RemotePart],
        to: DeviceId,
    ) -> Result<D::Payload, BackendError> {
        self.device.parts(sub_layer, parts, to)
    }

    fn put_parts(
        &mut self,
        sub_layer: SubLayerId,
        parts: &[(usize, PartWork)],
        payload: D::Payload,
    ) -> Result<(), BackendError> {
        self.device.put_parts(sub_layer, parts, payload)
    }

    fn vector_bytes(&self) -> usize {
        self.device.vector_bytes()
    }

    fn way_times(&self) -> WayTimes {
        self.device.way_times()
    }
}
