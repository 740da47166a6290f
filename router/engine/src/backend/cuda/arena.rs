//! Hidden states between calls of single sub-layers.

use half::bf16;
use reprise_cuda::{
    Buffer, CudaError, Pinned, Sheets, View,
    ops::{Norm, gather_rows, rms_norm, scatter_rows},
};
use reprise_scheduler::{PartWork, Row};

use super::CudaBackend;

/// Hidden states and what belongs to them between calls. Made by the first call.
#[derive(Debug, Default)]
pub(super) struct Arena {
    buffers: Option<Buffers>,
}

#[derive(Debug)]
pub(super) struct Buffers {
    /// [rows, hidden]
    pub(super) states: Buffer<f32>,
    /// What the experts see of a row, [rows, hidden].
    pub(super) normed: Buffer<bf16>,
    /// Of the chosen experts, [rows, top_k].
    pub(super) weights: Vec<f32>,
    /// Results of experts, [rows * top_k, hidden].
    pub(super) parts: Buffer<bf16>,
    /// What calls tell their kernels.
    pub(super) sheets: Sheets,
    /// What a gate chose, [rows, top_k], and the weights.
    pub(super) chosen_here: Pinned<u32>,
    pub(super) weights_here: Pinned<f32>,
    pub(super) top_k: usize,
}

impl Arena {
    pub(super) const fn buffers_mut(&mut self) -> Option<&mut Buffers> {
        self.buffers.as_mut()
    }
}

impl CudaBackend {
    pub(super) fn arena(&mut self) -> Result<&mut Buffers, CudaError> {
        if self.arena.buffers.is_none() {
            let (rows, hidden) = (self.layout.rows, self.model.sizes.hidden);
            let top_k = self.model.experts().map(|layer| layer.top_k).max().unwrap_or(0);
            let device = &self.device;
            let parts = rows * top_k.max(1);
            self.arena.buffers = Some(Buffers {
                states: Buffer::new(device, rows * hidden)?,
                normed: Buffer::new(device, if top_k > 0 { rows * hidden } else { 0 })?,
                weights: vec![0.0; rows * top_k],
                parts: Buffer::new(device, rows * top_k * hidden)?,
                // No call puts more than a row or a place for each part and a tile for each, and a dozen calls fit.
                sheets: Sheets::new(device, 12 * (7 * parts + 64))?,
                chosen_here: Pinned::new(device, rows * top_k)?,
                weights_here: Pinned::new(device, rows * top_k)?,
                top_k,
            });
        }
        self.arena.buffers.as_mut().ok_or_else(|| CudaError::Shape("no arena".into()))
    }

    pub(super) fn arena_of(&self) -> Result<&Buffers, CudaError> {
        self.arena.buffers.as_ref().ok_or_else(|| CudaError::Shape("a sub-layer before any embedding".into()))
    }

    /// Rows of the arena to `x`, and their norm.
    pub(super) fn gather(&self, index: View<'_, u32>, norm: &Buffer<f32>) -> Result<(), CudaError> {
        let Self { device, work, model, .. } = self;
        let (states, x) = (self.arena_of()?.states.view(), work.x.view());
        gather_rows(device, states, index, x, model.sizes.hidden)?;
        let (out, eps, rows) = (work.normed.view(), model.sizes.norm_eps, index.len());
        rms_norm(device, &Norm { x, index: None, weight: norm.view(), out, rows, eps })
    }

    /// And back.
    pub(super) fn scatter(&self, index: View<'_, u32>) -> Result<(), CudaError> {
        let (x, states) = (self.work.x.view(), self.arena_of()?.states.view());
        scatter_rows(&self.device, x, index, states, self.model.sizes.hidden)
    }
}

impl Buffers {
    /// The place of a part among the results of experts.
    pub(super) fn place(&self, part: &PartWork) -> u32 {
        small(part.row.0 as usize * self.top_k + usize::from(part.slot))
    }
}

pub(super) fn numbers(rows: &[Row]) -> Vec<u32> {
    rows.iter().map(|row| row.0).collect()
}

pub(super) fn small(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
