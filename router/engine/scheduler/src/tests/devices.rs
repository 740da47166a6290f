//! A model over several devices, without threads: messages are delivered, devices turn and paces change in random order.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use proptest::prelude::*;
use rand::{Rng, SeedableRng, rngs::SmallRng};

use super::simulation::{Job, jobs};
use crate::{
    placement::{Demand, Greedy, Loads, Planner, Roles},
    schedule::{Cost, StageCosts},
    testing::{Fake, FakePayload},
    *,
};

const TICKS: CoreConfig = CoreConfig { max_sequences: 3, prefill_chunk: 7, max_rows: 10 };

enum Message {
    Parcel(Parcel, Option<FakePayload>),
    Notice(u8, Notice),
    SetMode(Mode, u32),
}

/// Sequences on devices that share a model.
struct Net {
    random: SmallRng,
    devices: Vec<(Pipeline, Fake)>,
    /// From each device to each, in order; those of the last row come from outside.
    ways: HashMap<(usize, usize), VecDeque<Message>>,
    jobs: Vec<Job>,
    /// Not started, by device.
    waiting: Vec<VecDeque<usize>>,
    running: Vec<HashMap<SequenceId, usize>>,
    tokens: Vec<Vec<u32>>,
    over: Vec<bool>,
    changes: u32,
    now: Moment,
}

#[derive(Debug, Clone)]
struct Setting {
    devices: u16,
    roles: Roles,
    replicas: usize,
    experts_per_group: u16,
    kv_blocks: usize,
    stagger: usize,
    costs: Costs,
}

#[derive(Debug, Clone, Copy)]
enum Costs {
    /// Waiting pays, in the time of these tests.
    Calls,
    /// Halves do.
    Entries,
}

fn costs(of: Costs) -> StageCosts {
    let cost = match of {
        Costs::Calls => Cost::roofline(1e-3, 2e-3, 1e-4),
        Costs::Entries => Cost::roofline(0.0, 0.0, 1e-3),
    };
    StageCosts { attention: cost, gate: cost, expert: cost, head: cost, ..StageCosts::default() }
}

fn net(setting: &Setting, kind: ScheduleKind, jobs: Vec<Job>, seed: u64) -> Net {
    net_of("ag af ag", setting, kind, jobs, seed)
}

fn net_of(model: &str, setting: &Setting, kind: ScheduleKind, jobs: Vec<Job>, seed: u64) -> Net {
    let attention = match setting.roles {
        Roles::Shared => setting.devices,
        Roles::Disjoint { attention } => attention,
    };
    let rows = usize::from(attention) * TICKS.max_rows * usize::from(kind.lanes());
    let fake = || Fake::new(model, rows, setting.kv_blocks, 4);
    let layout = fake().layout().clone();
    let ids: Vec<_> = (0..setting.devices).map(DeviceId).collect();
    let loads = Loads::with(&layout, |_, expert, _| f64::from(expert % 4 + 1));
    let demand = Demand {
        layout: &layout,
        devices: &ids,
        roles: setting.roles,
        experts_per_group: setting.experts_per_group,
        replicas: setting.replicas,
        loads: &loads,
    };
    let placement = Arc::new(Greedy.place(&demand).expect("fits").with_stagger(setting.stagger));
    let device = |id: &DeviceId| {
        let lanes = Executor::lanes(&layout, &placement, *id, kind, &costs(setting.costs));
        (Pipeline::with_lanes(TICKS, &layout, lanes, kind.mode().pace).expect("valid"), fake())
    };
    let mut waiting = vec![VecDeque::new(); ids.len()];
    (0..jobs.len()).for_each(|job| waiting[job % usize::from(attention)].push_back(job));
    Net {
        random: SmallRng::seed_from_u64(seed),
        devices: ids.iter().map(device).collect(),
        ways: HashMap::new(),
        waiting,
        running: vec![HashMap::new(); ids.len()],
        tokens: vec![Vec::new(); jobs.len()],
        over: vec![false; jobs.len()],
        jobs,
        changes: 0,
        now: Moment::default(),
    }
}

impl Net {
    /// Runs all jobs to their ends. `paces`: changes of pace now and then.
    fn run(&mut self, paces: bool) {
        let (mut steps, mut idle) = (0, 0);
        while self.over.iter().any(|over| !over) {
            steps += 1;
            assert!(steps < 400_000, "no end in sight");
            self.now = Moment(Duration::from_micros(steps * 700));
            if paces && self.random.random_bool(0.004) {
                self.change_pace();
            }
            let worked = if self.random.random_bool(0.5) { self.deliver() } else { self.turn() };
            idle = if worked { 0 } else { idle + 1 };
            assert!(idle < 2000, "stuck: nothing is under way, and nobody can go on");
        }
        // What is still under way is of cancelled sequences.
        let mut idle = 0;
        while idle < 500 {
            let worked = [self.deliver(), self.turn()].contains(&true);
            idle = if worked { 0 } else { idle + 1 };
        }
    }

