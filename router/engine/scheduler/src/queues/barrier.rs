use crate::SubLayerId;

/// What a device in lock-step tells all others about a tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// It has rows in this tick. All others take part, with rows or without.
    Begin(u64),
    /// It has none left, or had none.
    Done(u64),
}

impl Notice {
    const fn tick(self) -> u64 {
        match self {
            Self::Begin(tick) | Self::Done(tick) => tick,
        }
    }
}

/// One device's view of a tick that many devices pass together.
///
/// A tick begins when the one before is over for all devices with attention. In it, each of these says of every gated sub-layer that it
/// has sent all parts that it will send; experts wait for that from all. Ticks are numbered, so that what is late is told apart; no device
/// can be two ticks ahead of another, for it needs that one's word that the tick between is over.
///
/// With each change from a free pace to lock-step an era of ticks begins (their upper half). A device that hears of an era before it is told
/// itself says nothing of its ticks: it may have rows on their way yet.
#[derive(Debug, Clone)]
pub struct Barrier {
    /// Bit of this device; none: it has no attention.
    me: Option<u64>,
    /// Bits of all devices with attention.
    all: u64,
    tick: u64,
    /// That this device was told of.
    era: u64,
    begun: bool,
    done: u64,
    /// Per sub-layer who has sent all.
    announced: Vec<u64>,
    /// Rows of a free pace are on their way still: nothing is waited for until the next tick.
    settling: bool,
}

impl Barrier {
    /// `ranks`: of the devices with attention, each below 64; `me` among them, or none.
    pub(crate) fn new(me: Option<u32>, ranks: impl Iterator<Item = u32>, sub_layers: usize) -> Self {
        let all = ranks.fold(0, |all, rank| all | bit(rank));
        let announced = vec![0; sub_layers];
        let me = me.map(bit);
        Self { me, all, tick: 0, era: 0, begun: false, done: all, announced, settling: false }
    }

    pub(crate) const fn tick(&self) -> u64 {
        self.tick
    }

    pub(crate) const fn is_settling(&self) -> bool {
        self.settling
    }

    /// No device has rows in it, or none is left of them.
    pub(crate) const fn is_over(&self) -> bool {
        self.done & self.all == self.all
    }

    pub(crate) const fn has_begun(&self) -> bool {
        self.begun
    }

    /// True if rows of this device may enter now.
    pub(crate) fn is_open(&self) -> bool {
        let expected = |me: u64| self.is_over() || (!self.begun && self.done & me == 0);
        self.knows_era() && self.me.is_some_and(expected)
    }

    /// True if all parts of this sub-layer and tick are there that come to this device.
    pub(crate) fn is_whole(&self, sub_layer: SubLayerId) -> bool {
        (self.announced[sub_layer] | self.done) & self.all == self.all
    }

    /// Rows of this device enter; what it must tell the others, if it is the first.
    pub(crate) fn begin(&mut self) -> Option<Notice> {
        let first = self.is_over();
        if first {
            self.advance(self.tick + 1);
        }
        self.begun = true;
        first.then_some(Notice::Begin(self.tick))
    }

    /// Gated sub-layers of this tick of which this device has sent all of its parts.
    pub(crate) fn passed(&self) -> usize {
        let me = self.me.unwrap_or(0);
        self.announced.iter().filter(|who| **who & me != 0).count()
    }

    /// This device has no row: if it is expected to say so, or has not said that its rows are out, it does.
    pub(crate) fn end(&mut self) -> Option<Notice> {
        let me = self.me.filter(|me| self.knows_era() && self.done & me == 0)?;
        self.done |= me;
        Some(Notice::Done(self.tick))
    }

    pub(crate) fn hear(&mut self, rank: u32, notice: Notice) {
        self.advance(notice.tick());
        if notice == Notice::Done(self.tick) {
            self.done |= bit(rank);
        }
    }

