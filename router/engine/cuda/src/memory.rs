//! Memory of the device, and of the host where the device reads and writes it.
#![expect(unsafe_code, reason = "calls of the driver; host memory that the driver allocated")]

use std::{ffi::c_void, marker::PhantomData, ops::Range, sync::Arc};

use cudarc::driver::{result, sys};
use half::{bf16, f16};

use crate::{CudaError, Device, error::Tried};

/// Numbers that mean the same to host and device, for any bits.
pub trait Plain: Copy + Default + Send + Sync + 'static {}
impl Plain for u8 {}
impl Plain for u16 {}
impl Plain for u32 {}
impl Plain for i32 {}
impl Plain for f32 {}
impl Plain for bf16 {}
impl Plain for f16 {}
impl Plain for [f32; 2] {}
impl Plain for [u32; 4] {}

/// `len` numbers on the device.
#[derive(Debug)]
pub struct Buffer<T> {
    device: Arc<Device>,
    address: sys::CUdeviceptr,
    len: usize,
    of: PhantomData<T>,
}

/// A part of a buffer. What a launch gets; the buffer must outlive it.
#[derive(Debug)]
pub struct View<'a, T> {
    address: sys::CUdeviceptr,
    len: usize,
    of: PhantomData<&'a T>,
}

impl<T> Clone for View<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for View<'_, T> {}

impl<T: Plain> Buffer<T> {
    /// Zero at first.
    ///
    /// # Errors
    /// There is no room.
    pub fn new(device: &Arc<Device>, len: usize) -> Result<Self, CudaError> {
        let buffer = Self::unset(device, len)?;
        if buffer.bytes() > 0 {
            // SAFETY: within the allocation.
            unsafe { result::memset_d8_async(buffer.address, 0, buffer.bytes(), device.stream()) }
                .tried("clear memory")?;
        }
        Ok(buffer)
    }

    /// Any numbers at first: for memory that another device writes, which would not wait for this one to clear it.
    ///
    /// # Errors
    /// There is no room.
    pub fn unset(device: &Arc<Device>, len: usize) -> Result<Self, CudaError> {
        let bytes = len * size_of::<T>();
        device.enter()?;
        // SAFETY: the address is used within its length, and freed once.
        let address = unsafe { result::malloc_sync(bytes.max(16)) }.map_err(|error| match error.0 {
            sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => CudaError::OutOfMemory { bytes },
            _ => CudaError::Driver { what: "allocate", source: error },
        })?;
        Ok(Self { device: Arc::clone(device), address, len, of: PhantomData })
    }

    /// # Errors
    /// There is no room.
    pub fn from_slice(device: &Arc<Device>, numbers: &[T]) -> Result<Self, CudaError> {
        let buffer = Self::new(device, numbers.len())?;
        buffer.view().upload(device, numbers)?;
        Ok(buffer)
    }

    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.len * size_of::<T>()
    }

    #[must_use]
    pub const fn view(&self) -> View<'_, T> {
        View { address: self.address, len: self.len, of: PhantomData }
    }

    /// # Errors
    /// The range lies beyond the end.
    pub fn range(&self, range: Range<usize>) -> Result<View<'_, T>, CudaError> {
        self.view().range(range)
    }

    /// What it holds, once all launches before are done.
    ///
    /// # Errors
    /// The device failed.
    pub fn to_vec(&self) -> Result<Vec<T>, CudaError> {
        let mut numbers = vec![T::default(); self.len];
        self.view().download(&self.device, &mut numbers)?;
        Ok(numbers)
    }
}

