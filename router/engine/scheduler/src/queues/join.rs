use crate::Row;

/// Counts the parts that each row still misses. The backend keeps the parts and adds them up in the order of their slots,
/// so it does not matter in which order they come.
#[derive(Debug)]
pub(crate) struct JoinPool {
    missing: Vec<u16>,
}

impl JoinPool {
    pub(crate) fn new(rows: usize) -> Self {
        Self { missing: vec![0; rows] }
    }

    pub(crate) fn expect(&mut self, row: Row, parts: u16) {
        self.missing[row.0 as usize] = parts;
    }

    /// True if this was the last part.
    pub(crate) fn arrived(&mut self, row: Row) -> bool {
        let missing = &mut self.missing[row.0 as usize];
        debug_assert!(*missing > 0, "{row:?} expects no part");
        *missing = missing.saturating_sub(1);
        *missing == 0
    }
}