    /// The device of this rank has sent all of its parts.
    pub(crate) fn announce(&mut self, rank: u32, sub_layer: SubLayerId, tick: u64) {
        self.advance(tick);
        if tick == self.tick {
            self.announced[sub_layer] |= bit(rank);
        }
    }

    /// This device, for its own parts.
    pub(crate) fn announce_own(&mut self, sub_layer: SubLayerId) {
        self.announced[sub_layer] |= self.me.unwrap_or(0);
    }

    /// From a free pace to lock-step: rows on their way belong to this tick, the first of an era above all before.
    pub(crate) fn settle(&mut self, tick: u64) {
        self.advance(tick);
        self.era = tick >> ERA;
        if tick == self.tick {
            (self.settling, self.begun) = (true, true);
        }
    }

    const fn knows_era(&self) -> bool {
        self.era == self.tick >> ERA
    }

    fn advance(&mut self, tick: u64) {
        if tick > self.tick {
            self.tick = tick;
            (self.begun, self.settling, self.done) = (false, false, 0);
            self.announced.fill(0);
        }
    }
}

/// Bits of a tick's number within its era.
pub(crate) const ERA: u32 = 32;

const fn bit(rank: u32) -> u64 {
    1 << (rank % u64::BITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> [Barrier; 2] {
        [0, 1].map(|me| Barrier::new(Some(me), 0..2, 2))
    }

    #[test]
    fn experts_wait_for_all_and_the_next_tick_too() {
        let [mut a, mut b] = pair();
        assert!(a.is_open() && b.is_open());
        assert_eq!(a.begin(), Some(Notice::Begin(1)));
        b.hear(0, Notice::Begin(1));
        assert!(!a.is_open() && b.is_open(), "b may take part with rows");
        assert_eq!(b.begin(), None);
        a.announce_own(1);
        assert!(!a.is_whole(1));
        a.announce(1, 1, 1);
        assert!(a.is_whole(1) && !a.is_whole(0));
        assert_eq!(a.end(), Some(Notice::Done(1)));
        assert_eq!(a.end(), None, "once");
        b.hear(0, Notice::Done(1));
        assert!(!b.is_open(), "b has rows");
        let done = b.end().expect("says so");
        a.hear(1, done);
        assert!(a.is_open() && b.is_open());
    }

    #[test]
    fn who_has_no_rows_holds_up_nobody() {
        let [mut a, mut b] = pair();
        a.begin();
        b.hear(0, Notice::Begin(1));
        a.announce_own(0);
        a.hear(1, b.end().expect("expected to"));
        assert!(a.is_whole(0));
        assert!(!b.is_open(), "it said that it has none");
        assert_eq!(b.end(), None);
    }

    #[test]
    fn late_words_count_for_their_own_tick() {
        let [mut a, mut b] = pair();
        a.begin();
        b.hear(0, Notice::Begin(1));
        let done = [a.end().expect("a"), b.end().expect("b")];
        a.hear(1, done[1]);
        // a is a tick ahead before b has heard that the last is over.
        a.begin();
        b.announce(0, 0, 2);
        b.hear(0, done[0]);
        assert!(b.is_open(), "in tick 2");
        b.begin();
        b.announce_own(0);
        assert!(b.is_whole(0) && !b.is_whole(1));
    }

    #[test]
    fn a_free_pace_settles_before_the_first_tick() {
        let [mut a, mut b] = pair();
        a.settle(7 << 32);
        assert!(a.is_settling() && !a.is_open());
        let done = a.end().expect("its rows are out");
        // b hears this before it is told of lock-step itself.
        b.hear(0, done);
        assert!(!b.is_open() && b.end().is_none(), "it was not told: it may have rows");
        b.settle(7 << 32);
        assert!(b.is_settling() && !b.is_open());
        a.hear(1, b.end().expect("b"));
        assert!(a.is_open() && b.is_open());
        assert_eq!(a.begin(), Some(Notice::Begin((7 << 32) + 1)));
        assert!(!a.is_settling());
    }
}
