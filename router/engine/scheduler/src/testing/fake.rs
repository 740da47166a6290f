use std::{
    collections::HashSet,
    hash::{DefaultHasher, Hash, Hasher},
};

use crate::{
    AttentionRow, Backend, BackendError, Exchange, ExpertId, Head, Heads, ModelLayout, PartWork, RemotePart,
    Row, StepRow, SubLayerId, SubLayerKind,
};

/// A model made of hashes: the next token depends on every token before it and on nothing else, and any mistake in a block
/// table, an order, a join or a reused row changes it, or is noticed at once.
///
/// KV entries are chained: each knows its position and the hash of all before it, so attention checks that everything it
/// reads was written for this very prefix.
#[derive(Debug)]
pub struct Fake {
    layout: ModelLayout,
    rows: Vec<State>,
    /// Per attention (by sub-layer), block and offset.
    kv: Vec<Vec<Option<Entry>>>,
    fault: Option<(u64, Fault)>,
    calls: u64,
    steps: bool,
    /// Rows that passed an attention, all together.
    pub attended: u64,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    Error,
    Panic,
}

#[derive(Debug, Clone, Default)]
struct State {
    hidden: u64,
    parts: Vec<Option<u64>>,
    experts: Vec<ExpertId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    position: u32,
    value: u64,
    /// Of the values up to and with this one.
    chain: u64,
}

fn mix(parts: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    parts.hash(&mut hasher);
    hasher.finish()
}

impl Fake {
    /// Sub-layers by letters, spaces ignored: `af ag`; `g` has 6 experts, 2 chosen.
    #[must_use]
    pub fn new(letters: &str, rows: usize, kv_blocks: usize, kv_block_tokens: usize) -> Self {
        let sub_layers: Vec<_> = letters
            .chars()
            .filter(|letter| !letter.is_whitespace())
            .map(|letter| match letter {
                'a' => SubLayerKind::Attention,
                'f' => SubLayerKind::DenseFeedForward,
                'g' => SubLayerKind::Experts { experts: 6, top_k: 2 },
                other => panic!("unknown sub-layer {other}"),
            })
            .collect();
        Self {
            rows: vec![State::default(); rows],
            kv: sub_layers.iter().map(|_| vec![None; kv_blocks * kv_block_tokens]).collect(),
            layout: ModelLayout {
                sub_layers,
                vocabulary: 40,
                rows,
                kv_blocks,
                kv_block_tokens,
                context_length: kv_blocks * kv_block_tokens,
            },
            fault: None,
            calls: 0,
            steps: false,
            attended: 0,
        }
    }

    /// Computes whole steps too.
    #[must_use]
    pub fn with_steps(mut self) -> Self {
        self.steps = true;
        self
    }

    #[must_use]
    pub fn with_vocabulary(mut self, vocabulary: usize) -> Self {
        self.layout.vocabulary = vocabulary;
        self
    }

    /// Lets the `call`-th call from now on go wrong, once.
    pub fn fail_at(&mut self, call: u64, fault: Fault) {
        self.fault = Some((self.calls + call, fault));
    }

    /// The greedy continuation of `prompt`, computed without blocks, queues or batches.
    #[must_use]
    pub fn alone(&self, prompt: &[u32], count: usize) -> Vec<u32> {
        let mut tokens = prompt.to_vec();
        let mut fake = Self::new("", 1, 1, 1);
        fake.layout = ModelLayout { kv_blocks: 1, ..self.layout.clone() };
        fake.layout.kv_block_tokens = prompt.len() + count;
        fake.kv = self.layout.sub_layers.iter().map(|_| vec![None; prompt.len() + count]).collect();
        let mut logits = Vec::new();
        for position in 0..prompt.len() + count - 1 {
            fake.single(tokens[position], u32::try_from(position).unwrap_or(u32::MAX), &mut logits);
            if position + 1 == tokens.len() {
                tokens.push(Self::best(&logits));
            }
        }
        tokens.split_off(prompt.len())
    }

    /// The first largest.
    #[must_use]
    pub fn best(logits: &[f32]) -> u32 {
        let mut best = 0;
        for (id, logit) in logits.iter().enumerate() {
            if *logit > logits[best] {
                best = id;
            }
        }
        u32::try_from(best).unwrap_or(u32::MAX)
    }

    fn single(&mut self, token: u32, position: u32, logits: &mut Vec<f32>) {
        let rows = [Row(0)];
        let blocks = [crate::BlockId(0)];
        let attending = [AttentionRow { row: Row(0), position, blocks: &blocks }];
        let outcome = self.all_layers(&[token], &attending).and_then(|()| self.logits(&rows, logits));
        if let Err(error) = outcome {
            panic!("{error}");
        }
    }

