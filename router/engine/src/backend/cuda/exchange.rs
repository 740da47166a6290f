//! Rows and parts between workers on GPUs: a payload is memory of the receiver's GPU, which the sender writes ([`Outbox`](reprise_cuda::Outbox)).
//! Nothing here waits: neither the sender for its writing, nor the receiver for what it takes in.

use std::sync::Arc;

use reprise_cuda::{
    CudaError, Device, Transfer,
    ops::{gather_rows, scatter_rows},
};
use reprise_scheduler::{BackendError, DeviceId, Exchange, PartWork, RemotePart, Row, SubLayerId, WayTimes};

use super::{CudaBackend, arena::numbers, failed};

impl CudaBackend {
    /// Opens the ways to all devices that share the model, its own included, by number.
    ///
    /// # Errors
    /// A device failed.
    pub fn connect(&mut self, devices: &[Arc<Device>]) -> Result<(), CudaError> {
        self.outbox.connect(devices)
    }

    /// Whether this GPU writes that one's memory itself; otherwise the driver copies.
    #[must_use]
    pub fn is_direct(&self, to: DeviceId) -> bool {
        self.outbox.is_direct(to.0.into())
    }

    /// Numbers of f32 that carry a row's or a part's bf16.
    fn row_width(&self) -> usize {
        self.model.sizes.hidden / 2
    }

    fn send_rows(&mut self, rows: &[Row], to: DeviceId) -> Result<Transfer, CudaError> {
        let width = self.row_width();
        self.arena()?;
        let arena = self.arena_of()?;
        let [index] = arena.sheets.put([&numbers(rows)])?;
        let from = arena.normed.view().cast::<f32>()?;
        self.outbox
            .send(to.0.into(), rows.len() * width, |to| gather_rows(&self.device, from, index, to, width))
    }

    fn take_rows(&mut self, rows: &[Row], payload: &Transfer) -> Result<(), CudaError> {
        let width = self.row_width();
        self.arena()?;
        let arena = self.arena_of()?;
        let [index] = arena.sheets.put([&numbers(rows)])?;
        let to = arena.normed.view().cast::<f32>()?;
        payload.take(&self.device, |from| scatter_rows(&self.device, from, index, to, width))
    }

    fn send_parts(&mut self, parts: &[RemotePart], to: DeviceId) -> Result<Transfer, CudaError> {
        let width = self.row_width();
        self.arena()?;
        let arena = self.arena_of()?;
        let places: Vec<u32> = parts.iter().map(|part| arena.place(&part.work)).collect();
        let [places] = arena.sheets.put([&places])?;
        let from = arena.parts.view().cast::<f32>()?;
        self.outbox
            .send(to.0.into(), parts.len() * width, |to| gather_rows(&self.device, from, places, to, width))
    }

    fn take_parts(&mut self, parts: &[(usize, PartWork)], payload: &Transfer) -> Result<(), CudaError> {
        let width = self.row_width();
        self.arena()?;
        let arena = self.arena_of()?;
        let places: Vec<u32> = parts.iter().map(|(_, part)| arena.place(part)).collect();
        let [places] = arena.sheets.put([&places])?;
        let to = arena.parts.view().cast::<f32>()?;
        // Those of sequences that ended meanwhile lie between: runs of what is wanted are moved.
        payload.take(&self.device, |from| {
            let mut first = 0;
            for run in parts.chunk_by(|a, b| a.0 + 1 == b.0) {
                let Some((begin, _)) = run.first() else { continue };
                let from = from.range(begin * width..(begin + run.len()) * width)?;
                let at = places.range(first..first + run.len())?;
                scatter_rows(&self.device, from, at, to, width)?;
                first += run.len();
            }
            Ok(())
        })
    }
}

impl Exchange for CudaBackend {
    type Payload = Transfer;

    fn inputs(&mut self, _: SubLayerId, rows: &[Row], to: DeviceId) -> Result<Transfer, BackendError> {
        self.send_rows(rows, to).map_err(|error| failed(&error))
    }

    fn put_inputs(&mut self, _: SubLayerId, rows: &[Row], payload: Transfer) -> Result<(), BackendError> {
        self.take_rows(rows, &payload).map_err(|error| failed(&error))
    }

    fn parts(&mut self, _: SubLayerId, parts: &[RemotePart], to: DeviceId) -> Result<Transfer, BackendError> {
        self.send_parts(parts, to).map_err(|error| failed(&error))
    }

    fn put_parts(
        &mut self,
        _: SubLayerId,
        parts: &[(usize, PartWork)],
        payload: Transfer,
    ) -> Result<(), BackendError> {
        self.take_parts(parts, &payload).map_err(|error| failed(&error))
    }

    fn vector_bytes(&self) -> usize {
        self.row_width() * size_of::<f32>()
    }

    fn way_times(&self) -> WayTimes {
        let reprise_cuda::WayTimes { transfers, seconds } = self.outbox.times();
        WayTimes { transfers, seconds }
    }
}
