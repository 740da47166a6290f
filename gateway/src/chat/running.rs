//! Generations that have begun to speak: one for each choice, read as one stream of steps.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use reprise_router::Pass;
use reprise_tier::{Event, Finish, Generation, SharedTier, TierError, TokenLogprob, ToolCallPiece};

use crate::charge::Meter;

/// A generation for each choice. Dropping it cancels all.
#[derive(Debug)]
pub struct Running {
    pub tier: SharedTier,
    /// What they have used so far.
    pub meter: Arc<Meter>,
    /// `None` once it has ended.
    generations: Vec<Option<Generation>>,
    /// Choices of one prompt.
    each: u32,
    /// Who was heard last: the others are asked first, so that none waits for good.
    heard: usize,
    /// Events that were taken to have a look.
    peeked: VecDeque<(usize, Event)>,
    until: tokio::time::Instant,
    /// Of the tier's circuit breaker; gone once it has had its verdict.
    pass: Option<Pass>,
}

/// The next step of one of the choices.
#[derive(Debug)]
pub struct Step {
    pub choice: usize,
    pub what: What,
}

#[derive(Debug)]
pub enum What {
    /// One of the two may be empty, not both.
    Piece {
        text: String,
        logprobs: Vec<TokenLogprob>,
    },
    ToolCall {
        index: usize,
        piece: ToolCallPiece,
    },
    End(Finish),
}

impl Running {
    /// `until`: when a tier that does not keep its deadline is given up.
    pub fn new(tier: SharedTier, generations: Vec<Generation>, each: u32, until: Instant) -> Self {
        Self {
            tier,
            meter: Arc::default(),
            generations: generations.into_iter().map(Some).collect(),
            each: each.max(1),
            heard: 0,
            peeked: VecDeque::new(),
            until: until.into(),
            pass: None,
        }
    }

    /// Itself, once the first words have come.
    ///
    /// # Errors
    /// The tier's.
    pub async fn speaking(mut self) -> Result<Self, TierError> {
        loop {
            let (choice, event) = self.event().await?;
            let speaks = !matches!(&event, Event::Started { .. });
            self.peeked.push_back((choice, event));
            if speaks {
                return Ok(self);
            }
        }
    }

    /// The end of it is a verdict on the tier.
    pub fn judge(&mut self, mut pass: Pass) {
        pass.spoke();
        self.pass = Some(pass);
        self.verdict(Ok(()));
    }

    #[must_use]
    pub fn choices(&self) -> usize {
        self.generations.len()
    }

    /// The next piece of a choice, or the end of one. Not to be called once all have ended.
    ///
    /// # Errors
    /// The tier's, or [`TierError::DeadlineExceeded`] if it does not keep its deadline. No choice goes on after it.
    pub async fn step(&mut self) -> Result<Step, TierError> {
        loop {
            let (choice, event) = match self.peeked.pop_front() {
                Some(peeked) => peeked,
                None => self.event().await?,
            };
            let what = match event {
                Event::Started { .. } => continue,
                Event::Delta { text, logprobs } if text.is_empty() && logprobs.is_empty() => continue,
                Event::Delta { text, logprobs } => What::Piece { text, logprobs },
                Event::ToolCall { index, piece } => What::ToolCall { index, piece },
                Event::Finished(finish) => What::End(finish),
            };
            return Ok(Step { choice, what });
        }
    }

    async fn event(&mut self) -> Result<(usize, Event), TierError> {
        let until = self.until;
        // Seldom is there something to wait for, and then only is a timer set.
        let event = match poll_fn(|context| Poll::Ready(self.poll(context))).await {
            Poll::Ready(event) => event,
            Poll::Pending => {
                let next = poll_fn(|context| self.poll(context));
                tokio::time::timeout_at(until, next).await.unwrap_or(Err(TierError::DeadlineExceeded))
            }
        };
        self.verdict(event.as_ref().map(drop));
        event
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<(usize, Event), TierError>> {
        let count = self.generations.len();
        let mut open = false;
        for choice in (1..=count).map(|ahead| (self.heard + ahead) % count) {
            let Some(place) = self.generations.get_mut(choice) else { continue };
            let Some(generation) = place else { continue };
            open = true;
            let Poll::Ready(event) = generation.poll_next(context) else { continue };
            self.heard = choice;
            return Poll::Ready(match event {
                Some(Ok(event)) => {
                    self.meter.note(&event, (choice as u64).is_multiple_of(u64::from(self.each)));
                    if matches!(event, Event::Finished(_)) {
                        *place = None;
                    }
                    Ok((choice, event))
                }
                Some(Err(error)) => Err(error),
                None => Err(no_end()),
            });
        }
        if open { Poll::Pending } else { Poll::Ready(Err(no_end())) }
    }

    fn verdict(&mut self, event: Result<(), &TierError>) {
        match event {
            Ok(()) if self.generations.iter().all(Option::is_none) => {
                self.pass.take().into_iter().for_each(Pass::succeeded);
            }
            Err(error) if speaks_against_the_tier(error) => {
                self.pass.take().into_iter().for_each(|pass| pass.failed(Instant::now()));
            }
            Ok(()) | Err(_) => {}
        }
    }
}

/// What was generated and not read yet was used as well.
impl Drop for Running {
    fn drop(&mut self) {
        let mut context = Context::from_waker(Waker::noop());
        for (choice, generation) in self.generations.iter_mut().enumerate() {
            let Some(generation) = generation else { continue };
            while let Poll::Ready(Some(Ok(event))) = generation.poll_next(&mut context) {
                self.meter.note(&event, (choice as u64).is_multiple_of(u64::from(self.each)));
            }
        }
    }
}

/// Reason to leave it alone if it happens often. A full queue, a refusal of the request and a deadline that the client's
/// wish was too long for are none.
#[must_use]
pub fn speaks_against_the_tier(error: &TierError) -> bool {
    match error {
        TierError::Internal { .. } => true,
        TierError::Upstream { status, .. } => {
            status.is_none_or(|status| status >= 500 || matches!(status, 401 | 403 | 408))
        }
        _ => false,
    }
}

fn no_end() -> TierError {
    TierError::Internal { message: "the generation has no end".to_owned() }
}
