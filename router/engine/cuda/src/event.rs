//! Moments of a stream that other streams wait for, without the host.
#![expect(unsafe_code, reason = "calls of the driver")]

use std::sync::Arc;

use cudarc::driver::{result, sys};

use crate::{CudaError, Device, error::Tried};

/// A moment of one device's stream.
#[derive(Debug)]
pub struct Event {
    device: Arc<Device>,
    raw: sys::CUevent,
}

// SAFETY: the driver's handle may be used from any thread that has entered a context; the driver locks.
unsafe impl Send for Event {}
// SAFETY: as above.
unsafe impl Sync for Event {}

impl Event {
    /// # Errors
    /// The device failed.
    pub fn new(device: &Arc<Device>) -> Result<Self, CudaError> {
        device.enter()?;
        let raw = result::event::create(sys::CUevent_flags::CU_EVENT_DEFAULT).tried("make an event")?;
        Ok(Self { device: Arc::clone(device), raw })
    }

    /// It is now, behind all that was launched on its device's stream.
    ///
    /// # Errors
    /// The device failed.
    pub fn record(&self) -> Result<(), CudaError> {
        self.device.enter()?;
        // SAFETY: both live, and belong to one context.
        unsafe { result::event::record(self.raw, self.device.stream()) }.tried("record an event")
    }

    /// What is launched on `device` from now on waits for it; nothing does where it was never recorded.
    ///
    /// # Errors
    /// The device failed.
    pub fn hold(&self, device: &Device) -> Result<(), CudaError> {
        device.enter()?;
        device.held();
        let flags = sys::CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT;
        // SAFETY: both live; an event may be of another context than the stream that waits.
        unsafe { result::stream::wait_event(device.stream(), self.raw, flags) }.tried("wait for an event")
    }

    /// Seconds on the device since an earlier event of the same stream; none while either is still to come.
    #[must_use]
    pub fn seconds_since(&self, begin: &Self) -> Option<f64> {
        self.device.enter().ok()?;
        // SAFETY: both live and were made alike.
        let milliseconds = unsafe { result::event::elapsed(begin.raw, self.raw) }.ok()?;
        Some(f64::from(milliseconds) / 1e3)
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        if self.device.enter().is_ok() {
            // SAFETY: made in `new`; the driver keeps it as long as a stream waits for it.
            let _ = unsafe { result::event::destroy(self.raw) };
        }
    }
}

/// Time on the device between two moments of its stream.
#[derive(Debug)]
pub struct Timer<'a> {
    device: &'a Device,
    begin: sys::CUevent,
    end: sys::CUevent,
}

impl<'a> Timer<'a> {
    /// Starts now, behind all that was launched.
    ///
    /// # Errors
    /// The device failed.
    pub fn start(device: &'a Device) -> Result<Self, CudaError> {
        device.enter()?;
        let event = || result::event::create(sys::CUevent_flags::CU_EVENT_DEFAULT).tried("make an event");
        let timer = Self { device, begin: event()?, end: event()? };
        // SAFETY: event and stream live.
        unsafe { result::event::record(timer.begin, device.stream()) }.tried("record an event")?;
        Ok(timer)
    }

    /// Seconds since the start, once all that was launched is done.
    ///
    /// # Errors
    /// The device failed.
    pub fn stop(self) -> Result<f64, CudaError> {
        // SAFETY: events and stream live.
        unsafe {
            result::event::record(self.end, self.device.stream()).tried("record an event")?;
            result::event::synchronize(self.end).tried("wait for an event")?;
            let milliseconds = result::event::elapsed(self.begin, self.end).tried("read an event")?;
            Ok(f64::from(milliseconds) / 1e3)
        }
    }
}

impl Drop for Timer<'_> {
    fn drop(&mut self) {
        // SAFETY: made in `start`.
        unsafe {
            let _ = result::event::destroy(self.begin);
            let _ = result::event::destroy(self.end);
        }
    }
}
