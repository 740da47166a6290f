//! A device whose calls take what is said here, by a clock of its own.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    ops::Range,
    rc::Rc,
    time::Duration,
};

use reprise_scheduler::{
    AttentionRow, Backend, BackendError, DeviceId, Exchange, ExpertId, ModelLayout, PartWork, RemotePart,
    Row, SubLayerId, SubLayerKind,
};

use super::{Bench, CALLS, ROUNDS, alone, reuse};
use crate::profile::{Profile, StageTime};

const EXPERTS: ExpertId = 8;

struct Timed {
    layout: ModelLayout,
    /// Nanoseconds.
    now: Rc<Cell<u64>>,
    /// Before that it refuses sub-layers, as devices may.
    embedded: bool,
    calls: usize,
    /// Calls in which something else runs, and how many times as long they take.
    spell: (Range<usize>, f64),
    /// Of calls of one expert, in their order.
    experts: RefCell<Vec<(SubLayerId, ExpertId)>>,
}

impl Timed {
    fn new(spell: (Range<usize>, f64)) -> Self {
        let gated = SubLayerKind::Experts { experts: EXPERTS, top_k: 2 };
        let layout = ModelLayout {
            sub_layers: vec![
                SubLayerKind::Attention,
                SubLayerKind::DenseFeedForward,
                SubLayerKind::Attention,
                gated,
                SubLayerKind::Attention,
                gated,
            ],
            vocabulary: 3,
            rows: 100,
            kv_blocks: 64,
            kv_block_tokens: 16,
            context_length: 256,
        };
        Self { layout, now: Rc::default(), embedded: false, calls: 0, spell, experts: RefCell::default() }
    }

    fn take(&mut self, us: f64) -> Result<(), BackendError> {
        if !self.embedded {
            return Err(BackendError("a sub-layer before any embedding".into()));
        }
        let times = if self.spell.0.contains(&self.calls) { self.spell.1 } else { 1.0 };
        self.calls += 1;
        self.now.set(self.now.get() + (1e3 * us * times).round() as u64);
        Ok(())
    }

    fn measured(&mut self) -> Profile {
        let now = self.now.clone();
        alone(self, 64, &|| Duration::from_nanos(now.get())).expect("it never fails once rows are embedded")
    }
}

impl Backend for Timed {
    fn layout(&self) -> &ModelLayout {
        &self.layout
    }

    fn embed(&mut self, rows: &[Row], _: &[u32]) -> Result<(), BackendError> {
        self.embedded = true;
        self.take(5.0 + 0.1 * rows.len() as f64)
    }

    fn attention(&mut self, _: SubLayerId, rows: &[AttentionRow<'_>]) -> Result<(), BackendError> {
        let seen: f64 = rows.iter().map(|row| f64::from(row.position + 1)).sum();
        let last = |blocks| rows.iter().filter(|row| row.blocks == blocks).map(|row| row.position + 1).max();
        let sequences: BTreeSet<_> = rows.iter().map(|row| row.blocks).collect();
        let read: u32 = sequences.into_iter().filter_map(last).sum();
        self.take(15.0 + 0.5 * rows.len() as f64 + 0.01 * seen + 0.03 * f64::from(read))
    }

    fn feed_forward(&mut self, _: SubLayerId, rows: &[Row]) -> Result<(), BackendError> {
        self.take(30.0 + rows.len() as f64)
    }

    fn gate(&mut self, _: SubLayerId, rows: &[Row], _: &mut Vec<ExpertId>) -> Result<(), BackendError> {
        self.take(20.0 + 0.5 * rows.len() as f64)
    }

    fn experts(&mut self, at: SubLayerId, parts: &[PartWork]) -> Result<(), BackendError> {
        let experts: BTreeSet<_> = parts.iter().map(|part| part.expert).collect();
        if let (1, Some(expert)) = (experts.len(), experts.first()) {
            self.experts.borrow_mut().push((at, *expert));
        }
        self.take(10.0 + 12.0 * experts.len() as f64 + 0.25 * parts.len() as f64)
    }

    fn join(&mut self, _: SubLayerId, rows: &[Row]) -> Result<(), BackendError> {
        self.take(4.0 + 0.1 * rows.len() as f64)
    }

    fn logits(&mut self, rows: &[Row], logits: &mut Vec<f32>) -> Result<(), BackendError> {
        logits.resize(rows.len() * self.layout.vocabulary, 0.0);
        self.take(40.0 + 2.0 * rows.len() as f64)
    }
}

impl Exchange for Timed {
    type Payload = ();

    fn inputs(&mut self, _: SubLayerId, rows: &[Row], _: DeviceId) -> Result<(), BackendError> {
        self.take(3.0 + 0.2 * rows.len() as f64)
    }

    fn put_inputs(&mut self, _: SubLayerId, rows: &[Row], (): ()) -> Result<(), BackendError> {
        self.take(3.0 + 0.2 * rows.len() as f64)
    }

