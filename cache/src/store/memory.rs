use std::collections::{BTreeMap, VecDeque};

use parking_lot::RwLock;

use super::{LoggedChange, Store, StoreError, Visit, Write};

/// Forgets when dropped: for tests, and for a gateway whose disk cannot be used.
#[derive(Debug, Default)]
pub struct MemoryStore {
    state: RwLock<State>,
}

#[derive(Debug, Default)]
struct State {
    entries: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The newest [`KEPT`] changes.
    changes: VecDeque<LoggedChange>,
    sequence: u64,
}

const KEPT: usize = 65_536;

impl Store for MemoryStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.state.read().entries.get(key).cloned())
    }

    fn write(&self, writes: &[Write]) -> Result<u64, StoreError> {
        let mut state = self.state.write();
        for write in writes {
            let key = match write {
                Write::Put { key, value } => {
                    state.entries.insert(key.clone(), value.clone());
                    key
                }
                Write::Delete { key } => {
                    state.entries.remove(key);
                    key
                }
            };
            state.sequence += 1;
            let change = LoggedChange { sequence: state.sequence, key: key.clone() };
            state.changes.push_back(change);
            if state.changes.len() > KEPT {
                state.changes.pop_front();
            }
        }
        Ok(state.sequence)
    }

    fn scan(&self, prefix: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
        let state = self.state.read();
        let within = state.entries.range(prefix.to_vec()..).take_while(|(key, _)| key.starts_with(prefix));
        within.for_each(|(key, value)| visit(key, value));
        Ok(())
    }

    fn sequence(&self) -> u64 {
        self.state.read().sequence
    }

    fn changes_since(&self, sequence: u64, limit: usize) -> Result<Vec<LoggedChange>, StoreError> {
        let state = self.state.read();
        let from = state.changes.partition_point(|change| change.sequence <= sequence);
        Ok(state.changes.iter().skip(from).take(limit).cloned().collect())
    }

    fn flush(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn size_on_disk(&self) -> Result<u64, StoreError> {
        Ok(0)
    }
}
