//! What the team is made of: the standard library's, or loom's under `--cfg loom`.

#[cfg(loom)]
pub(super) use of_loom::*;
#[cfg(not(loom))]
pub(super) use of_std::*;

#[cfg(not(loom))]
mod of_std {
    use std::time::{Duration, Instant};
    pub(in super::super) use std::{
        sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence},
        thread::{park, yield_now},
    };

    /// The standard library's cell with loom's accessors.
    pub(in super::super) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub fn new(value: T) -> Self {
            Self(std::cell::UnsafeCell::new(value))
        }

        pub fn with<R>(&self, read: impl FnOnce(*const T) -> R) -> R {
            read(self.0.get())
        }

        pub fn with_mut<R>(&self, write: impl FnOnce(*mut T) -> R) -> R {
            write(self.0.get())
        }
    }

    /// Whether `done` came true within `limit`. The clock is read rarely: reading it costs more than looking.
    pub(in super::super) fn spin_until(limit: Duration, done: impl Fn() -> bool) -> bool {
        let mut start = None;
        loop {
            for _ in 0..64 {
                if done() {
                    return true;
                }
                std::hint::spin_loop();
            }
            let start = *start.get_or_insert_with(Instant::now);
            if start.elapsed() > limit {
                return false;
            }
        }
    }
}

#[cfg(loom)]
mod of_loom {
    pub(in super::super) use loom::{
        cell::UnsafeCell,
        sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence},
        thread::{park, yield_now},
    };

    /// loom has no time: who spins has looked once.
    pub(in super::super) fn spin_until(_: std::time::Duration, done: impl Fn() -> bool) -> bool {
        done()
    }
}
