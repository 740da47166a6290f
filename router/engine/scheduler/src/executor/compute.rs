use super::{BlockTables, Executor, Finished, RowState};
use crate::{
    AttentionRow, Backend, BackendError, ExpertId, Head, Heads, PartWork, Row, SequenceId, StepRow,
    SubLayerId, SubLayerKind, queues::Item, schedule::Stage,
};

/// What was taken from the queues and is being computed.
#[derive(Debug, Default)]
pub(super) struct Task {
    pub(super) stage: Option<Stage>,
    /// The gated sub-layer whose parts are joined first.
    join: Option<SubLayerId>,
    pub(super) items: Vec<Item>,
    /// Of all stages but experts.
    pub(super) rows: Vec<Row>,
    /// Of experts, in order of expert.
    parts: Vec<PartWork>,
    /// What the gate chose.
    pub(super) experts: Vec<ExpertId>,
    pub(super) logits: Vec<f32>,
    /// All of the model was computed, or all heads chose their tokens.
    pub(super) stepped: bool,
    heads: Heads,
    heads_of: Vec<Head>,
    tokens: Vec<u32>,
}

/// What is being computed, for those who predict how long that takes.
#[derive(Debug, Clone, Copy)]
pub struct Work<'a> {
    pub stage: Stage,
    /// Rows, or parts.
    pub entries: usize,
    /// The parts of its rows are joined before: those of this gated sub-layer.
    pub join: Option<SubLayerId>,
    /// Positions that its rows attend to, all together; 0 where it is no attention.
    pub context: u64,
    /// Positions of KV that are read for it: those of a sequence once, however many of its rows stand together.
    pub reach: u64,
    /// Of rows that attend: those beside none of their own sequence, as a prompt's stand.
    pub alone: usize,
    /// Of experts, in order of expert.
    pub parts: &'a [PartWork],
}

impl Task {
    pub(super) fn begin(&mut self, stage: Stage, kinds: &[SubLayerKind]) {
        self.stage = Some(stage);
        self.stepped = false;
        self.rows.clear();
        self.parts.clear();
        self.experts.clear();
        self.logits.clear();
        if let Stage::Experts(_) = stage {
            self.parts.extend(self.items.iter().map(|item| item.part));
        } else {
            self.rows.extend(self.items.iter().map(|item| item.part.row));
        }
        // Joined as late as can be: then rows whose last parts came one by one are joined in one call.
        let before = match stage {
            Stage::SubLayer(at) => at.checked_sub(1),
            Stage::Head => kinds.len().checked_sub(1),
            Stage::Embed | Stage::Experts(_) => None,
        };
        self.join = before.filter(|before| matches!(kinds[*before], SubLayerKind::Experts { .. }));
    }
}

