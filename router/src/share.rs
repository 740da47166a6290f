//! A share of all requests that may be asked twice: without it, retries and hedges would double the load of a tier when it
//! can bear it least.

use parking_lot::Mutex;

/// What is saved up at most.
const MOST: f64 = 10.0;

#[derive(Debug)]
pub struct Share {
    each: f64,
    /// Held for a moment.
    left: Mutex<f64>,
}

impl Share {
    /// `each`: of every request, in [0, 1]; a few are there from the beginning, unless it is 0.
    #[must_use]
    pub fn new(each: f64) -> Self {
        let left = if each > 0.0 { MOST } else { 0.0 };
        Self { each, left: Mutex::new(left) }
    }

    /// A request has come.
    pub fn earn(&self) {
        let mut left = self.left.lock();
        *left = (*left + self.each).min(MOST);
    }

    /// True, and taken, if one more attempt is there.
    #[must_use]
    pub fn take(&self) -> bool {
        let mut left = self.left.lock();
        let enough = *left >= 1.0;
        if enough {
            *left -= 1.0;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_are_a_share_of_the_requests() {
        let share = Share::new(0.25);
        let taken = (0..1000).filter(|_| {
            share.earn();
            share.take()
        });
        assert_eq!(taken.count(), 260 - 1);
        assert!(!Share::new(0.0).take());
    }
}
