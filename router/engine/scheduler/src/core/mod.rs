//! Which tokens are computed in a tick: continuous batching with chunked prefill over paged KV.
//!
//! A sequence gets its place and the blocks of its whole prompt when it starts, and further blocks as it grows. When they run
//! out, the last of the order (interactive before batch, then by arrival) loses all its blocks and waits for a new start;
//! its tokens stay and are computed again, often from published blocks that nobody took yet. Only those behind in that order
//! can lose blocks to a sequence, and each fits alone, so the first of the order always advances: no livelock.
//!
//! Absences: no queue of requests (that is [`Waiting`](crate::Waiting)), no clock, no backend, no sampling.

mod admission;
mod config;
mod plan;

use std::collections::BTreeMap;

pub use config::{ConfigError, CoreConfig, StartError};
pub(crate) use plan::Room;
pub use plan::{Plan, PlannedRow};

use crate::{
    BlockId, ModelLayout, Moment, NewSequence, SequenceId,
    kv::BlockPool,
    sequence::{Priority, Sequence},
};

/// The sequences of a tier that are being computed.
#[derive(Debug)]
pub struct Core {
    config: CoreConfig,
    block_tokens: usize,
    context_length: usize,
    kv: BlockPool,
    /// In order of arrival.
    sequences: BTreeMap<SequenceId, Sequence>,
    started: u64,
    tick: u64,
    counts: Counts,
}

/// Events since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub preemptions: u64,
    /// Prompt tokens whose KV was found instead of computed.
    pub shared_tokens: u64,
    /// Rows given to the executor.
    pub rows: u64,
}

impl Core {
    /// # Errors
    /// If the bounds contradict each other or the layout.
    pub fn new(config: CoreConfig, layout: &ModelLayout) -> Result<Self, ConfigError> {
        config.check(layout)?;
        Ok(Self {
            config,
            block_tokens: layout.kv_block_tokens,
            context_length: layout.context_length,
            kv: BlockPool::new(layout.kv_blocks),
            sequences: BTreeMap::new(),
            started: 0,
            tick: 0,
            counts: Counts::default(),
        })
    }

    /// Takes a sequence in; the next plan with room for it makes it active. To keep the order of requests, ask
    /// [`Self::has_room`] before.
    ///
    /// # Errors
    /// If it could never be computed: before anything of it is.
    pub fn start(&mut self, new: NewSequence) -> Result<SequenceId, StartError> {
        self.check(new.tokens.len(), new.max_new)?;
        self.started += 1;
        let id = SequenceId(self.started);
        self.sequences.insert(id, Sequence::new(new));
        Ok(id)
    }

    /// # Errors
    /// If a sequence of so many prompt and generated tokens could never be computed.
    pub fn check(&self, prompt: usize, max_new: usize) -> Result<(), StartError> {
        let tokens = prompt.saturating_add(max_new);
        let context_length = self.context_length;
        if prompt == 0 {
            return Err(StartError::Empty);
        }
        if tokens > context_length {
            return Err(StartError::Context { tokens, context_length });
        }
        let (needed, blocks) = (self.blocks_of(tokens), self.kv.len());
        if needed > blocks {
            return Err(StartError::Kv { tokens, needed, blocks });
        }
        Ok(())
    }

    /// The token after the logits of a sequence's last row. It continues in the next plan.
    pub fn push(&mut self, id: SequenceId, token: u32) {
        if let Some(sequence) = self.sequences.get_mut(&id) {
            sequence.tokens.push(token);
        }
    }

    /// Forgets a sequence, finished or not, and frees its KV at once. Its rows in flight must be dropped by then.
    pub fn end(&mut self, id: SequenceId) {
        if let Some(sequence) = self.sequences.remove(&id) {
            self.give_back(&sequence.blocks);
        }
    }

    /// Sequences whose deadline has come, at `now` exactly too. They go on until they are ended.
    pub fn expired(&self, now: Moment) -> impl Iterator<Item = SequenceId> + '_ {
        let due = move |sequence: &Sequence| sequence.deadline.is_some_and(|deadline| now >= deadline);
        self.sequences.iter().filter(move |(_, sequence)| due(sequence)).map(|(id, _)| *id)
    }

    /// The row of this position has passed all attention: its KV is whole. Rows of one sequence come in order.
    pub fn computed(&mut self, id: SequenceId, position: u32) {
        let Some(sequence) = self.sequences.get_mut(&id) else { return };
        debug_assert_eq!(sequence.computed, position as usize, "{id:?}: rows finish in order");
        sequence.computed = position as usize + 1;
        let block_tokens = self.block_tokens;
        while let Some(prefix) = sequence.prefix {
            let (at, end) = (sequence.published, (sequence.published + 1) * block_tokens);
            if end > sequence.computed {
                break;
            }
            let tokens = &sequence.tokens[at * block_tokens..end];
            let published = self.kv.publish(sequence.blocks[at], prefix, tokens);
            sequence.prefix = published.map(|(_, prefix)| prefix);
            if let Some((block, _)) = published {
                sequence.blocks[at] = block;
                sequence.published += 1;
            }
        }
    }

    /// A sequence's block table; empty if it holds none.
    #[must_use]
    pub fn blocks(&self, id: SequenceId) -> &[BlockId] {
        self.sequences.get(&id).map_or(&[], |sequence| &sequence.blocks)
    }

    /// Prompt and generated tokens so far.
    #[must_use]
    pub fn tokens(&self, id: SequenceId) -> &[u32] {
        self.sequences.get(&id).map_or(&[], |sequence| &sequence.tokens)
    }

    /// Tokens of a sequence whose KV another one had computed.
    #[must_use]
    pub fn found(&self, id: SequenceId) -> usize {
        self.sequences.get(&id).map_or(0, |sequence| sequence.found)
    }

    /// All sequences, the preempted included, in order of arrival.
    pub fn ids(&self) -> impl Iterator<Item = SequenceId> + '_ {
        self.sequences.keys().copied()
    }

    /// Tokens of a sequence that are still to be computed before its next logits.
    #[must_use]
    pub fn uncomputed(&self, id: SequenceId) -> usize {
        self.sequences.get(&id).map_or(0, |sequence| sequence.tokens.len() - sequence.computed)
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.sequences.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sequences.is_empty()
    }

    #[must_use]
    pub fn kv(&self) -> &BlockPool {
        &self.kv
    }

    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    fn blocks_of(&self, tokens: usize) -> usize {
        tokens.div_ceil(self.block_tokens)
    }

    /// Last to first, so that what is left of a prefix can be reached.
    fn give_back(&mut self, blocks: &[BlockId]) {
        for block in blocks.iter().rev() {
            self.kv.give_back(*block);
        }
    }

    /// Active sequences.
    fn active(&self) -> impl DoubleEndedIterator<Item = (SequenceId, &Sequence)> {
        self.sequences.iter().filter(|(_, sequence)| sequence.active).map(|(id, sequence)| (*id, sequence))
    }

    /// The last of the order among the active sequences, if it is behind this one.
    fn victim(&self, id: SequenceId, priority: Priority) -> Option<SequenceId> {
        let last =
            |of: Priority| self.active().rfind(|(_, sequence)| sequence.priority == of).map(|(id, _)| id);
        match (priority, last(Priority::Batch)) {
            (Priority::Interactive, Some(batch)) => Some(batch),
            (Priority::Interactive, None) => last(Priority::Interactive).filter(|last| *last > id),
            (Priority::Batch, last) => last.filter(|last| *last > id),
        }
    }
}