impl Executor {
    pub(crate) fn work(&self) -> Work<'_> {
        let Task { stage, join, items, rows, parts, .. } = &self.task;
        let stage = stage.unwrap_or(Stage::Embed);
        let attends = matches!(stage, Stage::SubLayer(at) if self.kinds[at] == SubLayerKind::Attention);
        let position = |row: &Row| self.arena.state(*row).map_or(0, |state| u64::from(state.position) + 1);
        let attending: &[Row] = if attends { rows } else { &[] };
        let context = attending.iter().map(position).sum();
        let of = |row: &Row| self.arena.state(*row).map(|state| state.sequence);
        let together = attending.chunk_by(|a, b| of(a) == of(b));
        let (mut reach, mut alone) = (0, 0);
        for rows in together {
            reach += rows.iter().map(position).max().unwrap_or(0);
            alone += usize::from(rows.len() == 1);
        }
        Work { stage, entries: items.len(), join: *join, context, reach, alone, parts }
    }

    /// Has the backend compute what [`begin`](Self::begin) took.
    ///
    /// # Errors
    /// The backend's. The rows in flight are lost then: [`Self::clear`].
    pub fn compute<B: Backend + ?Sized>(
        &mut self,
        backend: &mut B,
        tables: &impl BlockTables,
    ) -> Result<(), BackendError> {
        let mut task = std::mem::take(&mut self.task);
        let outcome = self.compute_task(backend, tables, &mut task);
        self.task = task;
        outcome
    }

    fn compute_task<B: Backend + ?Sized>(
        &self,
        backend: &mut B,
        tables: &impl BlockTables,
        task: &mut Task,
    ) -> Result<(), BackendError> {
        let Some(stage) = task.stage else { return Ok(()) };
        if let Some(at) = task.join {
            backend.join(at, &task.rows)?;
        }
        match stage {
            Stage::Embed => {
                if self.step(backend, tables, task)? {
                    return Ok(());
                }
                task.tokens.clear();
                task.tokens.extend(self.states(&task.rows).map(|state| state.token));
                backend.embed(&task.rows, &task.tokens)
            }
            Stage::SubLayer(at) => match self.kinds[at] {
                SubLayerKind::Attention => {
                    let row = |(row, state): (&Row, &RowState)| AttentionRow {
                        row: *row,
                        position: state.position,
                        blocks: tables.blocks(state.sequence),
                    };
                    let rows: Vec<_> = task.rows.iter().zip(self.states(&task.rows)).map(row).collect();
                    backend.attention(at, &rows)
                }
                SubLayerKind::DenseFeedForward => backend.feed_forward(at, &task.rows),
                SubLayerKind::Experts { top_k, .. } => {
                    let (rows, experts, count) = (&task.rows, &mut task.experts, usize::from(top_k));
                    backend.gate(at, rows, experts)?;
                    if experts.len() == rows.len() * count {
                        return Ok(());
                    }
                    let (rows, experts) = (rows.len(), experts.len());
                    let message = format!("the gate chose {experts} experts for {rows} rows of {count} each");
                    Err(BackendError(message))
                }
            },
            Stage::Experts(sub_layer) => backend.experts(sub_layer, &task.parts),
            Stage::Head => self.head(backend, task),
        }
    }

    /// Tokens where all rows want only the largest logit and the backend finds it, else logits.
    fn head<B: Backend + ?Sized>(&self, backend: &mut B, task: &mut Task) -> Result<(), BackendError> {
        let chosen = &mut task.heads.greedy;
        chosen.clear();
        if self.states(&task.rows).all(|state| state.greedy) && backend.greedy(&task.rows, chosen)? {
            if chosen.len() != task.rows.len() {
                return Err(BackendError(format!("{} tokens for {} rows", chosen.len(), task.rows.len())));
            }
            task.stepped = true;
            return Ok(());
        }
        backend.logits(&task.rows, &mut task.logits)
    }

    /// Chooses experts where there is no backend: `choose(sequence, position, experts)` adds those of one row.
    pub fn choose_experts(&mut self, mut choose: impl FnMut(SequenceId, u32, &mut Vec<ExpertId>)) {
        let Self { task, arena, .. } = self;
        task.experts.clear();
        for row in &task.rows {
            if let Some(state) = arena.state(*row) {
                choose(state.sequence, state.position, &mut task.experts);
            }
        }
    }

    /// Of rows of the present task: they are taken.
    fn states<'a>(&'a self, rows: &'a [Row]) -> impl Iterator<Item = &'a RowState> {
        rows.iter().filter_map(|row| self.arena.state(*row))
    }

    /// All of the model at once, if schedule and backend do that and no other row is under way.
    fn step<B: Backend + ?Sized>(
        &self,
        backend: &mut B,
        tables: &impl BlockTables,
        task: &mut Task,
    ) -> Result<bool, BackendError> {
        if !self.schedule.fuses() || !self.site.is_alone() || task.rows.len() != self.in_flight() {
            return Ok(false);
        }
        let row = |state: &RowState| {
            let head = match (state.logits, state.greedy) {
                (false, _) => Head::Nothing,
                (true, true) => Head::Greedy,
                (true, false) => Head::Logits,
            };
            let blocks = tables.blocks(state.sequence);
            StepRow { token: state.token, position: state.position, blocks, head }
        };
        let rows: Vec<_> = self.states(&task.rows).map(row).collect();
        let heads = &mut task.heads;
        heads.greedy.clear();
        heads.logits.clear();
        if !backend.step(&rows, heads)? {
            return Ok(false);
        }
        let wanted = rows.iter().filter(|row| row.head == Head::Greedy).count();
        if heads.greedy.len() != wanted {
            return Err(BackendError(format!("a step chose {} tokens, not {wanted}", heads.greedy.len())));
        }
        task.heads_of.clear();
        task.heads_of.extend(rows.iter().map(|row| row.head));
        task.stepped = true;
        Ok(true)
    }

    /// Tokens that the backend chose of rows behind the last sub-layer.
    pub(super) fn chosen(&mut self, task: &Task, finished: &mut Finished) {
        for (row, token) in task.rows.iter().zip(&task.heads.greedy) {
            finished.chosen.extend(self.arena.state(*row).map(|state| (state.sequence, *token)));
            self.release(*row, finished);
        }
    }

    pub(super) fn stepped(&mut self, task: &mut Task, finished: &mut Finished) {
        let mut greedy = task.heads.greedy.iter();
        for (row, head) in task.rows.iter().zip(&task.heads_of) {
            let Some(sequence) = self.arena.state(*row).map(|state| state.sequence) else { continue };
            match head {
                Head::Nothing => {}
                Head::Greedy => finished.chosen.extend(greedy.next().map(|token| (sequence, *token))),
                Head::Logits => finished.logits_of.push(sequence),
            }
            self.release(*row, finished);
        }
        finished.take_logits(&mut task.heads.logits);
    }
}
