//! Two halves that wake each other, polled as one.
//!
//! A connection and the body that it reads hold wakers for each other. Polled in one task, each step of one would have the task
//! scheduled again for the other, and with it perhaps woken a thread that is idle. Here it is another round of the same poll.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};

use parking_lot::Mutex;

/// Rounds without a result before the scheduler has its turn.
const MOST: usize = 64;

#[derive(Debug)]
pub struct Rounds {
    inner: Arc<Inner>,
    waker: Waker,
}

#[derive(Debug)]
struct Inner {
    /// Who polls now.
    task: Mutex<Waker>,
    polling: AtomicBool,
    /// Woken since the last round began.
    again: AtomicBool,
}

impl Default for Rounds {
    fn default() -> Self {
        let task = Mutex::new(Waker::noop().clone());
        let inner = Arc::new(Inner { task, polling: AtomicBool::default(), again: AtomicBool::default() });
        Self { waker: Waker::from(Arc::clone(&inner)), inner }
    }
}

impl Rounds {
    /// Polls until there is a result, or nothing that could go on.
    pub fn poll<T>(
        &self,
        context: &mut Context<'_>,
        mut round: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        {
            let mut task = self.inner.task.lock();
            if !task.will_wake(context.waker()) {
                task.clone_from(context.waker());
            }
        }
        let mut inside = Context::from_waker(&self.waker);
        for _ in 0..MOST {
            self.inner.again.store(false, SeqCst);
            self.inner.polling.store(true, SeqCst);
            let polled = round(&mut inside);
            self.inner.polling.store(false, SeqCst);
            if polled.is_ready() || !self.inner.again.swap(false, SeqCst) {
                return polled;
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Wake for Inner {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    /// In this order: who ends a round looks at the two in the other, so that one of them sees the other's.
    fn wake_by_ref(self: &Arc<Self>) {
        self.again.store(true, SeqCst);
        if !self.polling.load(SeqCst) {
            self.task.lock().wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Debug, Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    #[test]
    fn who_is_woken_inside_is_polled_again_and_who_is_woken_outside_wakes_the_task() {
        let (rounds, count) = (Rounds::default(), Arc::new(Count::default()));
        let waker = Waker::from(Arc::clone(&count));
        let mut context = Context::from_waker(&waker);
        let (mut polls, mut kept) = (0, None);
        let polled = rounds.poll(&mut context, |context| {
            polls += 1;
            kept = Some(context.waker().clone());
            if polls < 3 {
                context.waker().wake_by_ref();
            }
            Poll::<()>::Pending
        });
        assert!(polled.is_pending());
        assert_eq!((polls, count.0.load(SeqCst)), (3, 0));
        kept.unwrap().wake();
        assert_eq!(count.0.load(SeqCst), 1);
        let polled = rounds.poll(&mut context, |_| Poll::Ready(7));
        assert_eq!((polled, count.0.load(SeqCst)), (Poll::Ready(7), 1));
    }

    #[test]
    fn who_never_rests_leaves_the_thread_to_others() {
        let (rounds, count) = (Rounds::default(), Arc::new(Count::default()));
        let waker = Waker::from(Arc::clone(&count));
        let mut polls = 0;
        let polled = rounds.poll(&mut Context::from_waker(&waker), |context| {
            polls += 1;
            context.waker().wake_by_ref();
            Poll::<()>::Pending
        });
        assert!(polled.is_pending());
        assert_eq!((polls, count.0.load(SeqCst)), (MOST, 1));
    }
}
