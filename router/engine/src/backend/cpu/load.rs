use reprise_kernels::{
    matrix::{Matrix, MatrixError},
    pool::Pool,
};

use super::CpuModel;
use crate::{
    EngineError,
    graph::Convert,
    loader::{Checkpoint, MatrixPlan, VectorPlan, read_matrix, read_vector},
    source::TensorSource,
};

/// How far loading is, in bytes of the checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    pub done: usize,
    pub all: usize,
}

/// Reads and packs one weight after the other; no more than one is in memory twice.
pub(super) fn load(
    checkpoint: &mut Checkpoint,
    pool: &Pool,
    progress: &mut dyn FnMut(Progress),
    stop: &dyn Fn() -> bool,
) -> Result<CpuModel, EngineError> {
    let (plan, source) = checkpoint.parts();
    let (mut matrices, mut vectors) = (0, 0);
    plan.visit(
        |matrix| matrices += matrix.bytes() + matrix.bias.as_ref().map_or(0, VectorPlan::bytes),
        |vector| vectors += vector.bytes(),
    );
    let at = Progress { done: 0, all: matrices + vectors };
    plan.try_map(&mut Packing { source, pool, buffer: Vec::new(), progress, stop, at })
}

struct Packing<'a> {
    source: &'a mut dyn TensorSource,
    pool: &'a Pool,
    buffer: Vec<u8>,
    progress: &'a mut dyn FnMut(Progress),
    stop: &'a dyn Fn() -> bool,
    at: Progress,
}

impl Packing<'_> {
    fn read(&mut self, bytes: usize) {
        self.at.done += bytes;
        (self.progress)(self.at);
    }
}

impl Convert<MatrixPlan, VectorPlan> for Packing<'_> {
    type Matrix = Matrix;
    type Vector = Vec<f32>;
    type Error = EngineError;

    fn matrix(&mut self, plan: &MatrixPlan) -> Result<Matrix, EngineError> {
        if (self.stop)() {
            return Err(EngineError::Stopped);
        }
        let cannot = |source: MatrixError| EngineError::Matrix { name: plan.tensor.clone(), source };
        read_matrix(self.source, plan, &mut self.buffer)?;
        let matrix = Matrix::pack_on(self.pool, plan.format, plan.outputs, plan.inputs, &self.buffer)
            .map_err(cannot)?;
        self.read(plan.bytes());
        match &plan.bias {
            Some(bias) => matrix.with_bias(self.vector(bias)?).map_err(cannot),
            None => Ok(matrix),
        }
    }

    fn vector(&mut self, plan: &VectorPlan) -> Result<Vec<f32>, EngineError> {
        let vector = read_vector(self.source, plan, &mut self.buffer)?;
        self.read(plan.bytes());
        Ok(vector)
    }
}
