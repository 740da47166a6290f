use std::cmp::Reverse;

use super::{Core, CoreConfig};
use crate::{SequenceId, sequence::Sequence};

/// Ticks after which a prompt goes before shorter ones.
const PATIENCE: u64 = 8;

/// What to compute next.
#[derive(Debug, Default)]
pub struct Plan {
    /// Rows of one sequence in ascending order of position.
    pub rows: Vec<PlannedRow>,
    /// How many of `rows`, from the first, are of sequences that generate; the others are of prompts.
    pub decode_rows: usize,
    /// Sequences that lost their KV: their rows in flight are void and must be dropped before the new rows go in.
    pub preempted: Vec<SequenceId>,
}

/// What a plan may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room {
    /// Rows that may enter.
    pub(crate) rows: usize,
    /// Rows of prompts in flight.
    pub(crate) prefilling: usize,
    /// Lanes that share all rows evenly, of which this is the plan of one.
    pub(crate) lanes: usize,
    /// Other lanes have rows in flight, after which those of a sequence would come too early.
    pub(crate) elsewhere: bool,
}

/// A token to compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlannedRow {
    pub sequence: SequenceId,
    pub token: u32,
    pub position: u32,
    /// It is the sequence's last token: the next one is drawn from its logits.
    pub logits: bool,
    /// Of these logits the largest is enough.
    pub greedy: bool,
}

impl Core {
    /// Plans a tick of at most so many rows (and never more than configured): first one token of each that generates, then
    /// chunks of prompts, so that no more than a chunk is in flight with the rows of prompts that are. Interactive before
    /// batch in both. Rows count as given to the executor.
    pub(crate) fn plan(&mut self, room: Room, plan: &mut Plan) {
        plan.rows.clear();
        plan.preempted.clear();
        self.tick += 1;
        self.admit(plan);
        let Room { rows, prefilling, lanes, elsewhere } = room;
        let CoreConfig { max_rows, prefill_chunk, .. } = self.config;
        let budget = rows.min(max_rows.div_ceil(lanes));
        let decoding = if lanes > 1 { budget.min(self.generating().div_ceil(lanes)) } else { budget };
        self.plan_decode(decoding, elsewhere, plan);
        plan.decode_rows = plan.rows.len();
        let left = budget - plan.rows.len();
        let chunk = prefill_chunk.div_ceil(lanes).min(prefill_chunk.saturating_sub(prefilling));
        self.plan_prefill(left.min(chunk), elsewhere, plan);
        self.counts.rows += plan.rows.len() as u64;
    }

    /// Sequences of whose prompts nothing is left to issue, in flight or not: what lanes share evenly, so that none is slow for others' tokens.
    fn generating(&self) -> usize {
        self.active().filter(|(_, sequence)| sequence.remaining() <= 1).count()
    }

    /// The longest unserved first, so that a tick with few rows to spare starves nobody.
    fn plan_decode(&mut self, budget: usize, elsewhere: bool, plan: &mut Plan) {
        let one = |sequence: &&Sequence| sequence.remaining() == 1 && !(elsewhere && sequence.is_in_flight());
        let mut order: Vec<_> = self
            .active()
            .filter(|(_, sequence)| one(sequence))
            .map(|(id, sequence)| (Reverse(sequence.priority), sequence.served, id))
            .collect();
        order.sort_unstable();
        for (_, _, id) in order {
            if plan.rows.len() == budget {
                return;
            }
            if self.grow(id, plan) {
                self.issue(id, 1, plan);
            }
        }
    }

    /// Makes sure of a block for the last token. False if the sequence has to wait, or was preempted meanwhile.
    fn grow(&mut self, id: SequenceId, plan: &mut Plan) -> bool {
        loop {
            let Some(sequence) = self.sequences.get(&id).filter(|sequence| sequence.active) else {
                return false;
            };
            if sequence.tokens.len() <= sequence.blocks.len() * self.block_tokens {
                return true;
            }
            let priority = sequence.priority;
            if let Some(block) = self.kv.take() {
                if let Some(sequence) = self.sequences.get_mut(&id) {
                    sequence.blocks.push(block);
                }
                continue;
            }
            match self.victim(id, priority) {
                Some(victim) => self.preempt(victim, plan),
                None => return false,
            }
        }
    }

    /// The shortest rest first, which keeps the mean time to first token low; but who was passed over for [`PATIENCE`]
    /// ticks goes first, in order of arrival, so that a long prompt advances too.
    fn plan_prefill(&mut self, mut budget: usize, elsewhere: bool, plan: &mut Plan) {
        let mut order: Vec<_> = self
            .active()
            .filter(|(_, sequence)| sequence.remaining() > 1 && !(elsewhere && sequence.is_in_flight()))
            .map(|(id, sequence)| {
                let overdue = self.tick - sequence.served >= PATIENCE;
                let rest = if overdue { 0 } else { sequence.remaining() };
                (Reverse(sequence.priority), Reverse(overdue), rest, id)
            })
            .collect();
        order.sort_unstable();
        for (_, _, _, id) in order {
            self.adopt(id);
            let remaining = self.sequences.get(&id).map_or(0, Sequence::remaining);
            let count = remaining.min(budget);
            if count == 0 {
                return;
            }
            self.issue(id, count, plan);
            budget -= count;
        }
    }

    /// Takes over blocks that another sequence published since this one started: of many with one prefix that start
    /// together, the first computes it.
    fn adopt(&mut self, id: SequenceId) {
        let Some(sequence) = self.sequences.get_mut(&id) else { return };
        let full = (sequence.tokens.len() - 1) / self.block_tokens;
        while sequence.issued == sequence.published * self.block_tokens && sequence.published < full {
            let at = sequence.published;
            let tokens = &sequence.tokens[sequence.issued..sequence.issued + self.block_tokens];
            let Some((block, next)) = sequence.prefix.and_then(|prefix| self.kv.find(prefix, tokens)) else {
                return;
            };
            self.kv.hold(block);
            let own = std::mem::replace(&mut sequence.blocks[at], block);
            self.kv.give_back(own);
            sequence.prefix = Some(next);
            sequence.published += 1;
            sequence.issued += self.block_tokens;
            sequence.computed = sequence.issued;
            sequence.found += self.block_tokens;
            self.counts.shared_tokens += self.block_tokens as u64;
        }
    }

    fn issue(&mut self, id: SequenceId, count: usize, plan: &mut Plan) {
        let tick = self.tick;
        let Some(sequence) = self.sequences.get_mut(&id) else { return };
        let last = sequence.tokens.len() - 1;
        let range = sequence.issued..sequence.issued + count;
        plan.rows.extend(sequence.tokens[range.clone()].iter().zip(range).map(|(token, position)| {
            PlannedRow {
                sequence: id,
                token: *token,
                // A context is far below 2^32.
                position: u32::try_from(position).unwrap_or(u32::MAX),
                logits: position == last,
                greedy: sequence.greedy,
            }
        }));
        sequence.issued += count;
        sequence.served = tick;
    }
}
