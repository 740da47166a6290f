//! Memory for weights, on huge pages.
//!
//! Decoding reads every weight once for each token: with pages of 4 KiB a core stops at each page's end to look up the next one, and reads 20 GB/s
//! where it reads 28 GB/s from pages of 2 MiB (two cores: 32 and 48 GB/s; a virtual machine on Zen 4). Many matrices are smaller than
//! a huge page, so that buffers are cut from regions of some megabytes. A region is given back when the last buffer in it is dropped.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// A cache line and an AVX-512 register.
const ALIGN: usize = 64;
/// What is reserved at once; a page is taken from the system when it is first written.
const REGION: usize = 32 << 20;
const HUGE_PAGE: usize = 2 << 20;

/// The region that buffers are being cut from, and the bytes of it that are given away.
static CURRENT: Mutex<(Weak<Region>, usize)> = Mutex::new((Weak::new(), 0));

/// Zeroed bytes that start at a multiple of 64.
#[derive(Debug)]
pub(super) struct Buffer {
    region: Arc<Region>,
    offset: usize,
    len: usize,
}

impl Buffer {
    /// `None` where `len` is zero or the system has no such memory.
    pub fn zeroed(len: usize) -> Option<Self> {
        if len == 0 {
            return None;
        }
        let taken = len.checked_next_multiple_of(ALIGN)?;
        if taken > REGION / 2 {
            return Some(Self { region: Arc::new(Region::reserve(taken)?), offset: 0, len });
        }
        let mut current = CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
        let (region, used) = &mut *current;
        if let Some(region) = region.upgrade().filter(|region| *used + taken <= region.len) {
            let offset = *used;
            *used += taken;
            return Some(Self { region, offset, len });
        }
        let fresh = Arc::new(Region::reserve(REGION)?);
        *current = (Arc::downgrade(&fresh), taken);
        Some(Self { region: fresh, offset: 0, len })
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: this part of the region is initialised and belongs to this buffer alone.
        unsafe { std::slice::from_raw_parts(self.region.start().add(self.offset), self.len) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and the buffer is borrowed uniquely.
        unsafe { std::slice::from_raw_parts_mut(self.region.start().add(self.offset), self.len) }
    }
}

/// Zeroed memory from the system, from a multiple of the huge page on.
#[derive(Debug)]
struct Region {
    base: usize,
    reserved: usize,
    len: usize,
}

impl Region {
    fn start(&self) -> *mut u8 {
        std::ptr::with_exposed_provenance_mut(self.base.next_multiple_of(HUGE_PAGE))
    }
}

#[cfg(unix)]
impl Region {
    fn reserve(len: usize) -> Option<Self> {
        let reserved = len.checked_add(HUGE_PAGE).filter(|reserved| isize::try_from(*reserved).is_ok())?;
        // SAFETY: a new private mapping.
        let base = unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            libc::mmap(std::ptr::null_mut(), reserved, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0)
        };
        if base == libc::MAP_FAILED {
            return None;
        }
        let region = Self { base: base.expose_provenance(), reserved, len };
        // Where the system has no huge pages, ordinary ones serve.
        #[cfg(target_os = "linux")]
        // SAFETY: the range is inside the mapping: at most HUGE_PAGE - 1 bytes are skipped at its start.
        unsafe {
            libc::madvise(region.start().cast(), len, libc::MADV_HUGEPAGE);
        }
        Some(region)
    }
}

#[cfg(unix)]
impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: the mapping that `reserve` made, which no buffer uses any more.
        unsafe {
            libc::munmap(std::ptr::with_exposed_provenance_mut(self.base), self.reserved);
        }
    }
}

#[cfg(not(unix))]
impl Region {
    fn reserve(len: usize) -> Option<Self> {
        let reserved = len.checked_add(HUGE_PAGE)?;
        let layout = std::alloc::Layout::from_size_align(reserved, ALIGN).ok()?;
        // SAFETY: the size is not zero.
        let base = unsafe { std::alloc::alloc_zeroed(layout) };
        (!base.is_null()).then(|| Self { base: base.expose_provenance(), reserved, len })
    }
}

#[cfg(not(unix))]
impl Drop for Region {
    fn drop(&mut self) {
        if let Ok(layout) = std::alloc::Layout::from_size_align(self.reserved, ALIGN) {
            // SAFETY: allocated in `reserve` with this layout.
            unsafe { std::alloc::dealloc(std::ptr::with_exposed_provenance_mut(self.base), layout) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_zeroed_aligned_and_apart() {
        let mut buffers: Vec<Buffer> = Vec::new();
        for (index, len) in
            [1, 64, 100, 3 << 20, 20 << 20, 15 << 20, 15 << 20, 15 << 20].into_iter().enumerate()
        {
            let mut buffer = Buffer::zeroed(len).unwrap();
            assert_eq!(buffer.len(), len);
            assert_eq!(buffer.as_ptr().addr() % ALIGN, 0);
            assert!(buffer.iter().all(|byte| *byte == 0));
            buffer.fill(index as u8 + 1);
            buffers.push(buffer);
        }
        for (index, buffer) in buffers.iter().enumerate() {
            assert!(buffer.iter().all(|byte| *byte == index as u8 + 1));
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        assert!(Buffer::zeroed(0).is_none());
        assert!(Buffer::zeroed(usize::MAX).is_none());
        assert!(Buffer::zeroed(usize::MAX / 2).is_none());
    }
}
