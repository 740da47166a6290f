use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::record::{Outcome, Payer, Record, Used};
use crate::limits::{Account, Amount, Spent, Sum, Window};
use crate::money::Money;

/// The state that all records together lead to. Live and after a crash it is made by the same code: [`Books::apply`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Books {
    accounts: HashMap<Account, State>,
    open: BTreeMap<u64, Open>,
    /// What may be used without standing in the file, and in which boot of the machine.
    ahead: HashMap<Payer, (Arc<str>, Amount)>,
    last_id: u64,
}

/// Of one account.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    pub window: Window,
    pub spent: Spent,
    /// By requests that are under way.
    pub reserved: Amount,
}

#[derive(Debug, Clone, PartialEq)]
struct Open {
    payer: Payer,
    amount: Amount,
    /// When how many of its tokens were counted in the windows.
    parts: Vec<Part>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Part {
    second: u64,
    tokens: u64,
}

/// Books as they stand in a file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    last_id: u64,
    accounts: Vec<Line>,
    open: Vec<OpenLine>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    ahead: Vec<AheadLine>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Line {
    account: Account,
    window: Window,
    spent: Spent,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct OpenLine {
    id: u64,
    #[serde(flatten)]
    payer: Payer,
    tokens: u64,
    money_nanos: Money,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct AheadLine {
    boot: Arc<str>,
    #[serde(flatten)]
    payer: Payer,
    tokens: u64,
    money_nanos: Money,
}

impl Books {
    #[must_use]
    pub fn state(&self, account: &Account) -> Option<&State> {
        self.accounts.get(account)
    }

    pub fn accounts(&self) -> impl Iterator<Item = (&Account, &State)> {
        self.accounts.iter()
    }

    pub fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// Takes in a record at this second of the process's clock.
    pub fn apply(&mut self, record: &Record, now: u64) {
        match record {
            Record::Snapshot(snapshot) => *self = Self::of(snapshot),
            Record::Reserve { id, payer, tokens, money_nanos, .. } => {
                self.reserve(*id, payer, Amount { tokens: *tokens, money: *money_nanos }, now);
            }
            Record::Settle { id, at, payer, used } => self.settle(*id, *at, payer, used, now),
            Record::Ahead { boot, payer, tokens, money_nanos } => {
                match (Amount { tokens: *tokens, money: *money_nanos }) {
                    Amount::NOTHING => self.ahead.remove(payer),
                    amount => self.ahead.insert(payer.clone(), (Arc::clone(boot), amount)),
                };
            }
        }
    }

    fn reserve(&mut self, id: u64, payer: &Payer, amount: Amount, now: u64) {
        self.last_id = self.last_id.max(id);
        let before = self.open.remove(&id);
        let fresh = before.is_none();
        let mut open = before.unwrap_or_else(|| Open {
            payer: payer.clone(),
            amount: Amount::NOTHING,
            parts: Vec::new(),
        });
        let more = amount.minus(open.amount);
        let mut second = now;
        for account in payer.accounts() {
            let state = self.accounts.entry(account).or_default();
            second = state.window.add(now, u64::from(fresh), more.tokens);
            state.reserved = state.reserved.plus(more);
        }
        open.amount = open.amount.plus(more);
        open.parts.push(Part { second, tokens: more.tokens });
        self.open.insert(id, open);
    }

    fn settle(&mut self, id: u64, at: i64, payer: &Payer, used: &Used, now: u64) {
        self.last_id = self.last_id.max(id);
        let open = self.open.remove(&id);
        let sum = Sum {
            requests: 1,
            prompt_tokens: used.prompt_tokens,
            completion_tokens: used.completion_tokens,
            money_nanos: used.money_nanos,
        };
        for account in payer.accounts() {
            let state = self.accounts.entry(account).or_default();
            match &open {
                Some(open) => {
                    settle_window(&mut state.window, open, sum.tokens(), now);
                    state.reserved = state.reserved.minus(open.amount);
                }
                None => {
                    state.window.add(now, 1, sum.tokens());
                }
            }
            state.spent.add(at, &sum);
        }
    }

    /// Requests are under way.
    #[must_use]
    pub fn any_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// What nobody will settle any more, settled in full.
    #[must_use]
    pub fn lost(&self, at: i64) -> Vec<Record> {
        let lost = self.open.iter().map(|(id, open)| Record::Settle {
            id: *id,
            at,
            payer: open.payer.clone(),
            used: Used::all(open.amount, Outcome::Lost),
        });
        lost.collect()
    }

    /// What stood ahead, taken back. Of another boot than this one it is settled in full: the machine ended, and nobody knows
    /// how much of it was used.
    pub fn overtaken(&mut self, at: i64, boot: &str) -> Vec<Record> {
        let mut records = Vec::new();
        for (payer, (stood, amount)) in self.ahead.clone() {
            if &*stood != boot {
                let (payer, used) = (payer.clone(), Used::all(amount, Outcome::Lost));
                records.push(Record::Settle { id: self.next_id(), at, payer, used });
            }
            records.push(Record::Ahead { boot: boot.into(), payer, tokens: 0, money_nanos: Money::ZERO });
        }
        records
    }

    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let accounts = self.accounts.iter().map(|(account, state)| Line {
            account: account.clone(),
            window: state.window.clone(),
            spent: state.spent,
        });
        let open = self.open.iter().map(|(id, open)| OpenLine {
            id: *id,
            payer: open.payer.clone(),
            tokens: open.amount.tokens,
            money_nanos: open.amount.money,
            parts: open.parts.clone(),
        });
        let ahead = self.ahead.iter().map(|(payer, (boot, amount))| AheadLine {
            boot: Arc::clone(boot),
            payer: payer.clone(),
            tokens: amount.tokens,
            money_nanos: amount.money,
        });
        Snapshot {
            last_id: self.last_id,
            accounts: accounts.collect(),
            open: open.collect(),
            ahead: ahead.collect(),
        }
    }

    fn of(snapshot: &Snapshot) -> Self {
        let mut books = Self { last_id: snapshot.last_id, ..Self::default() };
        for Line { account, window, spent } in &snapshot.accounts {
            let state = State { window: window.clone(), spent: *spent, ..State::default() };
            books.accounts.insert(account.clone(), state);
        }
        for line in &snapshot.open {
            let amount = Amount { tokens: line.tokens, money: line.money_nanos };
            for account in line.payer.accounts() {
                let state = books.accounts.entry(account).or_default();
                state.reserved = state.reserved.plus(amount);
            }
            books.open.insert(line.id, Open { payer: line.payer.clone(), amount, parts: line.parts.clone() });
        }
        for AheadLine { boot, payer, tokens, money_nanos } in &snapshot.ahead {
            let amount = Amount { tokens: *tokens, money: *money_nanos };
            books.ahead.insert(payer.clone(), (Arc::clone(boot), amount));
        }
        books
    }

    /// No time of the books is after this second: they may come from a machine whose clock was ahead.
    pub fn not_after(&mut self, now: u64) {
        for state in self.accounts.values_mut() {
            state.window.not_after(now);
        }
        for open in self.open.values_mut() {
            open.parts.iter_mut().for_each(|part| part.second = part.second.min(now));
        }
    }
}

/// What was not used is given back where it was taken, the last part first; what was used on top counts from now on.
fn settle_window(window: &mut Window, open: &Open, used: u64, now: u64) {
    let mut back = open.amount.tokens.saturating_sub(used);
    for part in open.parts.iter().rev() {
        let less = back.min(part.tokens);
        window.give_back(part.second, less);
        back -= less;
    }
    let more = used.saturating_sub(open.amount.tokens);
    if more > 0 {
        window.add(now, 0, more);
    }
}
