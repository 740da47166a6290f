use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::Mutex;

use super::books::State;
use super::file::{self, LedgerError, LedgerOptions};
use super::record::{Outcome, Payer, Record, Used};
use super::shared::{Inner, Progress, Shared, Stands};
use super::{syncer, writer};
use crate::limits::{Account, Amount, Limits, Period, Refused, Scope, Spent, Standing, Sum, check};
use crate::lines::Damage;
use crate::moment::{Clock, Moment};

/// Where requests reserve and settle. Cheap to share; [`Desk::close`] ends it.
#[derive(Debug)]
pub struct Desk {
    shared: Arc<Shared>,
    clock: Arc<Clock>,
    /// Taken when it is closed.
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What was found when the ledger was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Opened {
    pub damage: Damage,
    /// Requests that a crash ended: all that they had reserved counts as used.
    pub lost: usize,
    /// Payers of whom the end of the machine left it open how much they had used: what stood ahead counts as used.
    pub overtaken: usize,
}

/// The disk does not take it: nobody would know of it after a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the ledger cannot be written")]
pub struct NotRecorded;

/// What one request may use. Dropped without [`Reservation::settle`], all of it counts as used.
#[derive(Debug)]
pub struct Reservation {
    shared: Arc<Shared>,
    clock: Arc<Clock>,
    id: u64,
    payer: Payer,
    amount: Amount,
    /// What has to be before an answer is sent.
    stands: Stands,
    /// Something is limited: what a kill would count on top would be missed.
    limited: bool,
    settled: bool,
}

impl Desk {
    /// Reads what was used and starts the threads that write and sync. Blocks on the disk.
    ///
    /// # Errors
    /// The files cannot be read or written, or the newest is not whole.
    pub fn open(options: LedgerOptions) -> Result<(Self, Opened), LedgerError> {
        let clock = Arc::new(Clock::start());
        let now = clock.now();
        let (lines, mut books, damage) = file::open(&options.folder, now.second)?;
        let lost = books.lost(now.wall_ms);
        let overtaken = books.overtaken(now.wall_ms, &options.boot);
        let settles = |records: &[Record]| {
            records.iter().filter(|record| matches!(record, Record::Settle { .. })).count()
        };
        let opened = Opened { damage, lost: lost.len(), overtaken: settles(&overtaken) };
        let mut inner = Inner::new(books, lines.file(), options.sync);
        for record in lost.into_iter().chain(overtaken) {
            inner.enter(record, now.second);
            inner.urgent = true;
        }
        let shared = Arc::new(Shared::new(inner));
        let mut threads = Vec::new();
        let mut start = |name: &str, work: Box<dyn FnOnce() + Send>| {
            let thread = std::thread::Builder::new().name(name.to_owned()).spawn(work);
            thread.map(|thread| threads.push(thread)).map_err(LedgerError::Thread)
        };
        let syncs = options.sync.then(|| Arc::clone(&shared));
        let writes = Arc::clone(&shared);
        start("ledger", Box::new(move || writer::run(&writes, lines, &options)))?;
        if let Some(syncs) = syncs {
            start("ledger-sync", Box::new(move || syncer::run(&syncs)))?;
        }
        Ok((Self { shared, clock, threads: Mutex::new(threads) }, opened))
    }

    /// Takes so much out of what key and tenant may use, and one request; or nothing at all.
    ///
    /// # Errors
    /// The first limit that it does not fit under.
    pub fn reserve(
        &self,
        payer: Payer,
        limits: &PayerLimits<'_>,
        amount: Amount,
    ) -> Result<Reservation, Refused> {
        let now = self.clock.now();
        let mut inner = self.shared.inner.lock();
        fits(&inner, &payer, limits, 1, amount, now)?;
        let id = inner.books.next_id();
        let record = reserve(id, &payer, amount, now);
        let stands = if amount == Amount::NOTHING {
            inner.books.apply(&record, now.second);
            Stands::Already
        } else {
            let number = inner.enter(record, now.second);
            inner.reserved(number, &payer, amount)
        };
        drop(inner);
        if stands != Stands::Already {
            self.shared.wake.notify_one();
        }
        let (shared, clock) = (Arc::clone(&self.shared), Arc::clone(&self.clock));
        let limited = [limits.key, limits.tenant].into_iter().flatten().any(Limits::any);
        Ok(Reservation { shared, clock, id, payer, amount, stands, limited, settled: false })
    }

    /// The last attempt to write the ledger failed.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.shared.progress.borrow().failing
    }

    #[must_use]
    pub fn standing(&self, payer: &Payer, limits: &PayerLimits<'_>) -> Standing {
        let (now, inner) = (self.clock.now(), self.shared.inner.lock());
        let each = sides(payer, limits).map(|(_, account, limits)| match inner.books.state(&account) {
            Some(state) => Standing::of(limits, state, now),
            None => Standing::of(limits, &State::default(), now),
        });
        each.fold(Standing::default(), Standing::tighter)
    }