    fn all_layers(&mut self, tokens: &[u32], attending: &[AttentionRow<'_>]) -> Result<(), BackendError> {
        let rows: Vec<Row> = attending.iter().map(|row| row.row).collect();
        self.embed(&rows, tokens)?;
        for at in 0..self.layout.sub_layers.len() {
            match self.layout.sub_layers[at] {
                SubLayerKind::Attention => self.attention(at, attending)?,
                SubLayerKind::DenseFeedForward => self.feed_forward(at, &rows)?,
                SubLayerKind::Experts { top_k, .. } => {
                    let mut experts = Vec::new();
                    self.gate(at, &rows, &mut experts)?;
                    for (row, experts) in rows.iter().zip(experts.chunks_exact(top_k.into())) {
                        for (slot, expert) in (0..).zip(experts) {
                            self.experts(at, &[PartWork { row: *row, slot, expert: *expert }])?;
                        }
                    }
                    self.join(at, &rows)?;
                }
            }
        }
        Ok(())
    }

    fn call(&mut self, rows: impl Iterator<Item = Row>) -> Result<(), BackendError> {
        let mut seen = HashSet::new();
        for row in rows {
            assert!((row.0 as usize) < self.rows.len(), "{row:?} is not in the arena");
            assert!(seen.insert(row), "{row:?} is twice in one call");
        }
        assert!(!seen.is_empty(), "a call for no row");
        self.go_wrong()
    }

    fn go_wrong(&mut self) -> Result<(), BackendError> {
        self.calls += 1;
        match self.fault.take_if(|(call, _)| *call == self.calls) {
            None => Ok(()),
            Some((_, Fault::Error)) => Err(BackendError("as told".into())),
            Some((_, Fault::Panic)) => panic!("as told"),
        }
    }

    fn state(&mut self, row: Row) -> &mut State {
        &mut self.rows[row.0 as usize]
    }

    fn slot(&self, row: &AttentionRow<'_>, position: u32) -> usize {
        let size = self.layout.kv_block_tokens;
        let at = position as usize;
        row.blocks[at / size].0 as usize * size + at % size
    }
}

impl Backend for Fake {
    fn layout(&self) -> &ModelLayout {
        &self.layout
    }

    fn embed(&mut self, rows: &[Row], tokens: &[u32]) -> Result<(), BackendError> {
        self.call(rows.iter().copied())?;
        assert_eq!(rows.len(), tokens.len());
        for (row, token) in rows.iter().zip(tokens) {
            *self.state(*row) = State { hidden: mix(("embed", token)), ..State::default() };
        }
        Ok(())
    }

