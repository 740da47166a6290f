//! Rows and parts between devices in main memory: a payload is a buffer that changes hands, `[vectors, hidden]`.

use reprise_scheduler::{BackendError, DeviceId, Exchange, PartWork, RemotePart, Row, SubLayerId};

use super::CpuBackend;

impl CpuBackend {
    fn collect<'a>(&'a self, vectors: impl ExactSizeIterator<Item = &'a [f32]>) -> Vec<f32> {
        let mut payload = Vec::with_capacity(vectors.len() * self.model.sizes.hidden);
        vectors.for_each(|vector| payload.extend_from_slice(vector));
        payload
    }

    fn check(&self, payload: &[f32], vectors: usize) -> Result<(), BackendError> {
        let wanted = vectors * self.model.sizes.hidden;
        if payload.len() >= wanted {
            return Ok(());
        }
        Err(BackendError(format!("a payload of {} numbers, not {wanted}", payload.len())))
    }
}

impl Exchange for CpuBackend {
    type Payload = Vec<f32>;

    fn inputs(&mut self, _: SubLayerId, rows: &[Row], _: DeviceId) -> Result<Vec<f32>, BackendError> {
        Ok(self.collect(rows.iter().map(|row| self.arena.normed(*row))))
    }

    fn put_inputs(&mut self, _: SubLayerId, rows: &[Row], payload: Vec<f32>) -> Result<(), BackendError> {
        self.check(&payload, rows.len())?;
        for (row, input) in rows.iter().zip(payload.chunks_exact(self.model.sizes.hidden)) {
            self.arena.set_normed(*row, input);
        }
        Ok(())
    }

    fn parts(&mut self, _: SubLayerId, parts: &[RemotePart], _: DeviceId) -> Result<Vec<f32>, BackendError> {
        Ok(self.collect(parts.iter().map(|part| self.arena.part(part.work.row, part.work.slot))))
    }

    fn put_parts(
        &mut self,
        _: SubLayerId,
        parts: &[(usize, PartWork)],
        payload: Vec<f32>,
    ) -> Result<(), BackendError> {
        let hidden = self.model.sizes.hidden;
        for (place, part) in parts {
            self.check(&payload, place + 1)?;
            let computed = &payload[place * hidden..(place + 1) * hidden];
            self.arena.part_mut(part.row, part.slot).copy_from_slice(computed);
        }
        Ok(())
    }

    fn vector_bytes(&self) -> usize {
        self.model.sizes.hidden * size_of::<f32>()
    }
}