    fn change_pace(&mut self) {
        self.changes += 1;
        let paces = [Pace::Free, Pace::PingPong, Pace::Defrag, Pace::Lockstep];
        let pace = paces[self.random.random_range(0..paces.len())];
        let mode = Mode { pace, copies: self.random.random_bool(0.5) };
        let outside = self.devices.len();
        for to in 0..outside {
            self.ways.entry((outside, to)).or_default().push_back(Message::SetMode(mode, self.changes));
        }
    }

    fn deliver(&mut self) -> bool {
        let mut filled: Vec<_> =
            self.ways.iter().filter(|(_, way)| !way.is_empty()).map(|(ends, _)| *ends).collect();
        filled.sort_unstable();
        if filled.is_empty() {
            return false;
        }
        let ends = filled[self.random.random_range(0..filled.len())];
        let message = self.ways.get_mut(&ends).and_then(VecDeque::pop_front).expect("filled");
        let (from, to) = ends;
        let (pipeline, fake) = &mut self.devices[to];
        match message {
            Message::SetMode(mode, change) => pipeline.set_mode(mode, change),
            Message::Notice(lane, notice) => {
                pipeline.hear(DeviceId(u16::try_from(from).expect("few")), lane, notice);
            }
            Message::Parcel(parcel, payload) => {
                let parts = pipeline.receive(&parcel, self.now);
                let Some(payload) = payload else { return true };
                match parcel.leg {
                    Leg::Inputs => fake.put_inputs(parcel.sub_layer, &parcel.rows, payload).expect("takes"),
                    Leg::Results => fake.put_parts(parcel.sub_layer, &parts, payload).expect("takes"),
                }
            }
        }
        true
    }

    fn turn(&mut self) -> bool {
        let device = self.random.random_range(0..self.devices.len());
        self.turn_of(device)
    }

    fn turn_of(&mut self, device: usize) -> bool {
        self.cancel(device);
        self.start(device);
        let count = self.devices.len();
        let (pipeline, fake) = &mut self.devices[device];
        pipeline.admit(self.now);
        let mut out = Finished::default();
        let mut told = false;
        for (lane, notice) in pipeline.notices() {
            told = true;
            for to in (0..count).filter(|to| *to != device) {
                self.ways.entry((device, to)).or_default().push_back(Message::Notice(lane, notice));
            }
        }
        if pipeline.begin(self.now).is_none() {
            return told;
        }
        pipeline.compute(fake).expect("computes");
        let mut parcels = Vec::new();
        pipeline.complete(self.now, &mut out, &mut parcels);
        for parcel in parcels {
            let payload = match parcel.leg {
                _ if parcel.vectors() == 0 => None,
                Leg::Inputs => Some(fake.inputs(parcel.sub_layer, &parcel.rows, parcel.to).expect("gives")),
                Leg::Results => Some(fake.parts(parcel.sub_layer, &parcel.parts, parcel.to).expect("gives")),
            };
            let to = usize::from(parcel.to.0);
            self.ways.entry((device, to)).or_default().push_back(Message::Parcel(parcel, payload));
        }
        let drawn: Vec<_> = out.each_mut().map(|(id, logits)| (id, Fake::best(logits))).collect();
        for (id, token) in drawn {
            let job = self.running[device][&id];
            self.tokens[job].push(token);
            if self.tokens[job].len() == self.jobs[job].max_new {
                self.end(device, id, job);
            } else {
                self.devices[device].0.push(id, token);
            }
        }
        true
    }

    fn end(&mut self, device: usize, id: SequenceId, job: usize) {
        self.running[device].remove(&id);
        self.devices[device].0.end(id);
        self.over[job] = true;
    }

    /// Those who are to be cancelled are, some time.
    fn cancel(&mut self, device: usize) {
        let gone = self.running[device].iter().filter(|(_, job)| self.jobs[**job].cancel.is_some());
        let mut gone: Vec<_> = gone.map(|(id, job)| (*id, *job)).collect();
        gone.sort_unstable();
        for (id, job) in gone {
            if self.random.random_bool(0.01) {
                self.end(device, id, job);
            }
        }
    }

    fn start(&mut self, device: usize) {
        while let Some(job) = self.waiting[device].front().copied() {
            let Job { prompt, max_new, priority, scope, .. } = self.jobs[job].clone();
            let pipeline = &mut self.devices[device].0;
            if !pipeline.core().has_room(priority, scope, &prompt) {
                return;
            }
            self.waiting[device].pop_front();
            let new = NewSequence { tokens: prompt, max_new, priority, deadline: None, scope, greedy: false };
            let id = pipeline.start(new).expect("fits");
            self.running[device].insert(id, job);
        }
    }

