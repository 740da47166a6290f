//! What may be used before it stands on the disk.
//!
//! An upstream may answer sooner than the disk takes a reservation. For payers that ask often a sum stands on the disk ahead of
//! their use: whoever has less than that behind the disk need not wait for it. After the end of the machine (not of the process,
//! which loses nothing that was written) the sum counts as used, as all reservations do that nobody settled: the ledger may say
//! too much, never too little. No I/O, no clock.

use std::collections::{HashMap, VecDeque};

use super::record::Payer;
use crate::limits::Amount;

/// So many reservations between two looks, and it pays to have something ahead.
const OFTEN: u32 = 8;

#[derive(Debug, Default)]
pub struct Ahead {
    payers: HashMap<Payer, Line>,
    /// In the file or on its way there, and not on the disk; oldest first.
    behind: VecDeque<Behind>,
    /// Had to wait for the disk, and ask often.
    waited: Vec<Payer>,
}

#[derive(Debug, Default)]
struct Line {
    /// On the disk.
    ahead: Amount,
    /// A larger one is on its way there.
    rising: bool,
    /// Reserved, and not on the disk.
    behind: Amount,
    /// The most that was behind since the last look.
    most: Amount,
    /// Reservations since the last look.
    asked: u32,
}

#[derive(Debug)]
struct Behind {
    /// The record that has to be on the disk.
    number: u64,
    payer: Payer,
    what: What,
}

#[derive(Debug)]
enum What {
    Reserved(Amount),
    Ahead(Amount),
}

impl Ahead {
    /// This record reserves so much; true if what stands ahead covers it.
    pub fn reserve(&mut self, number: u64, payer: &Payer, amount: Amount) -> bool {
        let line = self.payers.entry(payer.clone()).or_default();
        line.behind = line.behind.plus(amount);
        line.most = line.most.at_least(line.behind);
        line.asked = line.asked.saturating_add(1);
        let covered = line.behind.fits(line.ahead);
        if !covered && line.asked >= OFTEN && !line.rising {
            line.rising = true;
            self.waited.push(payer.clone());
        }
        self.behind.push_back(Behind { number, payer: payer.clone(), what: What::Reserved(amount) });
        covered
    }

    /// What is to be written ahead for those who had to wait; it counts once the record of this number is on the disk.
    pub fn raise(&mut self, number: u64) -> Vec<(Payer, Amount)> {
        let mut raised = Vec::new();
        for payer in std::mem::take(&mut self.waited) {
            let Some(line) = self.payers.get(&payer) else { continue };
            let amount = line.most.plus(line.most).at_least(line.ahead);
            self.behind.push_back(Behind { number, payer: payer.clone(), what: What::Ahead(amount) });
            raised.push((payer, amount));
        }
        raised
    }

    /// All records up to this one are on the disk.
    pub fn durable(&mut self, number: u64) {
        while self.behind.front().is_some_and(|behind| behind.number <= number) {
            let Some(Behind { payer, what, .. }) = self.behind.pop_front() else { return };
            let Some(line) = self.payers.get_mut(&payer) else { continue };
            match what {
                What::Reserved(amount) => line.behind = line.behind.minus(amount),
                What::Ahead(amount) => (line.ahead, line.rising) = (amount, false),
            }
        }
    }

    /// A look from time to time: what was not needed since the last one is to be taken back, in the file as well. It counts no
    /// more from now on.
    pub fn lower(&mut self) -> Vec<(Payer, Amount)> {
        let mut lowered = Vec::new();
        self.payers.retain(|payer, line| {
            let needed = if line.asked < OFTEN { Amount::NOTHING } else { line.most.plus(line.most) };
            if !line.rising && line.ahead != Amount::NOTHING && !line.ahead.fits(needed.plus(needed)) {
                // In neither of the two more than there was.
                line.ahead = line.ahead.minus(line.ahead.minus(needed));
                lowered.push((payer.clone(), line.ahead));
            }
            let used = line.asked > 0 || line.behind != Amount::NOTHING;
            (line.most, line.asked) = (line.behind, 0);
            used || line.rising || line.ahead != Amount::NOTHING
        });
        lowered
    }

    /// Nothing is ahead any more; what the file says has to be taken back.
    pub fn end(&mut self) -> Vec<(Payer, Amount)> {
        let stood = |(payer, line): (Payer, Line)| {
            (line.rising || line.ahead != Amount::NOTHING).then_some((payer, Amount::NOTHING))
        };
        self.payers.drain().filter_map(stood).collect()
    }

    /// There is something to look at.
    pub fn any(&self) -> bool {
        !self.payers.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::money::Money;

    fn tokens(tokens: u64) -> Amount {
        Amount { tokens, money: Money::ZERO }
    }

    fn payer(name: &str) -> Payer {
        Payer { key: None, tenant: name.into() }
    }

    /// Asks one after another, each on the disk before the next, until a sum ahead is wanted.
    fn often(ahead: &mut Ahead, payer: &Payer) -> u64 {
        for number in 1..=u64::from(OFTEN) {
            assert!(!ahead.reserve(number, payer, tokens(10)));
            ahead.durable(number);
        }
        u64::from(OFTEN)
    }

    #[test]
    fn who_asks_often_gets_something_ahead_once_that_is_on_the_disk() {
        let (mut ahead, a) = (Ahead::default(), payer("a"));
        let number = often(&mut ahead, &a);
        assert_eq!(ahead.raise(number), [(a.clone(), tokens(20))]);
        assert!(!ahead.reserve(number + 1, &a, tokens(10)), "it is not there yet");
        assert!(ahead.raise(number + 1).is_empty(), "it is under way");
        ahead.durable(number + 1);
        assert!(ahead.reserve(number + 2, &a, tokens(10)));
        assert!(ahead.reserve(number + 3, &a, tokens(10)));
        assert!(!ahead.reserve(number + 4, &a, tokens(1)), "more than is ahead");
        assert!(!ahead.reserve(number + 5, &payer("b"), tokens(1)), "another's");
        ahead.durable(number + 4);
        assert!(ahead.reserve(number + 6, &a, tokens(20)), "what is on the disk is behind no more");
    }

    #[test]
    fn what_is_not_needed_is_taken_back() {
        let (mut ahead, a) = (Ahead::default(), payer("a"));
        let number = often(&mut ahead, &a);
        ahead.raise(number);
        assert!(ahead.lower().is_empty(), "it is on its way");
        ahead.durable(number);
        assert_eq!(ahead.lower(), [(a.clone(), Amount::NOTHING)], "nobody asked since the last look");
        assert!(!ahead.reserve(number + 1, &a, tokens(1)));
        ahead.durable(number + 1);
        assert!(ahead.lower().is_empty() && ahead.any());
        assert!(ahead.lower().is_empty() && !ahead.any(), "who is gone is forgotten");
    }

    #[test]
    fn at_the_end_nothing_is_ahead() {
        let (mut ahead, a) = (Ahead::default(), payer("a"));
        let number = often(&mut ahead, &a);
        ahead.raise(number);
        ahead.reserve(number + 1, &payer("b"), tokens(1));
        assert_eq!(ahead.end(), [(a, Amount::NOTHING)]);
        ahead.durable(number + 1);
    }
}