    /// What every account has used: today, this month, ever; and what requests under way have reserved.
    #[must_use]
    pub fn usage(&self) -> Vec<(Account, [Sum; 3], Amount)> {
        let (now, inner) = (self.clock.now(), self.shared.inner.lock());
        let of = |spent: &Spent| {
            [Period::Day, Period::Month, Period::Total].map(|period| spent.of(period, now.wall_ms))
        };
        inner
            .books
            .accounts()
            .map(|(account, state)| (account.clone(), of(&state.spent), state.reserved))
            .collect()
    }

    /// Writes what is left and ends the threads. What comes after is not recorded. Blocks on the disk.
    pub fn close(&self) {
        self.shared.inner.lock().closing = true;
        self.shared.wake.notify_one();
        for thread in self.threads.lock().drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the ledger ended in a panic");
            }
        }
    }
}

#[cfg(test)]
impl Desk {
    /// As if the disk had refused a sync.
    pub fn sync_fails(&self) {
        self.shared.inner.lock().broken = true;
        self.shared.wake.notify_one();
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.close();
    }
}

/// What limits a payer.
#[derive(Debug, Clone, Copy)]
pub struct PayerLimits<'a> {
    pub key: Option<&'a Limits>,
    pub tenant: Option<&'a Limits>,
}

impl Reservation {
    /// Raises it to at least this much, before that is used.
    ///
    /// # Errors
    /// The first limit that the rest does not fit under; it stays what it was.
    pub fn cover(&mut self, amount: Amount, limits: &PayerLimits<'_>) -> Result<(), Refused> {
        let more = amount.minus(self.amount);
        if self.settled || more == Amount::NOTHING {
            return Ok(());
        }
        let now = self.clock.now();
        let mut inner = self.shared.inner.lock();
        fits(&inner, &self.payer, limits, 0, more, now)?;
        self.amount = self.amount.at_least(amount);
        let number = inner.enter(reserve(self.id, &self.payer, self.amount, now), now.second);
        self.stands = inner.reserved(number, &self.payer, more);
        drop(inner);
        self.shared.wake.notify_one();
        Ok(())
    }

    /// It is over, and so much was used. Only the first call counts.
    pub fn settle(&mut self, used: Used) {
        if std::mem::replace(&mut self.settled, true) {
            return;
        }
        let now = self.clock.now();
        let amount = used.amount();
        let more = amount.minus(self.amount) != Amount::NOTHING;
        let record = Record::Settle { id: self.id, at: now.wall_ms, payer: self.payer.clone(), used };
        let mut inner = self.shared.inner.lock();
        let number = inner.enter(record, now.second);
        if more {
            // The reservation does not cover it.
            self.stands = inner.uncovered(number);
        }
        inner.urgent |= self.limited;
        // Else it can wait for the next reservation: the writer need not be woken for it, but to wait.
        let wakes = more || self.limited || inner.idle;
        drop(inner);
        if wakes {
            self.shared.wake.notify_one();
        }
    }

    #[must_use]
    pub fn amount(&self) -> Amount {
        self.amount
    }

    /// Returns once what stands for this request would outlast the machine, or only the process where nothing is synced.
    ///
    /// # Errors
    /// It cannot be written now.
    pub fn recorded(&self) -> impl Future<Output = Result<(), NotRecorded>> + Send + use<> {
        let (stands, mut progress) = (self.stands, self.shared.progress.subscribe());
        async move {
            match progress.wait_for(|now: &Progress| now.reaches(stands) || now.failing).await {
                Ok(now) if now.reaches(stands) => Ok(()),
                _ => Err(NotRecorded),
            }
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.settle(Used::all(self.amount, Outcome::Lost));
    }
}

fn reserve(id: u64, payer: &Payer, amount: Amount, now: Moment) -> Record {
    let Amount { tokens, money } = amount;
    Record::Reserve { id, at: now.wall_ms, payer: payer.clone(), tokens, money_nanos: money }
}

fn fits(
    inner: &Inner,
    payer: &Payer,
    limits: &PayerLimits<'_>,
    requests: u64,
    amount: Amount,
    now: Moment,
) -> Result<(), Refused> {
    let fresh = State::default();
    for (scope, account, limits) in sides(payer, limits) {
        check(scope, limits, inner.books.state(&account).unwrap_or(&fresh), requests, amount, now)?;
    }
    Ok(())
}

fn sides<'a>(
    payer: &Payer,
    limits: &PayerLimits<'a>,
) -> impl Iterator<Item = (Scope, Account, &'a Limits)> + use<'a> {
    let key = limits.key.zip(payer.key.clone()).map(|(limits, key)| (Scope::Key, Account::Key(key), limits));
    let tenant = Account::Tenant(Arc::clone(&payer.tenant));
    key.into_iter().chain(limits.tenant.map(|limits| (Scope::Tenant, tenant, limits)))
}
