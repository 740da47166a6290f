use crate::Row;

/// Tells the rows apart that used one place of the arena one after the other: a part that is under way on another device when its
/// sequence ends must not be taken for one of the next.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Visit(u32);

/// The visit that each place of the arena has now, those of other devices as far as this one has heard.
#[derive(Debug)]
pub(crate) struct Visits(Vec<Visit>);

impl Visits {
    pub(crate) fn new(rows: usize) -> Self {
        Self(vec![Visit::default(); rows])
    }

    pub(crate) fn of(&self, row: Row) -> Visit {
        self.0[row.0 as usize]
    }

    /// What is under way of the row is void from now on.
    pub(crate) fn leave(&mut self, row: Row) {
        let visit = &mut self.0[row.0 as usize];
        visit.0 = visit.0.wrapping_add(1);
    }

    /// Another device says so of its own row.
    pub(crate) fn hear(&mut self, row: Row, visit: Visit) {
        self.0[row.0 as usize] = visit;
    }
}
