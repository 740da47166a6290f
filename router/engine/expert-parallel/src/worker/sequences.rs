use std::collections::{HashMap, VecDeque};

use reprise_scheduler::{NewSequence, Pipeline, SequenceId};

use crate::cluster::{Outcome, RequestId, Start};

/// The requests of one device: those that wait for room, and those that are computed.
#[derive(Debug, Default)]
pub(super) struct Sequences {
    waiting: VecDeque<Start>,
    running: HashMap<SequenceId, Running>,
}

#[derive(Debug)]
struct Running {
    request: RequestId,
    /// Tokens that may still come.
    left: usize,
}

impl Sequences {
    pub(super) fn wait(&mut self, start: Start) {
        self.waiting.push_back(start);
    }

    pub(super) fn clear(&mut self) {
        self.waiting.clear();
        self.running.clear();
    }

    /// Starts those that there is room for, in order. How many these were.
    pub(super) fn start(&mut self, pipeline: &mut Pipeline, greedy: bool) -> u64 {
        let mut started = 0;
        while let Some(start) = self.waiting.front() {
            let Start { priority, scope, tokens, .. } = start;
            if !pipeline.core().has_room(*priority, *scope, tokens) {
                break;
            }
            let Some(Start { request, tokens, max_new, priority, scope }) = self.waiting.pop_front() else {
                break;
            };
            let new = NewSequence { tokens, max_new, priority, deadline: None, scope, greedy };
            // The cluster has seen that it fits.
            if let Ok(id) = pipeline.start(new) {
                self.running.insert(id, Running { request, left: max_new });
                started += 1;
            }
        }
        started
    }

    pub(super) fn cancel(&mut self, request: RequestId, pipeline: &mut Pipeline) {
        self.waiting.retain(|start| start.request != request);
        let found = self.running.iter().find(|(_, running)| running.request == request);
        if let Some(id) = found.map(|(id, _)| *id) {
            self.running.remove(&id);
            pipeline.end(id);
        }
    }

    /// A sequence's logits have come: it goes on with the token that `choose` chooses, or ends.
    pub(super) fn next(
        &mut self,
        id: SequenceId,
        pipeline: &mut Pipeline,
        choose: impl FnOnce(RequestId) -> Option<u32>,
    ) -> Option<Outcome> {
        let Some(running) = self.running.get_mut(&id) else {
            pipeline.end(id);
            return None;
        };
        let request = running.request;
        let token = choose(request);
        running.left = running.left.saturating_sub(1);
        let last = token.is_none() || running.left == 0;
        match token {
            Some(token) if !last => pipeline.push(id, token),
            _ => {
                self.running.remove(&id);
                pipeline.end(id);
            }
        }
        Some(Outcome { request, token, last })
    }
}
