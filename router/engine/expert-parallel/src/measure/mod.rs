//! Measures a device's [`Profile`]: each kind of call alone, for few and for many entries.

mod host;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use reprise_scheduler::{
    AttentionRow, BackendError, BlockId, DeviceId, Exchange, ExpertId, PartWork, RemotePart, Row, SubLayerId,
    SubLayerKind, Visit,
};

use crate::{
    cluster::RequestId,
    profile::{Link, Profile, Reuse, StageTime, WorkerTimes},
    transport::{Message, SPIN, Transport, threads},
    worker::greedy,
};

/// Each call is made so often, and the median taken: what else runs on the machine must not count.
const REPEATS: usize = 15;
/// Entries of small and large calls.
const FEW: usize = 8;
const MANY: usize = 64;
/// Experts of a call for several, at most.
const SPREAD: ExpertId = 32;
/// Experts that take turns, at most: of more the weights are in no cache. And parts of their calls.
const REUSED: usize = 64;
const REUSED_PARTS: [usize; 4] = [1, 4, 16, 64];
/// Where a payload is said to go: it comes back at once.
const HERE: DeviceId = DeviceId(0);
/// Round trips of the link's measurement.
const TRIPS: u32 = 400;

/// Calls the device as a worker does; nothing but other devices may run on its cores. Calls that follow each other are of different sub-layers and
/// experts, as a worker's are: weights that were used just before would still be in a cache. What is in its arena and its KV afterwards
/// means nothing.
///
/// # Errors
/// The device's.
pub fn measure<D: Exchange>(
    device: &mut D,
    name: String,
    provenance: String,
) -> Result<Profile, BackendError> {
    measure_up_to(device, MANY, name, provenance)
}

/// As [`measure()`], with calls of up to so many entries, for devices that many of them suit.
///
/// # Errors
/// The device's.
pub fn measure_up_to<D: Exchange>(
    device: &mut D,
    many: usize,
    name: String,
    provenance: String,
) -> Result<Profile, BackendError> {
    let kinds = device.layout().sub_layers.clone();
    let all = |wanted: fn(&SubLayerKind) -> bool| -> Vec<SubLayerId> {
        (0..kinds.len()).filter(|at| wanted(&kinds[*at])).collect()
    };
    let attention = all(|kind| *kind == SubLayerKind::Attention);
    let dense = all(|kind| *kind == SubLayerKind::DenseFeedForward);
    let gated = all(|kind| matches!(kind, SubLayerKind::Experts { .. }));
    let mut bench = Bench { device, many, points: BTreeMap::new() };
    let embed = bench.line("embed", |bench, rows, _| bench.device.embed(rows, &vec![1; rows.len()]))?;
    let (expert, gate, join, link) =
        if gated.is_empty() { Default::default() } else { bench.gated(&gated, &kinds)? };
    let call = expert.fixed_us;
    let split = |time: StageTime| time.with_fixed(call);
    let (mut attention_time, mut prompt, mut context_us, mut reach_us) =
        (StageTime::default(), None, 0.0, 0.0);
    if !attention.is_empty() {
        let of = |round: usize| attention[round % attention.len()];
        // Memory that was never written is slower.
        let rows = bench.rows(many);
        (0..REPEATS).try_for_each(|round| bench.attend(of(round), &rows, 0))?;
        attention_time = bench.line("attention", |bench, rows, round| bench.attend(of(round), rows, 0))?;
        (context_us, reach_us) = bench.context(&attention)?;
        prompt = Some(bench.prompt(&attention, context_us, reach_us)?);
    }
    let feed_forward = if dense.is_empty() {
        StageTime::default()
    } else {
        bench.line("feed_forward", |bench, rows, round| {
            bench.device.feed_forward(dense[round % dense.len()], rows)
        })?
    };
    let (mut logits, mut chosen, mut choose) = (Vec::new(), Vec::new(), greedy());
    let vocabulary = bench.device.layout().vocabulary;
    let head = bench.line("head", |bench, rows, _| {
        chosen.clear();
        if bench.device.greedy(rows, &mut chosen)? {
            return Ok(());
        }
        bench.device.logits(rows, &mut logits)?;
        // The choice belongs to the call.
        logits.chunks_exact_mut(vocabulary.max(1)).for_each(|of| {
            choose(RequestId(0), of);
        });
        Ok(())
    })?;
    let Bench { points, .. } = bench;
    let profile = Profile {
        name,
        provenance,
        embed,
        attention: split(attention_time),
        prompt: prompt.map(split),
        context_us,
        reach_us,
        feed_forward: split(feed_forward),
        gate: split(gate),
        expert,
        join,
        head: split(head),
        worker: WorkerTimes::default(),
        link,
        points,
        in_turn: BTreeMap::new(),
        reuse: Vec::new(),
    };
    let worker = host::measure(device, many)?;
    Ok(Profile { worker, ..profile })
}

