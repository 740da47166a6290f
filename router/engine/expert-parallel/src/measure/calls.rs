//! Calls of a device, one kind after the other.

use reprise_scheduler::{
    AttentionRow, BackendError, BlockId, Exchange, ExpertId, PartWork, RemotePart, Row, SubLayerId,
    SubLayerKind, Visit,
};

use super::{
    Clock, HERE,
    samples::{CALLS, ROUNDS, Samples},
};
use crate::{cluster::RequestId, worker::greedy};

/// Entries of small calls.
pub(super) const FEW: usize = 8;
/// Experts of a call for several, at most.
const SPREAD: ExpertId = 32;
/// Experts that take turns, at most: of more the weights are in no cache. And parts of their calls.
const REUSED: usize = 64;
pub(super) const REUSED_PARTS: [usize; 4] = [1, 4, 16, 64];

/// What is called; with how many entries, see each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Call {
    Embed,
    Gate,
    /// Parts of one expert.
    Expert,
    /// For several experts, of so many parts each.
    Together,
    Join,
    /// Of one row, which waits for what was packed before.
    Waiting,
    /// Packed and taken in, of inputs and of parts.
    Link,
    /// Rows of a sequence each.
    Attention,
    /// The same, of few, without positions before and with [`Done::far`] of them.
    Near,
    Far,
    /// Rows of one sequence; and many, without positions before and with so many.
    Prompt,
    PromptNear,
    PromptFar,
    FeedForward,
    Head,
    /// So many experts take turns, of which this is one's call.
    TakingTurns {
        parts: usize,
    },
}

pub(super) struct Bench<'a, D> {
    device: &'a mut D,
    clock: Clock<'a>,
    many: usize,
    attention: Vec<SubLayerId>,
    dense: Vec<SubLayerId>,
    gated: Vec<SubLayerId>,
    /// Calls of experts, from 1: each call's were used longest ago.
    turn: usize,
    done: Done,
    chosen: Vec<ExpertId>,
    tokens: Vec<Option<u32>>,
    logits: Vec<f32>,
}

/// What was called, and what it took.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) samples: Samples<(Call, usize)>,
    /// Of the device's arena.
    pub(super) rows: usize,
    /// Rows before which calls have positions or none: of a sequence each, and of one.
    pub(super) few: usize,
    pub(super) many_of_one: usize,
    /// These positions.
    pub(super) far: u32,
    /// Of the first gated sub-layer.
    experts: ExpertId,
}

impl Done {
    /// Experts of a call for several, of so many parts each: as many as there are rows for, up to [`SPREAD`].
    pub(super) fn spread(&self, each: usize) -> usize {
        usize::from(self.experts.min(SPREAD)).min(self.rows / each).max(1)
    }
}

type Outcome = Result<(), BackendError>;

fn nth(of: &[SubLayerId], call: usize) -> SubLayerId {
    of[call % of.len()]
}

impl<'a, D: Exchange> Bench<'a, D> {
    pub(super) fn new(device: &'a mut D, many: usize, clock: Clock<'a>) -> Self {
        let layout = device.layout();
        let all = |wanted: fn(&SubLayerKind) -> bool| -> Vec<SubLayerId> {
            (0..layout.sub_layers.len()).filter(|at| wanted(&layout.sub_layers[*at])).collect()
        };
        let attention = all(|kind| *kind == SubLayerKind::Attention);
        let dense = all(|kind| *kind == SubLayerKind::DenseFeedForward);
        let gated = all(|kind| matches!(kind, SubLayerKind::Experts { .. }));
        let experts = match gated.first().map(|at| layout.sub_layers[*at]) {
            Some(SubLayerKind::Experts { experts, .. }) => experts,
            _ => 0,
        };
        let far = (layout.context_length.min(layout.kv_blocks * layout.kv_block_tokens / FEW) / 2).max(1);
        // As many of a prompt as have room behind the others' positions.
        let room = layout.context_length.saturating_sub(far).max(1);
        let done = Done {
            samples: Samples::default(),
            rows: layout.rows,
            few: layout.rows.min(FEW),
            many_of_one: layout.rows.min(many).min(room),
            far: u32::try_from(far).unwrap_or(1),
            experts,
        };
        let (chosen, tokens, logits) = Default::default();
        Self { device, clock, many, attention, dense, gated, turn: 0, done, chosen, tokens, logits }
    }

    pub(super) fn done(self) -> Done {
        self.done
    }

    /// All rows have states, without which a device may refuse sub-layers.
    pub(super) fn embed(&mut self) -> Outcome {
        let all = self.rows(usize::MAX);
        self.device.embed(&all, &vec![1; all.len()])
    }

    /// KV that was never written is slower, and is not read as other is.
    pub(super) fn warm_up(&mut self) -> Outcome {
        if self.attention.is_empty() {
            return Ok(());
        }
        let rows = self.rows(self.many);
        for at in 0..ROUNDS * CALLS {
            self.attend(nth(&self.attention, at), &rows, 0)?;
        }
        self.write(self.done.few, self.done.far)
    }

