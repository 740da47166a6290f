//! Rows and parts between workers on GPUs: a payload is memory of the sender's GPU.

use reprise_cuda::{
    CudaError, Transfer,
    ops::{gather_rows, scatter_rows},
};
use reprise_scheduler::{BackendError, Exchange, PartWork, RemotePart, Row, SubLayerId};

use super::{CudaBackend, failed};

impl CudaBackend {
    /// Numbers of f32 that carry a row's or a part's bf16.
    fn row_width(&self) -> usize {
        self.model.sizes.hidden / 2
    }

    fn send_rows(&mut self, rows: &[Row]) -> Result<Transfer, CudaError> {
        let width = self.row_width();
        self.arena()?;
        let arena = self.arena_of()?;
        let index: Vec<u32> = rows.iter().map(|row| row.0).collect();
        arena.index.view().upload(&self.device, &index)?;
        let (from, at) = (arena.normed.view().cast::<f32>()?, arena.index.range(0..rows.len())?);
        self.outbox.send(rows.len() * width, |to| gather_rows(&self.device, from, at, to, width))
    }

    fn take_rows(&mut self, rows: &[Row], payload: &Transfer) -> Result<(), CudaError> {
        let width = self.row_width();
        self.arena()?;
        let arena = self.arena_of()?;
        let index: Vec<u32> = rows.iter().map(|row| row.0).collect();
        arena.index.view().upload(&self.device, &index)?;
        let (at, to) = (arena.index.range(0..rows.len())?, arena.normed.view().cast::<f32>()?);
        let staging = self.work.x.view();
        payload.take(&self.device, staging, |from| scatter_rows(&self.device, from, at, to, width))
    }

    /// The place of a part among the results of experts.
    fn place(&self, part: &PartWork) -> Result<u32, CudaError> {
        let top_k = self.arena_of()?.top_k;
        let place = part.row.0 as usize * top_k + usize::from(part.slot);
        u32::try_from(place).map_err(|_| CudaError::Shape(format!("part {place}")))
    }

    fn send_parts(&mut self, parts: &[RemotePart]) -> Result<Transfer, CudaError> {
        let width = self.row_width();
        self.arena()?;
        let places = parts.iter().map(|part| self.place(&part.work)).collect::<Result<Vec<_>, _>>()?;
        let arena = self.arena_of()?;
        arena.places.view().upload(&self.device, &places)?;
        let (from, at) = (arena.parts.view().cast::<f32>()?, arena.places.range(0..parts.len())?);
        self.outbox.send(parts.len() * width, |to| gather_rows(&self.device, from, at, to, width))
    }

    fn take_parts(&mut self, parts: &[(usize, PartWork)], payload: &Transfer) -> Result<(), CudaError> {
        let width = self.row_width();
        self.arena()?;
        let places = parts.iter().map(|(_, part)| self.place(part)).collect::<Result<Vec<_>, _>>()?;
        let arena = self.arena_of()?;
        arena.places.view().upload(&self.device, &places)?;
        let (to, staging) = (arena.parts.view().cast::<f32>()?, self.work.parts.view().cast::<f32>()?);
        // Those of sequences that ended meanwhile lie between: runs of what is wanted are moved.
        payload.take(&self.device, staging, |from| {
            let mut first = 0;
            for run in parts.chunk_by(|a, b| a.0 + 1 == b.0) {
                let Some((begin, _)) = run.first() else { continue };
                let from = from.range(begin * width..(begin + run.len()) * width)?;
                let at = arena.places.range(first..first + run.len())?;
                scatter_rows(&self.device, from, at, to, width)?;
                first += run.len();
            }
            Ok(())
        })
    }
}

impl Exchange for CudaBackend {
    type Payload = Transfer;

    fn inputs(&mut self, _: SubLayerId, rows: &[Row]) -> Result<Transfer, BackendError> {
        self.send_rows(rows).map_err(|error| failed(&error))
    }

    fn put_inputs(&mut self, _: SubLayerId, rows: &[Row], payload: Transfer) -> Result<(), BackendError> {
        self.take_rows(rows, &payload).map_err(|error| failed(&error))
    }

    fn parts(&mut self, _: SubLayerId, parts: &[RemotePart]) -> Result<Transfer, BackendError> {
        self.send_parts(parts).map_err(|error| failed(&error))
    }

    fn put_parts(
        &mut self,
        _: SubLayerId,
        parts: &[(usize, PartWork)],
        payload: Transfer,
    ) -> Result<(), BackendError> {
        self.take_parts(parts, &payload).map_err(|error| failed(&error))
    }
}