struct Bench<'a, D> {
    device: &'a mut D,
    many: usize,
    /// Entries and microseconds, by stage.
    points: BTreeMap<String, Vec<[f64; 2]>>,
}

type Outcome<T> = Result<T, BackendError>;

impl<D: Exchange> Bench<'_, D> {
    fn rows(&self, count: usize) -> Vec<Row> {
        let most = self.device.layout().rows.min(count);
        (0..u32::try_from(most).unwrap_or(0)).map(Row).collect()
    }

    /// `call` is told which round it is.
    fn median(&mut self, mut call: impl FnMut(&mut Self, usize) -> Outcome<()>) -> Outcome<f64> {
        let mut times = Vec::with_capacity(REPEATS);
        for round in 0..REPEATS {
            let begun = Instant::now();
            call(self, round)?;
            times.push(begun.elapsed());
        }
        times.sort_unstable();
        Ok(times[REPEATS / 2].as_secs_f64() * 1e6)
    }

    /// Of one row, two, four and so on.
    fn line(
        &mut self,
        name: &str,
        call: impl FnMut(&mut Self, &[Row], usize) -> Outcome<()>,
    ) -> Outcome<StageTime> {
        let points = self.curve(self.many, call)?;
        let time = StageTime::of(&points);
        self.points.insert(name.to_owned(), points);
        Ok(time)
    }

    fn curve(
        &mut self,
        many: usize,
        mut call: impl FnMut(&mut Self, &[Row], usize) -> Outcome<()>,
    ) -> Outcome<Vec<[f64; 2]>> {
        let mut points: Vec<[f64; 2]> = Vec::new();
        for count in (0..).map(|power| 1usize << power).take_while(|count| *count <= many) {
            let rows = self.rows(count);
            let entries = rows.len() as f64;
            if points.last().is_none_or(|[before, _]| *before < entries) {
                points.push([entries, self.median(|bench, round| call(bench, &rows, round))?]);
            }
        }
        Ok(points)
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
    fn attend(&mut self, at: SubLayerId, rows: &[Row], position: u32) -> Outcome<()> {
        let tables = self.tables(rows.len(), position);
        let rows: Vec<_> = rows
            .iter()
            .zip(&tables)
            .map(|(row, blocks)| AttentionRow { row: *row, position, blocks })
            .collect();
        self.device.attention(at, &rows)
    }

    /// For each position that a row attends to; and for each that is read, once for all rows of a sequence. Few sequences of a row each tell the sum of both,
    /// many rows of one sequence, as of a prompt, the first almost alone.
    fn context(&mut self, attention: &[SubLayerId]) -> Outcome<(f64, f64)> {
        let layout = self.device.layout();
        let far = (layout.context_length.min(layout.kv_blocks * layout.kv_block_tokens / FEW) / 2).max(1);
        let far = u32::try_from(far).unwrap_or(1);
        let of = |round: usize| attention[round % attention.len()];
        // As many of a prompt as have room behind the others' positions.
        let room = layout.context_length.saturating_sub(far as usize).max(1);
        let (few, many) = (self.rows(FEW), self.rows(self.many.min(room)));
        self.write(attention, few.len(), far)?;
        let near_us = self.median(|bench, round| bench.attend(of(round), &few, 0))?;
        let far_us = self.median(|bench, round| bench.attend(of(round), &few, far))?;
        let each_us = ((far_us - near_us) / f64::from(far) / few.len() as f64).max(0.0);
        let near_us = self.median(|bench, round| bench.prefill(of(round), &many, 0))?;
        let far_us = self.median(|bench, round| bench.prefill(of(round), &many, far))?;
        let together_us = ((far_us - near_us) / f64::from(far)).max(0.0);
        let count = many.len().max(2) as f64;
        // each = context + reach, together = count * context + reach.
        let context_us = ((together_us - each_us) / (count - 1.0)).clamp(0.0, each_us);
        Ok((context_us, each_us - context_us))
    }

    /// KV of so many sequences up to a position: memory that was never written is not read as other is.
    fn write(&mut self, attention: &[SubLayerId], sequences: usize, position: u32) -> Outcome<()> {
        let (tables, rows) = (self.tables(sequences, position), self.rows(self.many));
        let positions: Vec<u32> = (0..=position).collect();
        for at in attention.iter().take(REPEATS) {
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

    /// Of rows of one sequence, without what their positions take.
    fn prompt(&mut self, attention: &[SubLayerId], context_us: f64, reach_us: f64) -> Outcome<StageTime> {
        let layout = self.device.layout();
        let room = layout.context_length.min(layout.kv_blocks * layout.kv_block_tokens);
        let of = |round: usize| attention[round % attention.len()];
        let mut points =
            self.curve(self.many.min(room), |bench, rows, round| bench.prefill(of(round), rows, 0))?;
        for [rows, us] in &mut points {
            *us = (*us - context_us * *rows * (*rows + 1.0) / 2.0 - reach_us * *rows).max(0.0);
        }
        let time = StageTime::of(&points);
        self.points.insert("prompt".to_owned(), points);
        Ok(time)
    }

    /// Rows of one sequence, from a position on.
    fn prefill(&mut self, at: SubLayerId, rows: &[Row], position: u32) -> Outcome<()> {
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

    /// Of experts, gate, join and link.
    fn gated(
        &mut self,
        gated: &[SubLayerId],
        kinds: &[SubLayerKind],
    ) -> Outcome<(StageTime, StageTime, StageTime, Link)> {
        let of = |round: usize| gated[round % gated.len()];
        let Some(SubLayerKind::Experts { experts, .. }) = gated.first().map(|at| kinds[*at]) else {
            return Ok(Default::default());
        };
        let many = self.many.min(self.device.layout().rows);
        let nth = |i: usize| ExpertId::try_from(i % usize::from(experts)).unwrap_or(0);
        // Each call's experts were used longest ago: one after the other of a sub-layer's, sub-layer by sub-layer, until all had their turn.
        let mut turn = 0;
        let mut next = || {
            turn += 1;
            (of(turn), turn / gated.len())
        };
        let mut chosen = Vec::new();
        let gate = self.line("gate", |bench, rows, round| {
            chosen.clear();
            bench.device.gate(of(round), rows, &mut chosen)
        })?;
        let part = |row: &Row, expert: ExpertId| PartWork { row: *row, slot: 0, expert };
        let line = self.line("expert", |bench, rows, _| {
            let (at, expert) = next();
            let parts: Vec<_> = rows.iter().map(|row| part(row, nth(expert))).collect();
            bench.device.experts(at, &parts)
        })?;
        let one_us = line.floor_us;
        let (spread, all_us) = self.together(experts, 1, &mut next)?;
        // m experts of one part each cost `fixed` once: m * t(1) less what was saved.
        let fixed_us = match spread as f64 {
            m if m > 1.0 => ((m * one_us - all_us) / (m - 1.0)).clamp(0.0, one_us),
            _ => 0.0,
        };
        let mut beside = Vec::new();
        for each in (0..).map(|power| 1usize << power).take_while(|each| *each <= many) {
            let (spread, us) =
                if each == 1 { (spread, all_us) } else { self.together(experts, each, &mut next)? };
            beside.push([each as f64, fixed_us + (us - fixed_us).max(0.0) / spread as f64]);
        }
        self.points.insert("beside".to_owned(), beside);
        let join = self.line("join", |bench, rows, round| bench.device.join(of(round), rows))?;
        let link = self.link(gated[0])?;
        Ok((line.with_fixed(fixed_us), gate, join, link))
    }

    /// A call for as many experts, so many parts each, as there are rows for, up to [`SPREAD`]: their number, and microseconds.
    fn together(
        &mut self,
        experts: ExpertId,
        each: usize,
        next: &mut impl FnMut() -> (SubLayerId, usize),
    ) -> Outcome<(usize, f64)> {
        let all = self.rows(usize::MAX);
        let spread = usize::from(experts.min(SPREAD)).min(all.len() / each).max(1);
        let stride = usize::from(experts) / spread;
        let us = self.median(|bench, _| {
            let (at, first) = next();
            let expert = |i: usize| ExpertId::try_from((first + i * stride) % usize::from(experts));
            let part = |(i, row): (usize, &Row)| PartWork {
                row: *row,
                slot: 0,
                expert: expert(i / each).unwrap_or(0),
            };
            let mut parts: Vec<_> = all.iter().enumerate().take(spread * each).map(part).collect();
            parts.sort_by_key(|part| part.expert);
            bench.device.experts(at, &parts)
        })?;
        Ok((spread, us))
    }

    /// Packing and unpacking, without the way itself.
    fn link(&mut self, at: SubLayerId) -> Outcome<Link> {
        let remote = |row: &Row| RemotePart {
            work: PartWork { row: *row, slot: 0, expert: 0 },
            visit: Visit::default(),
        };
        let there_and_back = |bench: &mut Self, rows: &[Row], _: usize| {
            let payload = bench.device.inputs(at, rows, HERE)?;
            bench.device.put_inputs(at, rows, payload)?;
            let parts: Vec<_> = rows.iter().map(remote).collect();
            let payload = bench.device.parts(at, &parts, HERE)?;
            let placed: Vec<_> = parts.iter().map(|part| part.work).enumerate().collect();
            bench.device.put_parts(at, &placed, payload)?;
            // Payloads may be moved behind the host's back: a call that waits for all before.
            bench.device.join(at, &rows[..1])
        };
        let one = self.rows(1);
        let waiting_us = self.median(|bench, _| bench.device.join(at, &one))?;
        let line = self.line("link", there_and_back)?;
        // Two vectors, each packed and taken in.
        let pack_us = line.each_us / 4.0;
        let parcel_us = ((line.floor_us - waiting_us) / 4.0 - pack_us).max(0.0);
        Ok(Link { pack_us, parcel_us, ..Link::default() })
    }
}

impl StageTime {
    /// What one takes, and what an entry adds from few to the most.
    fn of(points: &[[f64; 2]]) -> Self {
        let few = points.iter().rfind(|[entries, _]| *entries <= FEW as f64);
        let (Some([_, one_us]), Some([few, few_us]), Some([most, most_us])) =
            (points.first(), few, points.last())
        else {
            return Self::default();
        };
        let each_us = ((most_us - few_us) / (most - few).max(1.0)).max(0.0);
        Self { fixed_us: 0.0, floor_us: *one_us, each_us }
    }

    /// So much of it is paid once in a call, whatever it is for.
    fn with_fixed(self, fixed_us: f64) -> Self {
        let fixed_us = fixed_us.min(self.floor_us);
        Self { fixed_us, floor_us: self.floor_us - fixed_us, ..self }
    }
}

/// What simulations need besides, and no schedule: what calls of one expert take less where only some take turns, as weights of few may stay in a cache.
///
/// # Errors
/// The device's.
pub fn measure_reuse<D: Exchange>(device: &mut D) -> Result<Vec<Reuse>, BackendError> {
    let kinds = device.layout().sub_layers.clone();
    let experts_of = |kind: &SubLayerKind| match kind {
        SubLayerKind::Experts { experts, .. } => Some(usize::from(*experts)),
        SubLayerKind::Attention | SubLayerKind::DenseFeedForward => None,
    };
    let gated: Vec<_> = (0..kinds.len()).filter(|at| experts_of(&kinds[*at]).is_some()).collect();
    let all: usize = kinds.iter().filter_map(experts_of).sum();
    let mut bench = Bench { device, many: MANY, points: BTreeMap::new() };
    let mut reuse = Vec::new();
    for parts in REUSED_PARTS {
        let rows = bench.rows(parts);
        let mut points = Vec::new();
        for taking_turns in (0..).map(|power| 1usize << power).take_while(|many| *many <= all.min(REUSED)) {
            let mut turn = 0;
            let mut call = |bench: &mut Bench<'_, D>| {
                turn += 1;
                let (at, expert) = (turn % taking_turns % gated.len(), turn % taking_turns / gated.len());
                let expert = ExpertId::try_from(expert).unwrap_or(0);
                let parts: Vec<_> = rows.iter().map(|row| PartWork { row: *row, slot: 0, expert }).collect();
                bench.device.experts(gated[at], &parts)
            };
            (0..taking_turns).try_for_each(|_| call(&mut bench))?;
            points.push([taking_turns as f64, bench.median(|bench, _| call(bench))?]);
        }
        reuse.push(Reuse::of(rows.len(), &points));
    }
    reuse.dedup_by_key(|of| of.parts);
    Ok(reuse)
}

/// What simulations need besides, and no schedule: with what a message takes on its way between two threads that have a core each, one of which looks for it for as long as `spin` before it parks.
#[must_use]
pub fn with_latency(link: Link, spin: Duration) -> Link {
    let latency_us = message_us(SPIN);
    let wake_us = (message_us(Duration::ZERO) - latency_us).max(0.0);
    Link { latency_us, spin_us: spin.as_secs_f64() * 1e6, wake_us, ..link }
}

/// Microseconds, of an empty message.
fn message_us(spin: Duration) -> f64 {
    let (mut ends, _commands) = threads::<()>(2, 4, spin);
    let (Some(mut far), Some(mut near)) = (ends.pop(), ends.pop()) else { return 0.0 };
    let message = || Message::Notice {
        epoch: 0,
        from: DeviceId(0),
        lane: 0,
        notice: reprise_scheduler::Notice::Done(0),
    };
    let wait = Duration::from_secs(1);
    let echo = std::thread::spawn(move || {
        for _ in 0..TRIPS {
            if !matches!(far.receive(wait), Ok(Some(_))) || far.send(DeviceId(0), message()).is_err() {
                return;
            }
        }
    });
    let begun = Instant::now();
    for _ in 0..TRIPS {
        if near.send(DeviceId(1), message()).is_err() || !matches!(near.receive(wait), Ok(Some(_))) {
            break;
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    // It ends with the last message, or a second after the first that is missing.
    let _ = echo.join();
    seconds * 1e6 / f64::from(2 * TRIPS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stages_time_is_what_one_takes_and_what_another_adds() {
        let time =
            StageTime::of(&[[1.0, 120.0], [8.0, 130.0], [16.0, 170.0], [64.0, 970.0]]).with_fixed(110.0);
        let expected = StageTime { fixed_us: 110.0, floor_us: 10.0, each_us: 15.0 };
        assert_eq!(time, expected);
        assert_eq!(time.with_fixed(1e9).floor_us, 0.0);
        assert_eq!(StageTime::of(&[]), StageTime::default());
    }
}
