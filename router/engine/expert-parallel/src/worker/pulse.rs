use std::{
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use reprise_scheduler::{DeviceId, Moment, schedule::RowsOut};

use crate::view::DeviceView;

/// What a worker shows of itself, readable at any time.
#[derive(Debug, Default)]
pub struct Pulse {
    /// Microseconds since the cluster's start.
    last: AtomicU64,
    state: AtomicU8,
    /// KV blocks that its sequences hold.
    held: AtomicUsize,
    /// That came out, since its start.
    tokens: AtomicU64,
    prompt: AtomicU64,
    /// One more than a device that takes no messages; 0: none.
    suspect: AtomicUsize,
    /// Why the device failed; set once, before the state.
    failure: OnceLock<String>,
    /// Written by the worker some times a second.
    view: Mutex<DeviceView>,
}

/// How a worker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    Running,
    /// It waits for somebody to read its events.
    Delivering,
    Ended,
    /// Its device failed or panicked.
    Failed,
}

impl Pulse {
    pub(super) fn beat(&self, now: Moment) {
        self.last.store(u64::try_from(now.0.as_micros()).unwrap_or(u64::MAX), Relaxed);
    }

    pub(super) fn set(&self, state: State) {
        self.state.store(state as u8, Relaxed);
    }

    pub(super) fn fail(&self, why: String) {
        // The first reason is the one.
        let _ = self.failure.set(why);
        self.set(State::Failed);
    }

    /// Why its device failed, if it did.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }

    pub(super) fn show(&self, view: DeviceView) {
        // A view is replaced whole: there is no half of one to find after a panic.
        *self.view.lock().unwrap_or_else(PoisonError::into_inner) = view;
    }

    /// What it has done and what waits on it, as it last told.
    #[must_use]
    pub fn view(&self) -> DeviceView {
        self.view.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_held(&self, blocks: usize) {
        self.held.store(blocks, Relaxed);
    }

    pub(super) fn add(&self, out: RowsOut) {
        self.tokens.fetch_add(out.tokens, Relaxed);
        self.prompt.fetch_add(out.prompt, Relaxed);
    }

    /// Rows that came out since its start.
    pub(crate) fn rows_out(&self) -> RowsOut {
        RowsOut { tokens: self.tokens.load(Relaxed), prompt: self.prompt.load(Relaxed) }
    }

    pub(super) fn suspect(&self, device: DeviceId) {
        self.suspect.store(usize::from(device.0) + 1, Relaxed);
    }

    /// A device that took no message of this one's.
    pub(crate) fn suspected(&self) -> Option<DeviceId> {
        let device = self.suspect.swap(0, Relaxed).checked_sub(1)?;
        u16::try_from(device).ok().map(DeviceId)
    }

    #[must_use]
    pub fn state(&self) -> State {
        match self.state.load(Relaxed) {
            0 => State::Running,
            1 => State::Delivering,
            2 => State::Ended,
            _ => State::Failed,
        }
    }

    /// KV blocks that its sequences held when it last looked up.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.load(Relaxed)
    }

    /// How long it has not moved.
    #[must_use]
    pub fn silence(&self, now: Moment) -> Duration {
        now.since(Moment(Duration::from_micros(self.last.load(Relaxed))))
    }
}
