//! Numbers that one worker's device hands to another's: over memory that both see on one GPU, copied from GPU to GPU else.
#![expect(unsafe_code, reason = "calls of the driver")]

use std::sync::{Arc, Mutex, PoisonError};

use cudarc::driver::result;

use crate::{Buffer, CudaError, Device, View, error::Tried};

/// Smallest buffer, in numbers.
const LEAST: usize = 4096;

/// A device's buffers for what it sends. They come back when the receiver is done with them: allocating waits for the whole GPU.
#[derive(Debug)]
pub struct Outbox {
    device: Arc<Device>,
    free: Arc<Mutex<Vec<Buffer<f32>>>>,
}

/// Numbers on their way. All of them are written before it is sent.
#[derive(Debug)]
pub struct Transfer {
    /// None only while it is dropped.
    buffer: Option<Buffer<f32>>,
    len: usize,
    from: Arc<Device>,
    free: Arc<Mutex<Vec<Buffer<f32>>>>,
}

impl Outbox {
    #[must_use]
    pub fn new(device: &Arc<Device>) -> Self {
        Self { device: Arc::clone(device), free: Arc::default() }
    }

    /// Room for so many numbers, which `write` fills on the device's stream.
    ///
    /// # Errors
    /// There is no room, or those of `write`.
    pub fn send(
        &self,
        len: usize,
        write: impl FnOnce(View<'_, f32>) -> Result<(), CudaError>,
    ) -> Result<Transfer, CudaError> {
        let found = {
            let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
            let fits = free.iter().position(|buffer| buffer.len() >= len);
            fits.map(|at| free.swap_remove(at))
        };
        let buffer = match found {
            Some(buffer) => buffer,
            None => Buffer::new(&self.device, len.next_power_of_two().max(LEAST))?,
        };
        write(buffer.range(0..len)?)?;
        // The receiver's stream knows nothing of this one.
        self.device.synchronize()?;
        let (from, free) = (Arc::clone(&self.device), Arc::clone(&self.free));
        Ok(Transfer { buffer: Some(buffer), len, from, free })
    }
}

impl Transfer {
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Has `read` launch what reads the numbers on `device`, and waits for it. `staging` is memory of that device for as many, used if they come
    /// from another GPU.
    ///
    /// # Errors
    /// `staging` is too small, a device failed, or those of `read`.
    pub fn take(
        &self,
        device: &Device,
        staging: View<'_, f32>,
        read: impl FnOnce(View<'_, f32>) -> Result<(), CudaError>,
    ) -> Result<(), CudaError> {
        let Some(buffer) = &self.buffer else { return Ok(()) };
        let sent = buffer.range(0..self.len)?;
        device.enter()?;
        if device.ordinal() == self.from.ordinal() {
            read(sent)?;
        } else {
            let here = staging.range(0..self.len)?;
            let bytes = self.len * size_of::<f32>();
            // SAFETY: both places have so many numbers, and stay until the device is done.
            unsafe {
                result::memcpy_peer_async(
                    device.context(),
                    here.address(),
                    self.from.context(),
                    sent.address(),
                    bytes,
                    device.stream(),
                )
            }
            .tried("copy from another GPU")?;
            read(here)?;
        }
        device.synchronize()
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        if let Some(buffer) = self.buffer.take() {
            self.free.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
        }
    }
}
