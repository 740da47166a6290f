use std::{num::NonZeroUsize, ops::Range, thread};

#[derive(Debug)]
pub struct Pool(NonZeroUsize);

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct PoolError(std::io::Error);

impl Pool {
    pub fn new(threads: NonZeroUsize) -> Result<Self, PoolError> {
        Ok(Self(threads))
    }

    pub fn threads(&self) -> usize {
        self.0.get()
    }

    pub fn run(&self, job: &(dyn Fn(usize) + Sync)) {
        thread::scope(|scope| {
            for index in 1..self.threads() {
                scope.spawn(move || job(index));
            }
            job(0);
        });
    }
}

pub fn share(items: usize, grain: usize, index: usize, count: usize) -> Range<usize> {
    let grains = items.div_ceil(grain);
    let at = |index: usize| (grains * index / count * grain).min(items);
    at(index)..at(index + 1)
}