    /// Everything a few times.
    pub(super) fn round(&mut self) -> Outcome {
        self.line(Call::Embed, self.many, |bench, rows, _| bench.device.embed(rows, &vec![1; rows.len()]))?;
        if !self.gated.is_empty() {
            self.gate_and_experts()?;
        }
        if !self.attention.is_empty() {
            self.attentions()?;
        }
        if !self.dense.is_empty() {
            self.line(Call::FeedForward, self.many, |bench, rows, call| {
                bench.device.feed_forward(nth(&bench.dense, call), rows)
            })?;
        }
        self.line(Call::Head, self.many, |bench, rows, _| bench.head(rows))
    }

    fn rows(&self, count: usize) -> Vec<Row> {
        let most = self.done.rows.min(count);
        (0..u32::try_from(most).unwrap_or(0)).map(Row).collect()
    }

    /// `call` is told which it is of its kind, from 0.
    fn time(
        &mut self,
        kind: Call,
        entries: usize,
        mut call: impl FnMut(&mut Self, usize) -> Outcome,
    ) -> Outcome {
        for _ in 0..CALLS {
            let at = self.done.samples.count((kind, entries));
            let begun = (self.clock)();
            call(self, at)?;
            let time = (self.clock)().saturating_sub(begun);
            self.done.samples.add((kind, entries), time.as_secs_f64() * 1e6);
        }
        Ok(())
    }

    /// Of one row, two, four and so on.
    fn line(
        &mut self,
        kind: Call,
        many: usize,
        mut call: impl FnMut(&mut Self, &[Row], usize) -> Outcome,
    ) -> Outcome {
        let mut counts: Vec<_> = powers(many).map(|count| count.min(self.done.rows)).collect();
        counts.dedup();
        for count in counts {
            let rows = self.rows(count);
            self.time(kind, count, |bench, at| call(bench, &rows, at))?;
        }
        Ok(())
    }

    fn head(&mut self, rows: &[Row]) -> Outcome {
        self.tokens.clear();
        if self.device.greedy(rows, &mut self.tokens)? {
            return Ok(());
        }
        self.device.logits(rows, &mut self.logits)?;
        // The choice belongs to the call.
        let mut choose = greedy();
        let vocabulary = self.device.layout().vocabulary.max(1);
        self.logits.chunks_exact_mut(vocabulary).for_each(|of| {
            choose(RequestId(0), of);
        });
        Ok(())
    }

    fn gate_and_experts(&mut self) -> Outcome {
        self.line(Call::Gate, self.many, |bench, rows, call| {
            bench.chosen.clear();
            bench.device.gate(nth(&bench.gated, call), rows, &mut bench.chosen)
        })?;
        self.line(Call::Expert, self.many, |bench, rows, _| {
            let (at, expert) = bench.next();
            bench.device.experts(at, &parts_of(rows, expert))
        })?;
        for each in powers(self.many.min(self.done.rows)) {
            self.together(each)?;
        }
        self.line(Call::Join, self.many, |bench, rows, call| {
            bench.device.join(nth(&bench.gated, call), rows)
        })?;
        let one = self.rows(1);
        self.time(Call::Waiting, 1, |bench, _| bench.device.join(bench.gated[0], &one))?;
        self.line(Call::Link, self.many, |bench, rows, _| bench.there_and_back(rows))
    }

    /// One expert after the other of a sub-layer's, sub-layer by sub-layer, until all had their turn.
    fn next(&mut self) -> (SubLayerId, ExpertId) {
        self.turn += 1;
        (nth(&self.gated, self.turn), self.expert(self.turn / self.gated.len()))
    }

    fn expert(&self, at: usize) -> ExpertId {
        ExpertId::try_from(at % usize::from(self.done.experts.max(1))).unwrap_or(0)
    }

    fn together(&mut self, each: usize) -> Outcome {
        let all = self.rows(usize::MAX);
        let spread = self.done.spread(each);
        let stride = usize::from(self.done.experts) / spread;
        self.time(Call::Together, each, |bench, _| {
            let (at, first) = bench.next();
            let part = |(i, row): (usize, &Row)| PartWork {
                row: *row,
                slot: 0,
                expert: bench.expert(usize::from(first) + i / each * stride),
            };
            let mut parts: Vec<_> = all.iter().enumerate().take(spread * each).map(part).collect();
            parts.sort_by_key(|part| part.expert);
            bench.device.experts(at, &parts)
        })
    }

    /// Packing and unpacking, without the way itself.
    fn there_and_back(&mut self, rows: &[Row]) -> Outcome {
        let at = self.gated[0];
        let remote = |row: &Row| RemotePart {
            work: PartWork { row: *row, slot: 0, expert: 0 },
            visit: Visit::default(),
        };
        let payload = self.device.inputs(at, rows, HERE)?;
        self.device.put_inputs(at, rows, payload)?;
        let parts: Vec<_> = rows.iter().map(remote).collect();
        let payload = self.device.parts(at, &parts, HERE)?;
        let placed: Vec<_> = parts.iter().map(|part| part.work).enumerate().collect();
        self.device.put_parts(at, &placed, payload)?;
        // Payloads may be moved behind the host's back: a call that waits for all before.
        self.device.join(at, &rows[..1])
    }