    fn attention(&mut self, sub_layer: SubLayerId, rows: &[AttentionRow<'_>]) -> Result<(), BackendError> {
        self.call(rows.iter().map(|row| row.row))?;
        self.attended += rows.len() as u64;
        for row in rows {
            let value = mix(("kv", sub_layer, self.rows[row.row.0 as usize].hidden, row.position));
            let before = match row.position {
                0 => 0,
                position => {
                    let before = self.kv[sub_layer][self.slot(row, position - 1)];
                    let Some(before) = before else {
                        panic!("{row:?}: the position before was never written")
                    };
                    assert_eq!(before.position, position - 1, "{row:?}: KV of another position");
                    before.chain
                }
            };
            let entry = Entry { position: row.position, value, chain: mix((before, value)) };
            let slot = self.slot(row, row.position);
            self.kv[sub_layer][slot] = Some(entry);
        }
        for row in rows {
            let mut chain = 0;
            for position in 0..=row.position {
                let Some(entry) = self.kv[sub_layer][self.slot(row, position)] else {
                    panic!("{row:?}: position {position} was never written")
                };
                chain = mix((chain, entry.value));
                assert_eq!((entry.position, entry.chain), (position, chain), "{row:?}: KV of another prefix");
            }
            let state = self.state(row.row);
            state.hidden = mix((state.hidden, chain));
        }
        Ok(())
    }

    fn feed_forward(&mut self, sub_layer: SubLayerId, rows: &[Row]) -> Result<(), BackendError> {
        self.call(rows.iter().copied())?;
        for row in rows {
            let state = self.state(*row);
            state.hidden = mix((state.hidden, sub_layer));
        }
        Ok(())
    }

    fn gate(
        &mut self,
        sub_layer: SubLayerId,
        rows: &[Row],
        experts: &mut Vec<ExpertId>,
    ) -> Result<(), BackendError> {
        self.call(rows.iter().copied())?;
        let SubLayerKind::Experts { experts: count, top_k } = self.layout.sub_layers[sub_layer] else {
            panic!("{sub_layer} has no gate")
        };
        for row in rows {
            let state = self.state(*row);
            let first = ExpertId::try_from(mix((state.hidden, "gate")) % u64::from(count)).unwrap_or(0);
            state.experts = (0..top_k).map(|slot| (first + slot * 2) % count).collect();
            state.parts = vec![None; usize::from(top_k)];
            experts.extend(&state.experts);
        }
        Ok(())
    }

    fn experts(&mut self, sub_layer: SubLayerId, parts: &[PartWork]) -> Result<(), BackendError> {
        self.go_wrong()?;
        assert!(parts.is_sorted_by_key(|part| part.expert), "{parts:?} is not sorted by expert");
        for part in parts {
            let state = self.state(part.row);
            let slot = usize::from(part.slot);
            assert_eq!(state.experts[slot], part.expert, "{part:?} is not what the gate chose");
            let value = mix((state.hidden, sub_layer, part.expert));
            assert!(state.parts[slot].replace(value).is_none(), "{part:?} is computed twice");
        }
        Ok(())
    }

    fn join(&mut self, _: SubLayerId, rows: &[Row]) -> Result<(), BackendError> {
        self.call(rows.iter().copied())?;
        for row in rows {
            let state = self.state(*row);
            let parts: Option<Vec<u64>> = std::mem::take(&mut state.parts).into_iter().collect();
            let Some(parts) = parts else { panic!("{row:?} is joined before all of its parts have come") };
            state.hidden = mix((state.hidden, parts));
        }
        Ok(())
    }

    fn logits(&mut self, rows: &[Row], logits: &mut Vec<f32>) -> Result<(), BackendError> {
        self.call(rows.iter().copied())?;
        logits.clear();
        for row in rows {
            let hidden = self.rows[row.0 as usize].hidden;
            // In [0, 1), exactly, so that a bias can decide.
            let logit = |id: usize| (mix((hidden, id)) >> 40) as f32 / (1u32 << 24) as f32;
            logits.extend((0..self.layout.vocabulary).map(logit));
        }
        Ok(())
    }

    fn greedy(&mut self, rows: &[Row], tokens: &mut Vec<Option<u32>>) -> Result<bool, BackendError> {
        let mut logits = Vec::new();
        self.logits(rows, &mut logits)?;
        let of_rows = logits.chunks_exact(self.layout.vocabulary);
        tokens.extend(of_rows.map(|logits| Some(Self::best(logits))));
        Ok(true)
    }

    fn step(&mut self, rows: &[StepRow<'_>], heads: &mut Heads) -> Result<bool, BackendError> {
        if !self.steps {
            return Ok(false);
        }
        let tokens: Vec<u32> = rows.iter().map(|row| row.token).collect();
        let attending: Vec<AttentionRow<'_>> = (0..)
            .zip(rows)
            .map(|(i, row)| AttentionRow { row: Row(i), position: row.position, blocks: row.blocks })
            .collect();
        self.all_layers(&tokens, &attending)?;
        let mut logits = Vec::new();
        for (i, row) in (0..).zip(rows).filter(|(_, row)| row.head != Head::Nothing) {
            self.logits(&[Row(i)], &mut logits)?;
            match row.head {
                Head::Greedy => heads.greedy.push(Some(Self::best(&logits))),
                _ => heads.logits.extend_from_slice(&logits),
            }
        }
        Ok(true)
    }
}

/// What a fake device sends of a row, or of a part.
#[derive(Debug, Clone)]
pub enum FakePayload {
    Inputs(Vec<(u64, Vec<ExpertId>)>),
    Parts(Vec<u64>),
}

impl Exchange for Fake {
    type Payload = FakePayload;

    fn inputs(
        &mut self,
        _: SubLayerId,
        rows: &[Row],
        _: crate::DeviceId,
    ) -> Result<FakePayload, BackendError> {
        let input = |row: &Row| {
            let State { hidden, experts, .. } = &self.rows[row.0 as usize];
            (*hidden, experts.clone())
        };
        Ok(FakePayload::Inputs(rows.iter().map(input).collect()))
    }

    fn put_inputs(&mut self, _: SubLayerId, rows: &[Row], payload: FakePayload) -> Result<(), BackendError> {
        let FakePayload::Inputs(inputs) = payload else { panic!("inputs, not parts") };
        assert_eq!(rows.len(), inputs.len());
        for (row, (hidden, experts)) in rows.iter().zip(inputs) {
            *self.state(*row) = State { hidden, parts: vec![None; experts.len()], experts };
        }
        Ok(())
    }

    fn parts(
        &mut self,
        _: SubLayerId,
        parts: &[RemotePart],
        _: crate::DeviceId,
    ) -> Result<FakePayload, BackendError> {
        let part = |part: &RemotePart| {
            let computed = self.rows[part.work.row.0 as usize].parts[usize::from(part.work.slot)];
            let Some(computed) = computed else { panic!("{part:?} is sent before it is computed") };
            computed
        };
        Ok(FakePayload::Parts(parts.iter().map(part).collect()))
    }

    fn put_parts(
        &mut self,
        _: SubLayerId,
        parts: &[(usize, PartWork)],
        payload: FakePayload,
    ) -> Result<(), BackendError> {
        let FakePayload::Parts(computed) = payload else { panic!("parts, not inputs") };
        for (place, part) in parts {
            let state = self.state(part.row);
            assert_eq!(
                state.experts[usize::from(part.slot)],
                part.expert,
                "{part:?} is not what the gate chose"
            );
            let before = state.parts[usize::from(part.slot)].replace(computed[*place]);
            assert!(before.is_none(), "{part:?} came twice");
        }
        Ok(())
    }

    fn vector_bytes(&self) -> usize {
        size_of::<u64>()
    }
}
