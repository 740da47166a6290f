//! Sharing of row-wise work between threads.
#![expect(unsafe_code, reason = "threads write to disjoint parts of one slice")]

use std::ops::Range;

use crate::pool::{Pool, share};

/// Numbers that are worth waking another thread for.
const WORTH_SHARING: usize = 4 * 1024;

/// A slice that threads write to at places of which each belongs to one of them.
#[derive(Debug)]
pub struct Shared<T>(*mut T, usize);

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Shared<T> {}

// SAFETY: only the unsafe `part` gives access; its callers keep parts apart.
unsafe impl<T: Send> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    pub fn new(slice: &mut [T]) -> Self {
        Self(slice.as_mut_ptr(), slice.len())
    }

    /// # Safety
    /// The slice given to `new` is still borrowed, and nobody else holds an overlapping part.
    pub unsafe fn part<'a>(self, range: Range<usize>) -> &'a mut [T] {
        assert!(range.start <= range.end && range.end <= self.1, "{range:?} of {} numbers", self.1);
        // SAFETY: within the slice, and exclusive as the caller promises.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(range.start), range.len()) }
    }
}

/// Calls `work(range of rows, their part of out)` so that all rows of `out` are covered; on several threads where
/// it is much work. `out` is `[rows, width]`.
pub fn for_rows(
    pool: &Pool,
    out: &mut [f32],
    width: usize,
    work: &(dyn Fn(Range<usize>, &mut [f32]) + Sync),
) {
    assert!(width > 0 && out.len().is_multiple_of(width), "{} numbers are not rows of {width}", out.len());
    let rows = out.len() / width;
    if pool.threads() == 1 || rows < 2 || out.len() < WORTH_SHARING {
        return work(0..rows, out);
    }
    let out = Shared::new(out);
    pool.run(&|index| {
        let range = share(rows, 1, index, pool.threads());
        // SAFETY: shares of different threads are disjoint, and `out` outlives the run.
        let part = unsafe { out.part(range.start * width..range.end * width) };
        work(range, part);
    });
}