    fn parts(&mut self, _: SubLayerId, parts: &[RemotePart], _: DeviceId) -> Result<(), BackendError> {
        self.take(3.0 + 0.2 * parts.len() as f64)
    }

    fn put_parts(&mut self, _: SubLayerId, parts: &[(usize, PartWork)], (): ()) -> Result<(), BackendError> {
        self.take(3.0 + 0.2 * parts.len() as f64)
    }

    fn vector_bytes(&self) -> usize {
        8
    }
}

fn time(fixed_us: f64, floor_us: f64, each_us: f64) -> StageTime {
    StageTime { fixed_us, floor_us, each_us }
}

fn close(found: StageTime, expected: StageTime) {
    let differ = |a: f64, b: f64| (a - b).abs() > 0.01;
    let StageTime { fixed_us, floor_us, each_us } = found;
    let wrong = differ(fixed_us, expected.fixed_us)
        || differ(floor_us, expected.floor_us)
        || differ(each_us, expected.each_us);
    assert!(!wrong, "{found:?} instead of {expected:?}");
}

#[test]
fn what_each_call_takes_is_found() {
    let profile = Timed::new((0..0, 1.0)).measured();
    close(profile.embed, time(0.0, 5.1, 0.1));
    close(profile.gate, time(10.0, 10.5, 0.5));
    close(profile.expert, time(10.0, 12.25, 0.25));
    close(profile.join, time(0.0, 4.1, 0.1));
    close(profile.feed_forward, time(10.0, 21.0, 1.0));
    close(profile.head, time(10.0, 32.0, 2.0));
    // A row alone sees its own position, and reads that.
    close(profile.attention, time(10.0, 5.54, 0.54));
    assert!((profile.context_us - 0.01).abs() < 1e-3, "{}", profile.context_us);
    assert!((profile.reach_us - 0.03).abs() < 1e-3, "{}", profile.reach_us);
    // Without positions.
    close(profile.prompt.expect("there is attention"), time(10.0, 5.5, 0.5));
    let link = profile.link;
    assert!((link.pack_us - 0.2).abs() < 1e-6 && (link.parcel_us - 3.0).abs() < 1e-6, "{link:?}");
    // Of eight experts, with what a call takes once.
    assert_eq!(profile.points["beside"].first().map(|[parts, _]| *parts), Some(1.0));
    for [parts, us] in &profile.points["beside"] {
        assert!((us - 22.0 - 0.25 * parts).abs() < 0.01, "{parts}: {us}");
    }
    let stages: Vec<_> = profile.points.keys().map(String::as_str).collect();
    let all =
        ["attention", "beside", "embed", "expert", "feed_forward", "gate", "head", "join", "link", "prompt"];
    assert_eq!(stages, all);
}

#[test]
fn a_machine_that_is_slow_for_a_while_changes_nothing() {
    let mut calm = Timed::new((0..0, 1.0));
    let expected = calm.measured();
    let warm_up = {
        let mut device = Timed::new((0..0, 1.0));
        let mut bench = Bench::new(&mut device, 64, &|| Duration::ZERO);
        bench.embed().and_then(|()| bench.warm_up()).expect("it never fails once rows are embedded");
        drop(bench);
        device.calls
    };
    let spell = 2 * (calm.calls - warm_up) / ROUNDS;
    for begin in (0..calm.calls).step_by(53) {
        let spoilt = Timed::new((begin..begin + spell, 5.0)).measured();
        assert_eq!(spoilt, expected, "{spell} calls from {begin} on");
    }
}

#[test]
fn an_expert_that_is_called_was_used_longest_ago() {
    let mut device = Timed::new((0..0, 1.0));
    device.measured();
    let used = device.experts.into_inner();
    // Of the first round, before calls for several: for one part, two, four and so on to 64.
    let first = &used[..7 * CALLS];
    let all = 2 * usize::from(EXPERTS);
    for (at, of) in first.iter().enumerate() {
        let since = first[..at].iter().rev().position(|before| before == of);
        assert_eq!(since.map(|since| since + 1), (at >= all).then_some(all), "call {at}, {of:?}");
    }
}

#[test]
fn of_experts_that_take_turns_all_calls_are_alike_here() {
    let mut device = Timed::new((0..0, 1.0));
    let now = device.now.clone();
    let reuse = reuse(&mut device, &|| Duration::from_nanos(now.get()));
    let reuse = reuse.expect("it never fails once rows are embedded");
    assert_eq!(reuse.iter().map(|of| of.parts).collect::<Vec<_>>(), [1, 4, 16, 64]);
    for of in reuse {
        assert_eq!(of.points.iter().map(|[among, _]| *among).collect::<Vec<_>>(), [1.0, 2.0, 4.0, 8.0, 16.0]);
        assert!(of.points.iter().all(|[_, saved]| saved.abs() < 1e-9), "{of:?}");
    }
}
