use super::visits::Visit;

/// Counts the parts that each of a worker's own rows still misses. The backend keeps the parts and adds them up in the order of their
/// slots, so it does not matter in which order they come, nor from which device.
#[derive(Debug)]
pub(crate) struct JoinPool {
    missing: Vec<(u16, Visit)>,
}

impl JoinPool {
    pub(crate) fn new(rows: usize) -> Self {
        Self { missing: vec![(0, Visit::default()); rows] }
    }

    /// `row`: its number among the worker's own.
    pub(crate) fn expect(&mut self, row: usize, visit: Visit, parts: u16) {
        self.missing[row] = (parts, visit);
    }

    /// True if this was the last part.
    pub(crate) fn arrived(&mut self, row: usize, visit: Visit) -> bool {
        let (missing, of) = &mut self.missing[row];
        debug_assert!(*missing > 0 && *of == visit, "row {row} expects no part");
        *missing = missing.saturating_sub(1);
        *missing == 0
    }
}
