//! The replay lease: at most one curation job works on the cache at a time, wherever cron or Kubernetes starts it.
//!
//! It lives in the gateway's memory, on its monotonic clock: the gateway is the one owner of the store, so nobody else
//! has to agree on it, and a restart of the gateway ends the lease, as it should end the job that worked through it.

use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

/// The longest time that a job may ask for at once; a job that lives renews.
pub const LONGEST: Duration = Duration::from_secs(3600);
/// The shortest time, so that a slow network does not lose a lease between two renewals.
pub const SHORTEST: Duration = Duration::from_secs(1);

/// Who holds the lease, if anyone. Pure: the caller brings the time.
#[derive(Debug, Default)]
pub struct LeaseDesk {
    held: Option<Held>,
}

#[derive(Debug)]
struct Held {
    id: Uuid,
    holder: String,
    ttl: Duration,
    expires: Instant,
}

/// A lease as its holder sees it.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "LeaseGrant")]
pub struct Grant {
    pub lease: Uuid,
    pub expires_in_s: u64,
}

/// The lease as everyone else sees it: without the id, which is what proves possession.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "LeaseHolder")]
pub struct Holder {
    pub holder: String,
    pub expires_in_s: u64,
}

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum LeaseError {
    #[error("{} holds the replay lease for {} more seconds", .0.holder, .0.expires_in_s)]
    Taken(Holder),
    #[error("this lease is no longer held: it expired, was released, or the gateway was started again")]
    Lost,
}

impl LeaseDesk {
    /// Gives the lease away if nobody holds it, not even the same holder: two runs may share a name.
    pub fn acquire(&mut self, holder: &str, ttl: Duration, now: Instant) -> Result<Grant, LeaseError> {
        if let Some(current) = self.current(now) {
            return Err(LeaseError::Taken(current));
        }
        let ttl = ttl.clamp(SHORTEST, LONGEST);
        let held = Held { id: Uuid::new_v4(), holder: holder.to_owned(), ttl, expires: now + ttl };
        let grant = held.grant(now);
        self.held = Some(held);
        Ok(grant)
    }

    /// Starts the time anew, by default with the length that was asked for first.
    pub fn renew(&mut self, id: Uuid, ttl: Option<Duration>, now: Instant) -> Result<Grant, LeaseError> {
        let held = self.held.as_mut().filter(|held| held.id == id && held.expires > now);
        let held = held.ok_or(LeaseError::Lost)?;
        if let Some(ttl) = ttl {
            held.ttl = ttl.clamp(SHORTEST, LONGEST);
        }
        held.expires = now + held.ttl;
        Ok(held.grant(now))
    }

    pub fn release(&mut self, id: Uuid, now: Instant) -> Result<(), LeaseError> {
        if self.held.as_ref().is_some_and(|held| held.id == id && held.expires > now) {
            self.held = None;
            return Ok(());
        }
        Err(LeaseError::Lost)
    }

    pub fn current(&self, now: Instant) -> Option<Holder> {
        let held = self.held.as_ref().filter(|held| held.expires > now)?;
        Some(Holder { holder: held.holder.clone(), expires_in_s: held.left(now) })
    }
}

impl Held {
    /// Whole seconds, rounded up: 0 would say that it can be taken now.
    fn left(&self, now: Instant) -> u64 {
        self.expires.saturating_duration_since(now).as_millis().div_ceil(1000) as u64
    }

    fn grant(&self, now: Instant) -> Grant {
        Grant { lease: self.id, expires_in_s: self.left(now) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_second_job_is_told_who_holds_it_and_for_how_long() {
        let (mut desk, now) = (LeaseDesk::default(), Instant::now());
        desk.acquire("a", MINUTE, now).unwrap();
        let refused = desk.acquire("b", MINUTE, now + Duration::from_millis(20_500)).unwrap_err();
        assert_eq!(refused, LeaseError::Taken(Holder { holder: "a".into(), expires_in_s: 40 }));
    }

    #[test]
    fn the_same_name_does_not_run_twice() {
        let (mut desk, now) = (LeaseDesk::default(), Instant::now());
        desk.acquire("cron", MINUTE, now).unwrap();
        assert!(matches!(desk.acquire("cron", MINUTE, now), Err(LeaseError::Taken(_))));
    }

    #[test]
    fn an_expired_lease_is_free_and_its_holder_learns_of_it() {
        let (mut desk, now) = (LeaseDesk::default(), Instant::now());
        let old = desk.acquire("a", MINUTE, now).unwrap().lease;
        let later = now + MINUTE;
        let new = desk.acquire("b", MINUTE, later).unwrap().lease;
        assert_eq!(desk.renew(old, None, later), Err(LeaseError::Lost));
        assert_eq!(desk.release(old, later), Err(LeaseError::Lost));
        assert_eq!(desk.current(later).unwrap().holder, "b");
        assert!(desk.renew(new, None, later).is_ok());
    }

    #[test]
    fn an_expired_lease_cannot_be_renewed_even_if_nobody_took_it() {
        let (mut desk, now) = (LeaseDesk::default(), Instant::now());
        let id = desk.acquire("a", MINUTE, now).unwrap().lease;
        assert_eq!(desk.renew(id, None, now + MINUTE), Err(LeaseError::Lost));
    }

    #[test]
    fn renewal_starts_the_time_anew() {
        let (mut desk, now) = (LeaseDesk::default(), Instant::now());
        let id = desk.acquire("a", MINUTE, now).unwrap().lease;
        let late = now + MINUTE - Duration::from_secs(1);
        assert_eq!(desk.renew(id, None, late).unwrap().expires_in_s, 60);
        assert!(desk.current(late + MINUTE - Duration::from_secs(1)).is_some());
        assert_eq!(desk.renew(id, Some(Duration::from_secs(5)), late).unwrap().expires_in_s, 5);
    }

    #[test]
    fn release_frees_it_at_once() {
        let (mut desk, now) = (LeaseDesk::default(), Instant::now());
        let id = desk.acquire("a", MINUTE, now).unwrap().lease;
        desk.release(id, now).unwrap();
        assert_eq!(desk.current(now), None);
        assert_eq!(desk.release(id, now), Err(LeaseError::Lost));
    }

    #[test]
    fn nobody_takes_it_for_days_or_for_nothing() {
        let (mut desk, now) = (LeaseDesk::default(), Instant::now());
        let id = desk.acquire("a", Duration::MAX, now).unwrap();
        assert_eq!(id.expires_in_s, LONGEST.as_secs());
        desk.release(id.lease, now).unwrap();
        assert_eq!(desk.acquire("a", Duration::ZERO, now).unwrap().expires_in_s, SHORTEST.as_secs());
    }
}
