//! Numbers that one worker's device hands to another's, without the host waiting on either side.
//!
//! The sender writes into memory of the receiver: its kernel stores over NVLink or PCIe where the driver lets it, and while both
//! compute; else it writes its own memory and the driver copies, through the host if need be. An event says when all of it is written,
//! which the receiver's stream waits for; another, when it is read, which the sender's stream waits for before it writes there again.
//! On one GPU all of this is the same, with memory that both see.
#![expect(unsafe_code, reason = "calls of the driver")]

use std::{
    cell::Cell,
    sync::{Arc, Mutex, PoisonError},
};

use cudarc::driver::result;

use crate::{Buffer, CudaError, Device, Event, View, error::Tried};

/// Smallest buffer, in numbers.
const LEAST: usize = 4096;

/// A device's ways to others, each with its buffers. They come back when the receiver is done with them: allocating waits for the
/// whole GPU.
#[derive(Debug)]
pub struct Outbox {
    device: Arc<Device>,
    ways: Vec<Way>,
    times: Cell<WayTimes>,
}

/// What writing to other devices took, by the sender's own clock; of what was seen, which the latest are not.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct WayTimes {
    pub transfers: u64,
    pub seconds: f64,
}

#[derive(Debug)]
struct Way {
    to: Arc<Device>,
    /// The sender's kernels write there.
    direct: bool,
    free: Arc<Mutex<Vec<Place>>>,
}

/// Memory of the receiver, and what is known of its use.
#[derive(Debug)]
struct Place {
    there: Buffer<f32>,
    /// Of the sender, where it cannot write there.
    here: Option<Buffer<f32>>,
    /// Of the sender's stream.
    begun: Event,
    written: Event,
    /// Of the receiver's.
    read: Event,
}

/// Numbers on their way.
#[derive(Debug)]
pub struct Transfer {
    /// None only while it is dropped.
    place: Option<Place>,
    len: usize,
    free: Arc<Mutex<Vec<Place>>>,
}

impl Outbox {
    /// With a way to its own device alone.
    #[must_use]
    pub fn new(device: &Arc<Device>) -> Self {
        let own = Way { to: Arc::clone(device), direct: true, free: Arc::default() };
        Self { device: Arc::clone(device), ways: vec![own], times: Cell::default() }
    }

    /// Ways to these, by number, in place of those that there were.
    ///
    /// # Errors
    /// A device failed.
    pub fn connect(&mut self, devices: &[Arc<Device>]) -> Result<(), CudaError> {
        let way = |to: &Arc<Device>| {
            let direct = self.device.reach(to)?;
            Ok(Way { to: Arc::clone(to), direct, free: Arc::default() })
        };
        self.ways = devices.iter().map(way).collect::<Result<_, CudaError>>()?;
        Ok(())
    }

    /// Whether this device's kernels write that one's memory; otherwise the driver copies.
    #[must_use]
    pub fn is_direct(&self, to: usize) -> bool {
        self.ways.get(to).is_some_and(|way| way.direct)
    }

    #[must_use]
    pub fn times(&self) -> WayTimes {
        self.times.get()
    }

    /// So many numbers for the device `to`, which `write` fills on this device's stream.
    ///
    /// # Errors
    /// There is no such way or no room, or those of `write`.
    pub fn send(
        &self,
        to: usize,
        len: usize,
        write: impl FnOnce(View<'_, f32>) -> Result<(), CudaError>,
    ) -> Result<Transfer, CudaError> {
        let none = || CudaError::Shape(format!("no way to device {to} of {}", self.ways.len()));
        let way = self.ways.get(to).ok_or_else(none)?;
        let found = {
            let mut free = way.free.lock().unwrap_or_else(PoisonError::into_inner);
            let fits = free.iter().position(|place| place.there.len() >= len);
            fits.map(|at| free.swap_remove(at))
        };
        let place = match found {
            Some(place) => {
                self.see(&place);
                place.read.hold(&self.device)?;
                place
            }
            None => self.place(way, len.next_power_of_two().max(LEAST))?,
        };
        let there = place.there.range(0..len)?;
        place.begun.record()?;
        match &place.here {
            None => write(there)?,
            Some(here) => {
                let here = here.range(0..len)?;
                write(here)?;
                self.device.enter()?;
                // SAFETY: both places have so many numbers, and stay until the copy is done.
                unsafe {
                    result::memcpy_peer_async(
                        way.to.context(),
                        there.address(),
                        self.device.context(),
                        here.address(),
                        len * size_of::<f32>(),
                        self.device.stream(),
                    )
                }
                .tried("copy to another GPU")?;
            }
        }
        place.written.record()?;
        Ok(Transfer { place: Some(place), len, free: Arc::clone(&way.free) })
    }

    fn place(&self, way: &Way, len: usize) -> Result<Place, CudaError> {
        let here = if way.direct { None } else { Some(Buffer::unset(&self.device, len)?) };
        let event = || Event::new(&self.device);
        let (begun, written, read) = (event()?, event()?, Event::new(&way.to)?);
        Ok(Place { there: Buffer::unset(&way.to, len)?, here, begun, written, read })
    }

    fn see(&self, place: &Place) {
        if let Some(seconds) = place.written.seconds_since(&place.begun) {
            let WayTimes { transfers, seconds: before } = self.times.get();
            self.times.set(WayTimes { transfers: transfers + 1, seconds: before + seconds });
        }
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

    /// Has `read` launch what reads the numbers on `device`, which is the one that they were sent to. Waits for nothing.
    ///
    /// # Errors
    /// A device failed, or those of `read`.
    pub fn take(
        &self,
        device: &Device,
        read: impl FnOnce(View<'_, f32>) -> Result<(), CudaError>,
    ) -> Result<(), CudaError> {
        let Some(place) = &self.place else { return Ok(()) };
        place.written.hold(device)?;
        read(place.there.range(0..self.len)?)?;
        place.read.record()
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            self.free.lock().unwrap_or_else(PoisonError::into_inner).push(place);
        }
    }
}
