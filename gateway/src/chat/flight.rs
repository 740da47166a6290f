//! The same deterministic request, asked again while it is being answered, waits for that answer instead of a second one.
//!
//! Who waited in vain (the answer was cut off, failed, or its client went away) is answered alone: nobody waits twice.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use reprise_cache::{Fingerprint, StoredAnswer, TenantId};
use reprise_tier::Priority;
use tokio::sync::watch;

use super::directives::Directives;
use super::exact::{self, ExactKey};
use super::parse::Ask;
use super::trail::Trail;

type Name = (TenantId, Fingerprint);

/// Who is being answered: closed when that is over.
#[derive(Debug, Clone, Default)]
pub struct Flights(Arc<Mutex<HashMap<Name, watch::Receiver<()>>>>);

/// The first of its kind. Dropped when its answer is stored or will not be: those who wait go on.
#[derive(Debug)]
pub struct Flight {
    flights: Flights,
    name: Name,
    _over: watch::Sender<()>,
}

/// What came of looking for others.
pub enum Waited {
    Answered(Arc<StoredAnswer>),
    /// It has to be answered; others may wait for it if there is a flight.
    Alone(Option<Flight>),
}

pub async fn join(trail: &mut Trail, ask: &Ask, directives: &Directives, key: Option<&ExactKey>) -> Waited {
    let shares = directives.read
        && directives.reuse
        && directives.write
        && directives.priority == Priority::Interactive;
    let config = trail.state.config();
    let shares = shares && config.resilience.single_flight && config.cache.admit;
    let (Some(fingerprint), Some(_)) = (ask.fingerprint.filter(|_| shares), key) else {
        return Waited::Alone(None);
    };
    let name = (trail.caller.tenant.clone(), fingerprint);
    let mut over = match trail.state.flights.enter(name) {
        Ok(flight) => return Waited::Alone(Some(flight)),
        Err(over) => over,
    };
    trail.state.metrics.shared_flights.inc();
    trail.wait_begins();
    let deadline = trail.begun() + config.server.request_timeout;
    // Nothing is ever sent: it ends when the flight is dropped.
    let _ = tokio::time::timeout_at(deadline.into(), over.changed()).await;
    trail.wait_ends();
    match exact::find(trail, ask, directives).1 {
        Some(stored) => Waited::Answered(stored),
        None => Waited::Alone(None),
    }
}

impl Flights {
    fn enter(&self, name: Name) -> Result<Flight, watch::Receiver<()>> {
        let mut flights = self.0.lock();
        if let Some(over) = flights.get(&name) {
            return Err(over.clone());
        }
        let (sender, receiver) = watch::channel(());
        flights.insert(name.clone(), receiver);
        Ok(Flight { flights: self.clone(), name, _over: sender })
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.flights.0.lock().remove(&self.name);
    }
}
