use super::{Core, Plan};
use crate::{
    BlockId, SequenceId,
    kv::Prefix,
    sequence::{Priority, Sequence},
};

/// What those ahead in line will take.
#[derive(Debug, Clone, Copy, Default)]
struct Ahead {
    sequences: usize,
    blocks: usize,
}

impl Core {
    /// True if the next plan would make a sequence active that starts now with these tokens.
    #[must_use]
    pub fn has_room(&self, priority: Priority, scope: u64, tokens: &[u32]) -> bool {
        // Those that started since the last plan become active with the next, each with a place and its blocks; who lost its KV
        // waits for room, and so do all behind it.
        let mut ahead = Ahead::default();
        for sequence in self.sequences.values().filter(|sequence| !sequence.active) {
            if sequence.priority < priority {
                continue;
            }
            if sequence.was_active() {
                return false;
            }
            ahead.sequences += 1;
            ahead.blocks += self.blocks_of(sequence.tokens.len());
        }
        // Without a place it is no use to look for blocks.
        if !self.admissible_behind(ahead, priority, 0) {
            return false;
        }
        let known = self.known(scope, tokens);
        let held = known.iter().filter(|(block, _)| self.kv.holders(*block) > 0).count();
        self.admissible_behind(ahead, priority, self.blocks_of(tokens.len()) - held)
    }

    /// The published blocks that a sequence of these tokens begins with, without its last token: that one is always
    /// computed, since its logits are wanted.
    fn known(&self, scope: u64, tokens: &[u32]) -> Vec<(BlockId, Prefix)> {
        let full = tokens.len().saturating_sub(1) / self.block_tokens;
        let mut prefix = Prefix::root(scope);
        let blocks = tokens.chunks_exact(self.block_tokens).take(full);
        blocks
            .map_while(|tokens| {
                let (block, next) = self.kv.find(prefix, tokens)?;
                prefix = next;
                Some((block, next))
            })
            .collect()
    }

    /// Makes those active that can be, in order; the first that cannot holds up those behind it, or a long prompt could wait
    /// forever behind short ones.
    pub(super) fn admit(&mut self, plan: &mut Plan) {
        while let Some((id, priority)) = self.next_inactive() {
            if !self.admissible(priority, 0) {
                return;
            }
            let again = self.sequences.get(&id).is_some_and(Sequence::was_active);
            let shared = self.hold_known(id);
            if !self.place(id, priority, plan) {
                self.undo(id);
                return;
            }
            self.counts.shared_tokens += (shared * self.block_tokens) as u64;
            // After a preemption it finds what it computed itself.
            if !again && let Some(sequence) = self.sequences.get_mut(&id) {
                sequence.found = shared * self.block_tokens;
            }
        }
    }

    fn next_inactive(&self) -> Option<(SequenceId, Priority)> {
        let inactive = |of: Priority| {
            let mut all = self.sequences.iter();
            all.find(|(_, sequence)| !sequence.active && sequence.priority == of).map(|(id, _)| (*id, of))
        };
        inactive(Priority::Interactive).or_else(|| inactive(Priority::Batch))
    }

    /// Room for a sequence that needs so many blocks, preempting batch sequences for an interactive one.
    fn admissible(&self, priority: Priority, blocks: usize) -> bool {
        self.admissible_behind(Ahead::default(), priority, blocks)
    }

    fn admissible_behind(&self, ahead: Ahead, priority: Priority, blocks: usize) -> bool {
        let (mut active, mut preemptible, mut held) = (0, 0, 0);
        for (_, sequence) in self.active() {
            active += 1;
            if priority > sequence.priority {
                preemptible += 1;
                held += sequence.blocks.iter().filter(|block| self.kv.holders(**block) == 1).count();
            }
        }
        // One block for each that may need its next one soon: a start that is taken back at once is work for nothing.
        let staying = active - preemptible + ahead.sequences;
        staying < self.config.max_sequences && blocks + ahead.blocks + staying <= self.kv.free() + held
    }

    /// Takes a place and the rest of the blocks.
    fn place(&mut self, id: SequenceId, priority: Priority, plan: &mut Plan) -> bool {
        let (tokens, have) = (self.tokens(id).len(), self.blocks(id).len());
        let missing = self.blocks_of(tokens) - have;
        if !self.admissible(priority, missing) {
            return false;
        }
        loop {
            let active = self.active().count();
            if active < self.config.max_sequences && missing + active <= self.kv.free() {
                break;
            }
            let batch = self.active().rfind(|(_, sequence)| sequence.priority < priority).map(|(id, _)| id);
            match batch {
                Some(victim) => self.preempt(victim, plan),
                // Only the headroom for those that were preempted can be missing.
                None => break,
            }
        }
        for _ in 0..missing {
            let Some(block) = self.kv.take() else { return false };
            if let Some(sequence) = self.sequences.get_mut(&id) {
                sequence.blocks.push(block);
            }
        }
        let tick = self.tick;
        if let Some(sequence) = self.sequences.get_mut(&id) {
            sequence.active = true;
            sequence.served = tick;
        }
        true
    }

    /// Holds the published blocks that the sequence begins with; returns how many.
    fn hold_known(&mut self, id: SequenceId) -> usize {
        let known = self
            .sequences
            .get(&id)
            .map_or_else(Vec::new, |sequence| self.known(sequence.scope, &sequence.tokens));
        let Some(sequence) = self.sequences.get_mut(&id) else { return 0 };
        debug_assert!(sequence.blocks.is_empty(), "{id:?} is inactive");
        for (block, prefix) in &known {
            self.kv.hold(*block);
            sequence.blocks.push(*block);
            sequence.prefix = Some(*prefix);
        }
        sequence.published = known.len();
        sequence.computed = known.len() * self.block_tokens;
        sequence.issued = sequence.computed;
        known.len()
    }

    /// Takes a sequence's blocks; it waits for a new start, before all that arrived after it.
    pub(super) fn preempt(&mut self, id: SequenceId, plan: &mut Plan) {
        self.undo(id);
        self.counts.preemptions += 1;
        plan.rows.retain(|row| row.sequence != id);
        plan.preempted.push(id);
    }

    fn undo(&mut self, id: SequenceId) {
        let Some(sequence) = self.sequences.get_mut(&id) else { return };
        let blocks = std::mem::take(&mut sequence.blocks);
        sequence.reset();
        self.give_back(&blocks);
    }
}
