//! Many launches as one: recorded once, repeated at the cost of one.
#![expect(unsafe_code, reason = "calls of the driver")]

use std::sync::Arc;

use cudarc::driver::{result, sys};

use crate::{CudaError, Device, error::Tried};

/// Recorded launches. All buffers that they use must outlive it.
#[derive(Debug)]
pub struct LaunchGraph {
    device: Arc<Device>,
    graph: sys::CUgraph,
    instance: sys::CUgraphExec,
}

// SAFETY: the driver's handles may be used from any thread, by one at a time; it is launched on its device's stream.
unsafe impl Send for LaunchGraph {}

impl LaunchGraph {
    /// Records what `work` launches; nothing is computed yet.
    ///
    /// # Errors
    /// Those of `work`, or it did what cannot be recorded (a copy that waits).
    pub fn record<E: From<CudaError>>(
        device: &Arc<Device>,
        work: impl FnOnce() -> Result<(), E>,
    ) -> Result<Self, E> {
        device.enter()?;
        let stream = device.stream();
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream lives.
        unsafe { result::stream::begin_capture(stream, mode) }.tried("record")?;
        let outcome = work();
        // SAFETY: as above.
        let graph = unsafe { result::stream::end_capture(stream) }.tried("end a record");
        outcome?;
        let graph = graph?;
        // SAFETY: the graph was just recorded.
        let instance = unsafe { result::graph::instantiate(graph, sys::CUgraphInstantiate_flags(0)) };
        match instance.tried("prepare a record") {
            Ok(instance) => Ok(Self { device: Arc::clone(device), graph, instance }),
            Err(error) => {
                // SAFETY: nobody else has it.
                let _ = unsafe { result::graph::destroy(graph) };
                Err(error.into())
            }
        }
    }

    /// Launches all again.
    ///
    /// # Errors
    /// The device failed.
    pub fn launch(&self) -> Result<(), CudaError> {
        self.device.enter()?;
        // SAFETY: both live.
        unsafe { result::graph::launch(self.instance, self.device.stream()) }.tried("repeat a record")
    }
}

impl Drop for LaunchGraph {
    fn drop(&mut self) {
        if self.device.enter().is_ok() && self.device.synchronize().is_ok() {
            // SAFETY: made in `record`, and not running.
            unsafe {
                let _ = result::graph::exec_destroy(self.instance);
                let _ = result::graph::destroy(self.graph);
            }
        }
    }
}
