use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;

use super::books::State;
use super::file::{self, LedgerError, LedgerOptions};
use super::record::{Outcome, Payer, Record, Used};
use super::writer::{self, Inner, Progress, Shared};
use crate::limits::{Account, Amount, Limits, Period, Refused, Scope, Spent, Standing, Sum, check};
use crate::lines::Damage;
use crate::moment::{Clock, Moment};

/// Where requests reserve and settle. Cheap to share; [`Desk::close`] ends it.
#[derive(Debug)]
pub struct Desk {
    shared: Arc<Shared>,
    clock: Arc<Clock>,
    /// Taken when it is closed.
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What was found when the ledger was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Opened {
    pub damage: Damage,
    /// Requests that a crash ended: all that they had reserved counts as used.
    pub lost: usize,
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
    /// The record that has to be durable before an answer is sent; 0: there is nothing to record.
    stands: u64,
    settled: bool,
}

impl Desk {
    /// Reads what was used and starts the thread that writes. Blocks on the disk.
    ///
    /// # Errors
    /// The files cannot be read or written, or the newest is not whole.
    pub fn open(options: LedgerOptions) -> Result<(Self, Opened), LedgerError> {
        let clock = Arc::new(Clock::start());
        let now = clock.now();
        let (lines, books, damage) = file::open(&options.folder, now.second)?;
        let lost = books.lost(now.wall_ms);
        let mut inner = Inner { books, queue: Vec::new(), queued: 0, closing: false, dropped: 0 };
        let opened = Opened { damage, lost: lost.len() };
        for record in lost {
            inner.enter(record, now.second);
        }
        let shared = Arc::new(Shared {
            inner: Mutex::new(inner),
            wake: Condvar::new(),
            progress: watch::Sender::new(Progress::default()),
        });
        let writes = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("ledger".to_owned())
            .spawn(move || writer::run(&writes, lines, &options))
            .map_err(LedgerError::Thread)?;
        Ok((Self { shared, clock, thread: Mutex::new(Some(thread)) }, opened))
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
            0
        } else {
            inner.enter(record, now.second)
        };
        drop(inner);
        self.shared.wake.notify_one();
        let (shared, clock) = (Arc::clone(&self.shared), Arc::clone(&self.clock));
        Ok(Reservation { shared, clock, id, payer, amount, stands, settled: false })
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

    /// Writes what is left and ends the thread. What comes after is not recorded. Blocks on the disk.
    pub fn close(&self) {
        self.shared.inner.lock().closing = true;
        self.shared.wake.notify_one();
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("the ledger's thread ended in a panic");
        }
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
        self.stands = inner.enter(reserve(self.id, &self.payer, self.amount, now), now.second);
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
        let number = self.shared.inner.lock().enter(record, now.second);
        self.shared.wake.notify_one();
        if more {
            // The reservation does not cover it.
            self.stands = number;
        }
    }

    #[must_use]
    pub fn amount(&self) -> Amount {
        self.amount
    }

    /// Returns once what stands for this request is durable.
    ///
    /// # Errors
    /// It cannot be written now.
    pub fn recorded(&self) -> impl Future<Output = Result<(), NotRecorded>> + Send + use<> {
        let (stands, mut progress) = (self.stands, self.shared.progress.subscribe());
        async move {
            let reached = progress.wait_for(|now| now.durable >= stands || now.failing).await;
            match reached {
                Ok(now) if now.durable >= stands => Ok(()),
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
