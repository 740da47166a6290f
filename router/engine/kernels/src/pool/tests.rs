use proptest::prelude::*;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::*;

fn pool(threads: usize) -> Pool {
    Pool::new(NonZeroUsize::new(threads).unwrap()).unwrap()
}

#[test]
fn each_index_runs_once_in_each_of_many_regions() {
    for threads in [1, 2, 5] {
        let pool = pool(threads);
        let counts: Vec<AtomicUsize> = (0..threads).map(|_| AtomicUsize::new(0)).collect();
        for round in 1..=2000 {
            pool.run(&|index| {
                counts[index].fetch_add(1, Ordering::Relaxed);
            });
            assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == round));
        }
    }
}

#[test]
fn each_item_runs_once_with_buffers_of_one_thread_at_a_time() {
    for (threads, items) in [(1, 5), (3, 2), (3, 100), (2, 0)] {
        let pool = pool(threads);
        let counts: Vec<AtomicUsize> = (0..items).map(|_| AtomicUsize::new(0)).collect();
        let buffers: Vec<Mutex<usize>> = (0..threads).map(|_| Mutex::new(0)).collect();
        pool.each(
            items,
            |index| buffers[index].try_lock().unwrap(),
            |item, used| {
                counts[item].fetch_add(1, Ordering::Relaxed);
                **used += 1;
            },
        );
        assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1));
        assert_eq!(buffers.iter().map(|used| *used.lock().unwrap()).sum::<usize>(), items);
    }
}

#[test]
fn workers_come_back_from_sleep() {
    let pool = pool(3);
    let total = AtomicUsize::new(0);
    for _ in 0..20 {
        std::thread::park_timeout(Duration::from_millis(1));
        pool.run(&|index| {
            total.fetch_add(index, Ordering::Relaxed);
        });
    }
    assert_eq!(total.load(Ordering::Relaxed), 20 * 3);
}

#[test]
fn a_panic_reaches_the_caller_and_the_pool_goes_on() {
    let pool = pool(3);
    for bad in 0..3 {
        let result =
            catch_unwind(AssertUnwindSafe(|| pool.run(&|index| assert_ne!(index, bad, "bad index"))));
        assert!(result.is_err());
        let total = AtomicUsize::new(0);
        pool.run(&|index| {
            total.fetch_add(index + 1, Ordering::Relaxed);
        });
        assert_eq!(total.load(Ordering::Relaxed), 6);
    }
}

#[test]
fn a_region_inside_a_region_and_two_callers_do_not_deadlock() {
    let pool = pool(2);
    let total = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..200 {
                    pool.run(&|_| {
                        pool.run(&|_| {
                            total.fetch_add(1, Ordering::Relaxed);
                        });
                    });
                }
            });
        }
    });
    assert_eq!(total.load(Ordering::Relaxed), 2 * 200 * 4);
}

proptest! {
    #[test]
    fn shares_cover_all_items_in_whole_grains(items in 0usize..5000, grain in 1usize..64, count in 1usize..9) {
        let mut end = 0;
        for index in 0..count {
            let range = share(items, grain, index, count);
            prop_assert_eq!(range.start, end);
            prop_assert!(range.start.is_multiple_of(grain) || range.is_empty());
            end = range.end;
        }
        prop_assert_eq!(end, items);
    }
}
