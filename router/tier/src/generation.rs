use std::{
    task::{Context, Poll},
    time::Duration,
};

use serde::Serialize;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{TierError, ToolCallPiece};

/// Tokens of one generation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    pub prompt_tokens: u32,
    /// Of them, those whose KV the tier still had, and did not compute again.
    pub cached_tokens: u32,
    pub completion_tokens: u32,
}

/// Where a generation's time went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timings {
    pub queued: Duration,
    pub prefill: Duration,
    pub decode: Duration,
}

/// Why a generation ended, in OpenAI's terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// The model ended its turn, or a stop string was met.
    Stop,
    /// `max_tokens` or the context's end was reached.
    Length,
    /// The model calls tools, told by [`Event::ToolCall`].
    ToolCalls,
    /// A remote tier withheld the answer.
    ContentFilter,
}

/// The end of a generation.
#[derive(Debug, Clone, PartialEq)]
pub struct Finish {
    pub reason: FinishReason,
    pub usage: Usage,
    pub timings: Timings,
}

/// A token that was generated, and what could have stood in its place.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenLogprob {
    pub chosen: LikelyToken,
    /// The likeliest, most likely first; the chosen one stands among them only if it is one of them.
    pub top: Vec<LikelyToken>,
}

/// A token and how likely it was.
#[derive(Debug, Clone, PartialEq)]
pub struct LikelyToken {
    /// U+FFFD stands for bytes that are no text by themselves.
    pub text: String,
    /// `None` for a token that stands for no text, such as the end of a turn: then `text` is its name.
    pub bytes: Option<Vec<u8>>,
    /// Natural logarithm of its probability under the model as it is, before temperature, penalties and bias; at
    /// least [`Self::LEAST`].
    pub logprob: f32,
}

impl LikelyToken {
    /// OpenAI's number for what is next to impossible; JSON has no infinity.
    pub const LEAST: f32 = -9999.0;
}

/// What a generation yields, in order: `Started`, any number of `Delta` and `ToolCall`, `Finished`.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The prompt fits and is being read.
    Started {
        prompt_tokens: u32,
    },
    /// Text that is final: complete UTF-8, and never part of a stop string.
    Delta {
        text: String,
        /// Of the tokens that this text completes, in order, where [`crate::Sampling::logprobs`] asks for them; a
        /// token that a stop string cuts has none.
        logprobs: Vec<TokenLogprob>,
    },
    /// More of the call with this index; indices begin at 0 and leave none out.
    ToolCall {
        index: usize,
        piece: ToolCallPiece,
    },
    Finished(Finish),
}

/// The tier's side of a generation.
#[derive(Debug)]
pub struct EventSender {
    events: mpsc::Sender<Result<Event, TierError>>,
    cancelled: CancellationToken,
}

impl EventSender {
    /// True once nobody waits for the answer: stop and free the sequence.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.is_cancelled() || self.events.is_closed()
    }

    /// Resolves when the reader has gone.
    pub async fn cancelled(&self) {
        tokio::select! {
            () = self.cancelled.cancelled() => {}
            () = self.events.closed() => {}
        }
    }

    /// Never blocks. False if the reader has gone, or if the tier sent more than the capacity it asked for.
    pub fn send(&self, event: Result<Event, TierError>) -> bool {
        self.events.try_send(event).is_ok()
    }
}

/// The reader's side of a generation. Dropping it cancels the generation.
#[derive(Debug)]
pub struct Generation {
    events: mpsc::Receiver<Result<Event, TierError>>,
    _cancel: DropGuard,
}

impl Generation {
    /// The next event; `None` after the last.
    pub async fn next(&mut self) -> Option<Result<Event, TierError>> {
        self.events.recv().await
    }

    /// As [`Self::next`], for a reader of several generations.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Event, TierError>>> {
        self.events.poll_recv(context)
    }
}

/// A generation's two sides. `capacity` is the most events that it can have: `max_tokens` and a few more, so that
/// the tier never waits for its reader.
#[must_use]
pub fn channel(capacity: usize) -> (EventSender, Generation) {
    let (sender, receiver) = mpsc::channel(capacity.max(4));
    let cancelled = CancellationToken::new();
    let generation = Generation { events: receiver, _cancel: cancelled.clone().drop_guard() };
    (EventSender { events: sender, cancelled }, generation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn dropping_the_reader_cancels() {
        let (sender, generation) = channel(8);
        assert!(!sender.is_cancelled());
        drop(generation);
        sender.cancelled().await;
        assert!(sender.is_cancelled());
        assert!(!sender.send(Ok(Event::Started { prompt_tokens: 1 })));
    }

    #[tokio::test]
    async fn events_arrive_in_order_and_end() {
        let (sender, mut generation) = channel(8);
        assert!(sender.send(Ok(Event::Started { prompt_tokens: 3 })));
        assert!(sender.send(Ok(Event::Delta { text: "a".into(), logprobs: Vec::new() })));
        drop(sender);
        assert!(matches!(generation.next().await, Some(Ok(Event::Started { prompt_tokens: 3 }))));
        assert!(matches!(generation.next().await, Some(Ok(Event::Delta { .. }))));
        assert!(generation.next().await.is_none());
    }
}
