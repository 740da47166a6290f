//! Measures a device's [`Profile`]: each kind of call alone, for few and for many entries.

mod turn;

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
    profile::{Link, Profile, StageTime},
    transport::{Message, SPIN, Transport, threads},
    worker::greedy,
};

/// Each call is made so often, and the median taken: what else runs on the machine must not count.
const REPEATS: usize = 15;
/// Entries of small and large calls.
const FEW: usize = 8;
const MANY: usize = 64;
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

/// As [`measure()`], with large calls of so many entries, for devices that many of them suit: what an entry costs is then taken from
/// these alone, as in a roofline.
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
    let worker = turn::measure(device)?;
    let mut bench = Bench { device, many, points: BTreeMap::new() };
    let embed = bench.line("embed", |bench, rows, _| bench.device.embed(rows, &vec![1; rows.len()]))?;
    let (expert, gate, join_us, link) =
        if gated.is_empty() { Default::default() } else { bench.gated(&gated, &kinds)? };
    let call = expert.fixed_us;
    let (mut attention_time, mut context_us) = (StageTime::default(), 0.0);
    if !attention.is_empty() {
        let of = |round: usize| attention[round % attention.len()];
        attention_time = bench.line("attention", |bench, rows, round| bench.attend(of(round), rows, 0))?;
        context_us = bench.context(&attention)?;
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
    let split = |time: StageTime, name: &str| {
        let time = time.with_fixed(call);
        if many > MANY { time.rooflined(points.get(name)) } else { time }
    };
    Ok(Profile {
        name,
        provenance,
        embed,
        attention: split(attention_time, "attention"),
        context_us,
        feed_forward: split(feed_forward, "feed_forward"),
        gate: split(gate, "gate"),
        expert: if many > MANY { expert.rooflined(points.get("expert")) } else { expert },
        join_us,
        head: split(head, "head"),
        worker,
        link,
        points,
    })
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

    /// A slope between few and many rows; what one row takes beyond its slope is the floor.
    fn line(
        &mut self,
        name: &str,
        mut call: impl FnMut(&mut Self, &[Row], usize) -> Outcome<()>,
    ) -> Outcome<StageTime> {
        let mut points: Vec<[f64; 2]> = Vec::new();
        for count in [1, FEW, MANY, self.many] {
            let rows = self.rows(count);
            let entries = rows.len() as f64;
            if points.last().is_none_or(|[before, _]| *before < entries) {
                points.push([entries, self.median(|bench, round| call(bench, &rows, round))?]);
            }
        }
        let us = |at: usize| points.get(at.min(points.len() - 1)).copied().unwrap_or([1.0, 0.0]);
        let ([_, one_us], [few, few_us], [many, many_us]) = (us(0), us(1), us(2));
        let each_us = ((many_us - few_us) / (many - few).max(1.0)).max(0.0);
        self.points.insert(name.to_owned(), points);
        Ok(StageTime { fixed_us: 0.0, floor_us: one_us.max(few_us - few * each_us), each_us })
    }

    fn attend(&mut self, at: SubLayerId, rows: &[Row], position: u32) -> Outcome<()> {
        let size = self.device.layout().kv_block_tokens;
        let blocks = self.device.layout().kv_blocks;
        let each = position as usize / size + 1;
        // Each row is a sequence of its own, in blocks of its own as far as there are enough.
        let table = |row: usize| -> Vec<BlockId> {
            let block = |i: usize| BlockId(u32::try_from((row * each + i) % blocks).unwrap_or(0));
            (0..each).map(block).collect()
        };
        let tables: Vec<_> = (0..rows.len()).map(table).collect();
        let rows: Vec<_> = rows
            .iter()
            .zip(&tables)
            .map(|(row, blocks)| AttentionRow { row: *row, position, blocks })
            .collect();
        self.device.attention(at, &rows)
    }

    /// For each position that a row attends to.
    fn context(&mut self, attention: &[SubLayerId]) -> Outcome<f64> {
        let layout = self.device.layout();
        let far = (layout.context_length.min(layout.kv_blocks * layout.kv_block_tokens / FEW) / 2).max(1);
        let far = u32::try_from(far).unwrap_or(1);
        let rows = self.rows(FEW);
        let of = |round: usize| attention[round % attention.len()];
        let near_us = self.median(|bench, round| bench.attend(of(round), &rows, 0))?;
        let far_us = self.median(|bench, round| bench.attend(of(round), &rows, far))?;
        Ok(((far_us - near_us) / f64::from(far) / rows.len() as f64).max(0.0))
    }

    /// Of experts, gate, join and link.
    fn gated(
        &mut self,
        gated: &[SubLayerId],
        kinds: &[SubLayerKind],
    ) -> Outcome<(StageTime, StageTime, f64, Link)> {
        let of = |round: usize| gated[round % gated.len()];
        let Some(SubLayerKind::Experts { experts, .. }) = gated.first().map(|at| kinds[*at]) else {
            return Ok(Default::default());
        };
        let nth = |i: usize| ExpertId::try_from(i % usize::from(experts)).unwrap_or(0);
        let mut chosen = Vec::new();
        let gate = self.line("gate", |bench, rows, round| {
            chosen.clear();
            bench.device.gate(of(round), rows, &mut chosen)
        })?;
        let part = |row: &Row, expert: ExpertId| PartWork { row: *row, slot: 0, expert };
        let line = self.line("expert", |bench, rows, round| {
            let expert = nth(round);
            let parts: Vec<_> = rows.iter().map(|row| part(row, expert)).collect();
            bench.device.experts(of(round), &parts)
        })?;
        let spread = experts.min(8);
        let rows = self.rows(usize::from(spread));
        let one_us = line.floor_us.max(line.each_us);
        let all_us = self.median(|bench, round| {
            let parts: Vec<_> = rows.iter().zip(0..spread).map(|(row, expert)| part(row, expert)).collect();
            bench.device.experts(of(round), &parts)
        })?;
        // m experts of one part each cost `fixed` once: m * t(1) less what was saved.
        let fixed_us = match spread {
            0 | 1 => 0.0,
            m => ((f64::from(m) * one_us - all_us) / (f64::from(m) - 1.0)).clamp(0.0, one_us),
        };
        let rows = self.rows(MANY);
        let join_us = self.median(|bench, round| bench.device.join(of(round), &rows))?;
        let join_us = join_us / rows.len() as f64;
        let link = self.link(gated[0])?;
        Ok((line.with_fixed(fixed_us), gate, join_us, link))
    }

    /// Packing and unpacking here, the way itself between two threads.
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
        Ok(Link { latency_us: round_trip_us() / 2.0, vector_us: 0.0, pack_us, parcel_us })
    }
}

impl StageTime {
    /// What an entry costs where there are most of them, beyond what any call costs.
    fn rooflined(self, points: Option<&Vec<[f64; 2]>>) -> Self {
        let Some([entries, us]) = points.and_then(|points| points.last()) else { return self };
        Self { each_us: ((us - self.fixed_us) / entries).max(0.0), ..self }
    }

    fn with_fixed(self, fixed_us: f64) -> Self {
        let fixed_us = fixed_us.min(self.floor_us);
        Self { fixed_us, floor_us: self.floor_us - fixed_us, each_us: self.each_us }
    }
}

/// Of an empty message between two threads that look for it.
fn round_trip_us() -> f64 {
    let (mut ends, _commands) = threads::<()>(2, 4, SPIN);
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
    seconds * 1e6 / f64::from(TRIPS)
}
