//! `RUSTFLAGS="--cfg loom" cargo test --release -p reprise-kernels --lib team::model`

use std::sync::Arc;

use super::*;

/// Regions of a caller and one worker, in any order of their steps: each index runs once, alone with what belongs to it, and what it wrote is seen by
/// the caller; the worker ends. A lost wake-up would not show: the caller takes the index of a worker that sleeps.
fn regions(count: usize) {
    let team = Arc::new(Team::new(1));
    let worker = loom::thread::spawn({
        let team = Arc::clone(&team);
        move || team.work(1)
    });
    let runs: [UnsafeCell<usize>; 2] = std::array::from_fn(|_| UnsafeCell::new(0));
    let runs = Cells(&runs);
    for region in 1..=count {
        // SAFETY: an index runs once in a region, and loom fails the test if two accesses to its cell meet.
        team.run(&|index| runs.of(index).with_mut(|runs| unsafe { *runs += 1 }), &|_| {
            worker.thread().unpark()
        });
        for index in 0..2 {
            // SAFETY: as above.
            assert_eq!(runs.of(index).with(|runs| unsafe { *runs }), region);
        }
    }
    team.stop();
    worker.thread().unpark();
    worker.join().unwrap();
}

struct Cells<'a>(&'a [UnsafeCell<usize>; 2]);

// SAFETY: loom checks each access.
unsafe impl Sync for Cells<'_> {}

impl Cells<'_> {
    fn of(&self, index: usize) -> &UnsafeCell<usize> {
        &self.0[index]
    }
}

/// With at most three preemptions: without a bound even one region takes minutes.
#[test]
fn regions_that_follow_each_other() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| regions(2));
}