impl<'a, T: Plain> View<'a, T> {
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) const fn address(self) -> u64 {
        self.address
    }

    /// # Errors
    /// The range lies beyond the end.
    pub fn range(self, range: Range<usize>) -> Result<View<'a, T>, CudaError> {
        if range.start > range.end || range.end > self.len {
            return Err(CudaError::Shape(format!("{range:?} of {} numbers", self.len)));
        }
        let address = self.address + (range.start * size_of::<T>()) as u64;
        Ok(Self { address, len: range.len(), of: PhantomData })
    }

    /// The same memory as numbers of another kind.
    ///
    /// # Errors
    /// The bytes are no whole numbers.
    pub fn cast<U: Plain>(self) -> Result<View<'a, U>, CudaError> {
        let bytes = self.len * size_of::<T>();
        if !bytes.is_multiple_of(size_of::<U>()) {
            return Err(CudaError::Shape(format!("{bytes} bytes as numbers of {}", size_of::<U>())));
        }
        Ok(View { address: self.address, len: bytes / size_of::<U>(), of: PhantomData })
    }

    /// Its address under another kind; the length is what it was in numbers.
    pub(crate) const fn as_any<U>(self) -> View<'a, U> {
        View { address: self.address, len: self.len, of: PhantomData }
    }

    /// Waits until it is there.
    ///
    /// # Errors
    /// More numbers than there is room for, or the device failed.
    pub fn upload(self, device: &Device, numbers: &[T]) -> Result<(), CudaError> {
        self.check(numbers.len())?;
        device.enter()?;
        // On the stream: a copy outside of it may still be under way when it returns.
        // SAFETY: both sides have so many numbers, which stay until the copy is done.
        unsafe { result::memcpy_htod_async(self.address, numbers, device.stream()) }
            .tried("copy to the device")?;
        device.synchronize()
    }

    /// Waits for all launches before.
    ///
    /// # Errors
    /// More numbers than there are, or the device failed.
    pub fn download(self, device: &Device, numbers: &mut [T]) -> Result<(), CudaError> {
        self.check(numbers.len())?;
        device.enter()?;
        device.synchronize()?;
        // SAFETY: both sides have so many numbers.
        unsafe { result::memcpy_dtoh_sync(numbers, self.address) }.tried("copy from the device")
    }

    /// Does not wait: what `from` holds must stay until [`Device::synchronize`].
    ///
    /// # Errors
    /// More numbers than there is room for, or the device failed.
    pub fn upload_pinned(self, device: &Device, from: &Pinned<T>, count: usize) -> Result<(), CudaError> {
        self.check(count)?;
        if count > from.len {
            return Err(CudaError::Shape(format!("{count} numbers of {}", from.len)));
        }
        device.enter()?;
        // SAFETY: both sides have so many numbers; the pinned memory is freed after a synchronisation only.
        unsafe { result::memcpy_htod_async(self.address, &from.as_slice()[..count], device.stream()) }
            .tried("copy to the device")
    }

    /// As [`Self::upload_pinned`], of the numbers from `begin` on that fill this.
    pub(crate) fn upload_from(
        self,
        device: &Device,
        from: &Pinned<T>,
        begin: usize,
    ) -> Result<(), CudaError> {
        let numbers = from.as_slice().get(begin..begin + self.len);
        let Some(numbers) = numbers else {
            return Err(CudaError::Shape(format!("{} numbers from {begin} of {}", self.len, from.len)));
        };
        device.enter()?;
        // SAFETY: both sides have so many numbers; the caller leaves them alone until the device is done.
        unsafe { result::memcpy_htod_async(self.address, numbers, device.stream()) }
            .tried("copy to the device")
    }

    /// Does not wait: it is there after [`Device::synchronize`].
    ///
    /// # Errors
    /// More numbers than there is room for, or the device failed.
    pub fn download_pinned(self, device: &Device, to: &mut Pinned<T>) -> Result<(), CudaError> {
        if to.len < self.len {
            return Err(CudaError::Shape(format!("{} numbers into room for {}", self.len, to.len)));
        }
        device.enter()?;
        // SAFETY: both sides have so many numbers; the pinned memory is freed after a synchronisation only.
        unsafe {
            result::memcpy_dtoh_async(&mut to.as_mut_slice()[..self.len], self.address, device.stream())
        }
        .tried("copy from the device")
    }

    fn check(self, count: usize) -> Result<(), CudaError> {
        if count > self.len {
            return Err(CudaError::Shape(format!("{count} numbers in a place for {}", self.len)));
        }
        Ok(())
    }
}

impl<T> Drop for Buffer<T> {
    fn drop(&mut self) {
        // Freeing waits for the launches that use it.
        if self.device.enter().is_ok() {
            // SAFETY: allocated in `new`, and nobody has it any more.
            let _ = unsafe { result::free_sync(self.address) };
        }
    }
}

/// Host memory that the device copies from and to without waiting.
#[derive(Debug)]
pub struct Pinned<T> {
    device: Arc<Device>,
    at: *mut c_void,
    len: usize,
    of: PhantomData<T>,
}

// SAFETY: it owns the memory, which any thread of the process may read and write.
unsafe impl<T: Plain> Send for Pinned<T> {}

impl<T: Plain> Pinned<T> {
    /// # Errors
    /// There is no room.
    pub fn new(device: &Arc<Device>, len: usize) -> Result<Self, CudaError> {
        device.enter()?;
        // SAFETY: used within its length, and freed once.
        let at = unsafe { result::malloc_host((len * size_of::<T>()).max(16), 0) }
            .tried("allocate on the host")?;
        let mut pinned = Self { device: Arc::clone(device), at, len, of: PhantomData };
        pinned.as_mut_slice().fill(T::default());
        Ok(pinned)
    }

    #[must_use]
    pub const fn as_slice(&self) -> &[T] {
        // SAFETY: so many numbers were allocated and written in `new`; the driver aligns to a page.
        unsafe { std::slice::from_raw_parts(self.at.cast::<T>(), self.len) }
    }

    #[must_use]
    pub const fn as_mut_slice(&mut self) -> &mut [T] {
        // SAFETY: as above; any bits are a number.
        unsafe { std::slice::from_raw_parts_mut(self.at.cast::<T>(), self.len) }
    }
}

impl<T> Drop for Pinned<T> {
    fn drop(&mut self) {
        if self.device.enter().is_ok() && self.device.synchronize().is_ok() {
            // SAFETY: allocated in `new`, and no copy is under way.
            let _ = unsafe { result::free_host(self.at) };
        }
    }
}
