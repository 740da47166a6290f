use crate::{BlockId, Moment, kv::Prefix};

/// Names a sequence for its whole life; never given twice. A greater one came later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SequenceId(pub u64);

/// Who goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Yields its place and its KV to interactive ones.
    Batch,
    Interactive,
}

/// A sequence to be computed.
#[derive(Debug, Clone)]
pub struct NewSequence {
    /// The prompt, at least one token.
    pub tokens: Vec<u32>,
    /// The most tokens that will be added to it.
    pub max_new: usize,
    pub priority: Priority,
    pub deadline: Option<Moment>,
    /// Sequences of different scopes share no KV, not even by timing: one scope per tenant.
    pub scope: u64,
    /// Each next token is that of the largest logit, so that a backend may choose it.
    pub greedy: bool,
}

/// What the core knows of a sequence.
///
/// `computed <= issued <= tokens.len()`: positions below `computed` have their KV, those below `issued` were given to the
/// executor. With all issued, a row is in flight or its logits wait for [`push`](crate::Core::push).
#[derive(Debug)]
pub(crate) struct Sequence {
    /// Prompt and generated ones.
    pub(crate) tokens: Vec<u32>,
    pub(crate) priority: Priority,
    pub(crate) deadline: Option<Moment>,
    pub(crate) scope: u64,
    pub(crate) greedy: bool,
    /// False before its start and after a preemption: it has no KV then.
    pub(crate) active: bool,
    pub(crate) computed: usize,
    pub(crate) issued: usize,
    pub(crate) blocks: Vec<BlockId>,
    /// Leading blocks that are published, and the prefix that they make; `None` once a block could not be published.
    pub(crate) published: usize,
    pub(crate) prefix: Option<Prefix>,
    /// Tokens whose KV was found, up to the first start's end.
    pub(crate) found: usize,
    /// The tick that last computed something of it, or that made it active.
    pub(crate) served: u64,
}

impl Sequence {
    pub(crate) fn new(new: NewSequence) -> Self {
        Self {
            tokens: new.tokens,
            priority: new.priority,
            deadline: new.deadline,
            scope: new.scope,
            greedy: new.greedy,
            active: false,
            computed: 0,
            issued: 0,
            blocks: Vec::new(),
            published: 0,
            prefix: Some(Prefix::root(new.scope)),
            found: 0,
            served: 0,
        }
    }

    /// Tokens that are not given to the executor yet.
    pub(crate) fn remaining(&self) -> usize {
        self.tokens.len() - self.issued
    }

    pub(crate) fn is_in_flight(&self) -> bool {
        self.issued > self.computed
    }

    /// True from its first place on: inactive then means that it lost its KV. (The first tick is 1.)
    pub(crate) fn was_active(&self) -> bool {
        self.served > 0
    }

    /// Drops all progress but the tokens. The caller takes the blocks before.
    pub(crate) fn reset(&mut self) {
        self.active = false;
        (self.computed, self.issued, self.published) = (0, 0, 0);
        self.prefix = Some(Prefix::root(self.scope));
    }
}