    fn attentions(&mut self) -> Outcome {
        let layout = self.device.layout();
        let room = layout.context_length.min(layout.kv_blocks * layout.kv_block_tokens);
        let far = self.done.far;
        self.line(Call::Attention, self.many, |bench, rows, call| {
            bench.attend(nth(&bench.attention, call), rows, 0)
        })?;
        let few = self.rows(self.done.few);
        for (kind, position) in [(Call::Near, 0), (Call::Far, far)] {
            self.time(kind, few.len(), |bench, call| {
                bench.attend(nth(&bench.attention, call), &few, position)
            })?;
        }
        let many = self.rows(self.done.many_of_one);
        for (kind, position) in [(Call::PromptNear, 0), (Call::PromptFar, far)] {
            self.time(kind, many.len(), |bench, call| {
                bench.prefill(nth(&bench.attention, call), &many, position)
            })?;
        }
        self.line(Call::Prompt, self.many.min(room), |bench, rows, call| {
            bench.prefill(nth(&bench.attention, call), rows, 0)
        })
    }

    /// Blocks of so many sequences up to a position, each in some of its own as far as there are enough.
    fn tables(&self, sequences: usize, position: u32) -> Vec<Vec<BlockId>> {
        let size = self.device.layout().kv_block_tokens;
        let blocks = self.device.layout().kv_blocks;
        let each = position as usize / size + 1;
        let table = |sequence: usize| {
            let block = |i: usize| BlockId(u32::try_from((sequence * each + i) % blocks).unwrap_or(0));
            (0..each).map(block).collect()
        };
        (0..sequences).map(table).collect()
    }

    /// Each row is a sequence of its own.
    fn attend(&mut self, at: SubLayerId, rows: &[Row], position: u32) -> Outcome {
        let tables = self.tables(rows.len(), position);
        let rows: Vec<_> = rows
            .iter()
            .zip(&tables)
            .map(|(row, blocks)| AttentionRow { row: *row, position, blocks })
            .collect();
        self.device.attention(at, &rows)
    }

    /// Rows of one sequence, from a position on.
    fn prefill(&mut self, at: SubLayerId, rows: &[Row], position: u32) -> Outcome {
        let layout = self.device.layout();
        let blocks = (position as usize + rows.len()).div_ceil(layout.kv_block_tokens).max(1);
        let block = |i: usize| BlockId(u32::try_from(i % layout.kv_blocks).unwrap_or(0));
        let blocks: Vec<_> = (0..blocks).map(block).collect();
        let rows: Vec<_> = (position..)
            .zip(rows)
            .map(|(position, row)| AttentionRow { row: *row, position, blocks: &blocks })
            .collect();
        self.device.attention(at, &rows)
    }

    /// KV of so many sequences up to a position, in the sub-layers whose calls are timed.
    fn write(&mut self, sequences: usize, position: u32) -> Outcome {
        let (tables, rows) = (self.tables(sequences, position), self.rows(self.many));
        let positions: Vec<u32> = (0..=position).collect();
        for at in self.attention.iter().take(ROUNDS * CALLS) {
            for blocks in &tables {
                for positions in positions.chunks(rows.len().max(1)) {
                    let row = |(row, position): (&Row, &u32)| AttentionRow {
                        row: *row,
                        position: *position,
                        blocks,
                    };
                    let rows: Vec<_> = rows.iter().zip(positions).map(row).collect();
                    self.device.attention(*at, &rows)?;
                }
            }
        }
        Ok(())
    }

    /// Calls of one expert, where so many take turns.
    pub(super) fn taking_turns(&mut self) -> Outcome {
        let of = |at: &SubLayerId| match self.device.layout().sub_layers[*at] {
            SubLayerKind::Experts { experts, .. } => usize::from(experts),
            SubLayerKind::Attention | SubLayerKind::DenseFeedForward => 0,
        };
        let all: usize = self.gated.iter().map(of).sum();
        for parts in REUSED_PARTS {
            let rows = self.rows(parts);
            for among in powers(all.min(REUSED)) {
                let mut turn = 0;
                let mut call = |bench: &mut Self| {
                    turn += 1;
                    let expert = bench.expert(turn % among / bench.gated.len());
                    bench.device.experts(nth(&bench.gated, turn % among), &parts_of(&rows, expert))
                };
                (0..among).try_for_each(|_| call(self))?;
                self.time(Call::TakingTurns { parts: rows.len() }, among, |bench, _| call(bench))?;
            }
        }
        Ok(())
    }
}

/// 1, 2, 4 and so on.
fn powers(up_to: usize) -> impl Iterator<Item = usize> {
    (0..).map(|power| 1usize << power).take_while(move |count| *count <= up_to)
}

fn parts_of(rows: &[Row], expert: ExpertId) -> Vec<PartWork> {
    rows.iter().map(|row| PartWork { row: *row, slot: 0, expert }).collect()
}