    fn check(&self, fake: &Fake) -> Result<(), TestCaseError> {
        for (job, tokens) in self.jobs.iter().zip(&self.tokens) {
            let alone = fake.alone(&job.prompt, job.max_new);
            if job.cancel.is_some() {
                prop_assert!(alone.starts_with(tokens));
            } else {
                prop_assert_eq!(&alone, tokens);
            }
        }
        for (pipeline, _) in &self.devices {
            prop_assert_eq!((pipeline.core().kv().held(), pipeline.in_flight()), (0, 0));
        }
        prop_assert!(self.ways.values().all(VecDeque::is_empty));
        Ok(())
    }
}

fn settings() -> impl Strategy<Value = Setting> {
    let costs = prop_oneof![Just(Costs::Calls), Just(Costs::Entries)];
    (2u16..5, any::<bool>(), 0usize..3, 1u16..7, 12usize..30, 0usize..3, costs).prop_map(
        |(devices, disjoint, replicas, experts_per_group, kv_blocks, stagger, costs)| {
            let roles = if disjoint { Roles::Disjoint { attention: devices / 2 } } else { Roles::Shared };
            let experts = if disjoint { devices - devices / 2 } else { devices };
            // No more copies than devices.
            let most = usize::from(6u16.div_ceil(experts_per_group) * (experts - 1));
            Setting {
                devices,
                roles,
                replicas: replicas.min(most),
                experts_per_group,
                kv_blocks,
                stagger,
                costs,
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// Whatever comes when, with preemptions and cancels: the tokens of each sequence alone, no KV held, nothing under way.
    #[test]
    fn tokens_do_not_depend_on_the_order_of_messages(setting in settings(), seed in any::<u64>(), count in 1usize..10) {
        for kind in ScheduleKind::ALL {
            let mut net = net(&setting, kind, jobs(seed, count, 18, true), seed);
            net.run(false);
            net.check(&Fake::new("ag af ag", 1, 40, 4))?;
        }
    }

    /// Lock-step, ping-pong and free pace by turns, with copies and without, each told to each device at another time.
    #[test]
    fn a_change_of_pace_changes_no_token(setting in settings(), seed in any::<u64>(), count in 1usize..10) {
        let mut net = net(&setting, ScheduleKind::Adaptive, jobs(seed, count, 18, true), seed);
        net.run(true);
        net.check(&Fake::new("ag af ag", 1, 40, 4))?;
    }
}

/// Of two devices in ping-pong, one step after the other: each time that a half begins a tick which no device has begun, how many gated sub-layers the
/// other half has passed.
fn behind_the_other_half(stagger: usize) -> Vec<usize> {
    let roles = Roles::Shared;
    let setting = Setting {
        devices: 2,
        roles,
        replicas: 0,
        experts_per_group: 1,
        kv_blocks: 40,
        stagger,
        costs: Costs::Calls,
    };
    let job = |_| Job {
        arrival: 0,
        prompt: vec![1, 2],
        max_new: 12,
        priority: Priority::Interactive,
        scope: 0,
        cancel: None,
        deadline: None,
    };
    let model = "ag ag ag ag ag ag";
    let mut net = net_of(model, &setting, ScheduleKind::PingPong, (0..4).map(job).collect(), 1);
    let mut behind = Vec::new();
    for step in 0..4000 {
        net.now = Moment(Duration::from_micros(step * 700));
        for device in 0..2 {
            let before = net.devices[device].0.halves();
            net.devices[device].0.admit(net.now);
            let after = net.devices[device].0.halves();
            for (lane, other) in [(0, 1), (1, 0)] {
                let begins = before[lane].is_between_ticks && before[lane].rows == 0 && after[lane].rows > 0;
                behind.extend(after[other].passed.filter(|_| begins));
            }
            net.turn_of(device);
        }
        while net.deliver() {}
    }
    assert!(net.over.iter().all(|over| *over));
    behind
}

#[test]
fn halves_of_ping_pong_begin_as_far_apart_as_is_planned() {
    for stagger in [1, 2, 3] {
        let behind = behind_the_other_half(stagger);
        assert!(behind.len() > 10 && behind.iter().all(|passed| *passed >= stagger), "{stagger}: {behind:?}");
        assert!(behind[0] <= stagger + 1, "{stagger}: the second began too far behind, {behind:?}");
    }
    assert!(behind_the_other_half(0).contains(&0), "close together, if nothing else is planned");
}
