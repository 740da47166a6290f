//! What a cluster, its workers and its user tell each other.

use std::{sync::Arc, time::Duration};

use reprise_scheduler::{Mode, Placement, Priority};

use super::RequestError;

/// Names a request for its whole life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// What happened to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A token came, so long after the cluster's start. None: its end was chosen.
    Token {
        request: RequestId,
        token: Option<u32>,
        last: bool,
        at: Duration,
    },
    Failed {
        request: RequestId,
        error: RequestError,
    },
}

/// What a worker is told.
#[derive(Debug)]
pub enum Command {
    Start(Start),
    Cancel(RequestId),
    SetMode {
        mode: Mode,
        change: u32,
    },
    /// A device was lost: all begin anew.
    Reset {
        epoch: u64,
        placement: Arc<Placement>,
        mode: Mode,
    },
    ResetRecord,
    /// Whether calls and parcels are compared, where there is something to compare them with.
    SetComparing(bool),
    Stop,
}

/// A request for one device.
#[derive(Debug, Clone)]
pub struct Start {
    pub request: RequestId,
    pub tokens: Vec<u32>,
    pub max_new: usize,
    pub priority: Priority,
    pub scope: u64,
}

/// What a worker tells: all tokens of a call at once, as who reads them is woken for each report.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) epoch: u64,
    pub(crate) at: Duration,
    pub(crate) outcomes: Vec<Outcome>,
}

#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) request: RequestId,
    pub(crate) token: Option<u32>,
    pub(crate) last: bool,
}
