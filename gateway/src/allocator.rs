//! The global allocator, with a count of the bytes in use: resident memory alone cannot tell a leak from what the
//! allocator keeps for later.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use mimalloc::MiMalloc;

/// mimalloc, counted. Freed memory goes back to the system: a gateway lives for months and its load comes in waves.
#[derive(Debug)]
pub struct Counted;

/// Bytes that the process has allocated and not freed.
pub fn allocated_bytes() -> i64 {
    SHARDS.iter().map(|shard| shard.0.load(Ordering::Relaxed)).sum()
}

/// Threads count apart, so that they do not wait for one cache line. One may free what another allocated: only the sum
/// has a meaning.
#[repr(align(128))]
struct Shard(AtomicI64);

const COUNT: usize = 32;
static SHARDS: [Shard; COUNT] = [const { Shard(AtomicI64::new(0)) }; COUNT];
static NEXT: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    // A constant without a destructor: to read it allocates nothing, and works to the end of the thread.
    static MINE: Cell<usize> = const { Cell::new(COUNT) };
}

fn count(bytes: i64) {
    let mine = MINE.with(|mine| {
        if mine.get() == COUNT {
            mine.set(NEXT.fetch_add(1, Ordering::Relaxed) % COUNT);
        }
        mine.get()
    });
    SHARDS[mine].0.fetch_add(bytes, Ordering::Relaxed);
}

/// A layout's size is at most `isize::MAX`.
fn signed(size: usize) -> i64 {
    size as i64
}

#[expect(unsafe_code, reason = "an allocator cannot be written without")]
// SAFETY: every call goes to mimalloc as it came; what is counted beside it is not memory.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's contract is this function's own; below alike.
        let place = unsafe { MiMalloc.alloc(layout) };
        if !place.is_null() {
            count(signed(layout.size()));
        }
        place
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        let place = unsafe { MiMalloc.alloc_zeroed(layout) };
        if !place.is_null() {
            count(signed(layout.size()));
        }
        place
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        count(-signed(layout.size()));
        // SAFETY: as above.
        unsafe { MiMalloc.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above.
        let moved = unsafe { MiMalloc.realloc(place, layout, size) };
        if !moved.is_null() {
            count(signed(size) - signed(layout.size()));
        }
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Other tests of this process allocate too: the size is one that they do not reach.
    const LARGE: usize = 1 << 32;

    #[test]
    fn what_is_allocated_is_counted_until_it_is_freed_by_any_thread() {
        let before = allocated_bytes();
        let mut buffer: Vec<u8> = Vec::with_capacity(LARGE);
        assert!(allocated_bytes() - before > signed(LARGE) / 2);
        buffer.reserve_exact(2 * LARGE);
        assert!(allocated_bytes() - before > signed(LARGE) * 3 / 2);
        std::thread::spawn(move || drop(buffer)).join().unwrap();
        assert!(allocated_bytes() - before < signed(LARGE) / 2);
    }
}
