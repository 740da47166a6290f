//! Measures a device's [`Profile`]: each kind of call alone, for few and for many entries.

mod calls;
mod host;
mod samples;
#[cfg(test)]
mod tests;
mod times;

use std::time::{Duration, Instant};

use reprise_scheduler::{BackendError, DeviceId, Exchange};

use crate::{
    profile::{Link, Profile, Reuse},
    transport::{Message, SPIN, Transport, threads},
};
use calls::Bench;
use samples::{CALLS, ROUNDS};

/// Entries of large calls.
const MANY: usize = 64;
/// Where a payload is said to go: it comes back at once.
const HERE: DeviceId = DeviceId(0);
/// Round trips of the link's measurement.
const TRIPS: u32 = 400;

/// Since some moment.
type Clock<'a> = &'a dyn Fn() -> Duration;

/// Calls the device as a worker does; nothing but other devices may run on its cores. Calls that follow each other are of different sub-layers and
/// experts, as a worker's are: weights that were used just before would still be in a cache. What is in its arena and its KV afterwards
/// means nothing.
///
/// # Errors
/// The device's.
pub fn measure<D: Exchange>(device: &mut D, name: String, provenance: &str) -> Result<Profile, BackendError> {
    measure_up_to(device, MANY, name, provenance)
}

/// As [`measure()`], with calls of up to so many entries, for devices that many of them suit.
///
/// # Errors
/// The device's.
pub fn measure_up_to<D: Exchange>(
    device: &mut D,
    many: usize,
    name: String,
    provenance: &str,
) -> Result<Profile, BackendError> {
    let begun = Instant::now();
    let profile = alone(device, many, &|| begun.elapsed())?;
    let worker = host::measure(device, many)?;
    let provenance = format!("{provenance}; medians of {} calls each, in {ROUNDS} rounds", ROUNDS * CALLS);
    Ok(Profile { name, provenance, worker, ..profile })
}

/// What calls take, without a worker beside them.
fn alone<D: Exchange>(device: &mut D, many: usize, clock: Clock<'_>) -> Result<Profile, BackendError> {
    let mut bench = Bench::new(device, many, clock);
    bench.embed()?;
    bench.warm_up()?;
    (0..ROUNDS).try_for_each(|_| bench.round())?;
    Ok(times::profile(&bench.done()))
}

/// What simulations need besides, and no schedule: what calls of one expert take less where only some take turns, as weights of few may stay in a cache.
///
/// # Errors
/// The device's.
pub fn measure_reuse<D: Exchange>(device: &mut D) -> Result<Vec<Reuse>, BackendError> {
    let begun = Instant::now();
    reuse(device, &|| begun.elapsed())
}

fn reuse<D: Exchange>(device: &mut D, clock: Clock<'_>) -> Result<Vec<Reuse>, BackendError> {
    let mut bench = Bench::new(device, MANY, clock);
    bench.embed()?;
    (0..ROUNDS).try_for_each(|_| bench.taking_turns())?;
    Ok(times::reuse(&bench.done()))
}

/// What simulations need besides, and no schedule: with what a message takes on its way between two threads that have a core each, one of which looks for it for as long as `spin` before it parks.
#[must_use]
pub fn with_latency(link: Link, spin: Duration) -> Link {
    let latency_us = message_us(SPIN);
    let wake_us = (message_us(Duration::ZERO) - latency_us).max(0.0);
    Link { latency_us, spin_us: spin.as_secs_f64() * 1e6, wake_us, ..link }
}

/// Microseconds, of an empty message.
fn message_us(spin: Duration) -> f64 {
    let (mut ends, _commands) = threads::<()>(2, 4, spin);
    let (Some(mut far), Some(mut near)) = (ends.pop(), ends.pop()) else { return 0.0 };
    let message = || Message::Notice {
        epoch: 0,
        from: DeviceId(0),
        lane: 0,
        notice: reprise_scheduler::Notice::Done(0),
    };
    let wait = Duration::from_secs(1);
    let echo = std::thread::spawn(move || {
        for _ in 0..TRIPS {
            if !matches!(far.receive(wait), Ok(Some(_))) || far.send(DeviceId(0), message()).is_err() {
                return;
            }
        }
    });
    let begun = Instant::now();
    for _ in 0..TRIPS {
        if near.send(DeviceId(1), message()).is_err() || !matches!(near.receive(wait), Ok(Some(_))) {
            break;
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    // It ends with the last message, or a second after the first that is missing.
    let _ = echo.join();
    seconds * 1e6 / f64::from(2 * TRIPS)
}
