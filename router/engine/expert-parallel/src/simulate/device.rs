use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use reprise_scheduler::{
    ConfigError, DeviceId, Executor, Finished, Mode, Moment, NewSequence, Notice, Parcel, Pipeline,
    Placement, Priority, SequenceId, Stage, SubLayerKind,
    schedule::{RowsOut, StageCosts},
};

use super::{Config, Gates};
use crate::{
    cluster::RequestId,
    profile::{InTurn, Link, PARCEL, stage_name},
    record::{Record, Span},
    reuse::Recent,
    unit::{key, unit},
    workload::Job,
};

/// A device that computes nothing.
pub(super) struct Device {
    pipeline: Pipeline,
    kinds: Vec<SubLayerKind>,
    costs: StageCosts,
    /// Times as long as predicted: always, and by stage now and then.
    slow: f64,
    in_turn: BTreeMap<String, InTurn>,
    recent: Recent,
    chance: Chance,
    link: Link,
    start_us: f64,
    gates: Gates,
    inbox: Vec<Parcel>,
    waiting: VecDeque<(RequestId, Job)>,
    running: HashMap<SequenceId, (RequestId, usize)>,
    call: Option<Span>,
    /// Until when its host packs or unpacks parcels, or starts sequences.
    hands_full: Moment,
    /// When its last parcel has left.
    link_free: Moment,
    /// Since when it has had nothing to do.
    idle_since: Option<Moment>,
    /// When it looks, of one that had parked.
    awake: Option<Moment>,
    out: Finished,
    pub(super) record: Record,
}

/// Numbers of a device, another each time.
struct Chance {
    seed: u64,
    device: DeviceId,
    draws: u64,
}

impl Chance {
    /// From [0, 1).
    fn next(&mut self) -> f64 {
        self.draws += 1;
        unit(key(&[self.seed, u64::from(self.device.0), self.draws]))
    }
}

/// What a look for work led to.
#[derive(Debug, Default)]
pub(super) struct Woken {
    pub(super) busy_until: Option<Moment>,
    /// It waits for more, but no longer.
    pub(super) asks_again: Option<Moment>,
    pub(super) notices: Vec<(u8, Notice)>,
}

/// What a call led to: parcels and when they leave, rows that came out, and whose token came and whether it was the last.
#[derive(Debug, Default)]
pub(super) struct Done {
    pub(super) parcels: Vec<(Moment, Parcel)>,
    pub(super) rows: RowsOut,
    pub(super) tokens: Vec<(RequestId, bool)>,
}

impl Device {
    pub(super) fn new(
        config: &Config,
        placement: &Arc<Placement>,
        me: DeviceId,
    ) -> Result<Self, ConfigError> {
        let costs = config.profile.costs();
        let schedule = config.schedule;
        let lanes = Executor::lanes(&config.layout, placement, me, schedule, &costs);
        Ok(Self {
            pipeline: Pipeline::with_lanes(config.ticks, &config.layout, lanes, schedule.mode().pace)?,
            kinds: config.layout.sub_layers.clone(),
            costs,
            slow: config.straggler.filter(|(device, _)| *device == me).map_or(1.0, |(_, times)| times),
            in_turn: config.profile.in_turn.clone(),
            recent: Recent::new(&config.profile.reuse),
            chance: Chance { seed: config.seed, device: me, draws: 0 },
            link: config.profile.link,
            start_us: config.profile.start_us.max(0.0),
            gates: config.gates.clone(),
            inbox: Vec::new(),
            waiting: VecDeque::new(),
            running: HashMap::new(),
            call: None,
            hands_full: Moment::default(),
            link_free: Moment::default(),
            idle_since: None,
            awake: None,
            out: Finished::default(),
            record: Record::new(Moment::default(), config.keep_spans),
        })
    }

    /// Requests that wait or are computed.
    pub(super) fn load(&self) -> usize {
        self.waiting.len() + self.running.len()
    }

    pub(super) fn running(&self) -> usize {
        self.running.len()
    }

    pub(super) fn submit(&mut self, id: RequestId, job: Job) {
        self.waiting.push_back((id, job));
    }

    pub(super) fn deliver(&mut self, parcel: Parcel) {
        self.inbox.push(parcel);
    }

    pub(super) fn hear(&mut self, from: DeviceId, lane: u8, notice: Notice) {
        self.pipeline.hear(from, lane, notice);
    }

    pub(super) fn set_mode(&mut self, mode: Mode, change: u32) {
        self.pipeline.set_mode(mode, change);
    }

    /// When a parcel that is sent then arrives.
    pub(super) fn occupy_link(&mut self, leaves: Moment, vectors: usize, link: Link) -> Moment {
        let us = |us: f64| Duration::from_secs_f64(us * 1e-6);
        self.link_free = Moment(self.link_free.max(leaves).0 + us(vectors as f64 * link.vector_us));
        Moment(self.link_free.0 + us(link.latency_us))
    }

    /// Begins a call, if it is idle and there is one to begin. `free`: when its processor has done what others had it do before.
    pub(super) fn wake(&mut self, now: Moment, free: &mut Moment) -> Woken {
        let mut woken = Woken::default();
        if self.call.is_some() {
            return woken;
        }
        if self.is_parked(now) {
            woken.asks_again = self.awake;
            return woken;
        }
        // What comes while it unpacks is unpacked, too, before it looks for work.
        if now >= self.hands_full {
            for parcel in std::mem::take(&mut self.inbox) {
                self.pipeline.receive(&parcel, now);
                self.handle(now, self.costs.parcel.seconds(parcel.parts.len()), parcel.vectors());
                self.idle_since = None;
            }
        }
        if now < self.hands_full {
            woken.asks_again = Some(self.hands_full);
            return woken;
        }
        let starts = self.start() as f64 * self.start_us * 1e-6;
        let later = |at: Moment, seconds: f64| Moment(at.0 + Duration::from_secs_f64(self.slow * seconds));
        let ready = later(now, starts);
        self.pipeline.admit(now);
        woken.notices = self.pipeline.notices();
        self.record.look(&self.pipeline, now);
        let Some(work) = self.pipeline.begin(now) else {
            woken.asks_again = self.pipeline.asks_again();
            if ready > now {
                self.hands_full = ready;
                woken.asks_again = woken.asks_again.max(Some(ready));
            }
            self.idle_since = Some(ready);
            return woken;
        };
        self.idle_since = None;
        let (stage, entries) = (work.stage, work.entries);
        self.record.begins(&work);
        let kinds = self.kinds.as_slice();
        let own = self.recent.predict(&self.costs, &work, kinds);
        let drawn = self.chance.next();
        let seen = self.in_turn.get(stage_name(stage, kinds));
        let own = seen.map_or(own, |seen| seen.seconds(own, drawn));
        // What launching takes is the host's; the processor does one thing after the other.
        let launch = self.costs.of(stage, kinds).fixed().min(own);
        let begin = later(ready, launch).max(*free);
        let end = later(begin, own - launch);
        *free = end;
        self.call = Some(Span { stage, begin: ready, end, entries });
        woken.busy_until = Some(end);
        woken
    }

    /// How many sequences started.
    fn start(&mut self) -> usize {
        let mut started = 0;
        while let Some((id, job)) = self.waiting.front().copied() {
            // A prompt's tokens mean nothing here, but none may share another's KV.
            let tokens = vec![0; job.prompt];
            if !self.pipeline.core().has_room(Priority::Interactive, id.0, &tokens) {
                break;
            }
            self.waiting.pop_front();
            let new = NewSequence {
                tokens,
                max_new: job.generate,
                priority: Priority::Interactive,
                deadline: None,
                scope: id.0,
                greedy: false,
            };
            if let Ok(sequence) = self.pipeline.start(new) {
                self.running.insert(sequence, (id, job.generate));
                started += 1;
            }
        }
        started
    }

    /// Its call is over.
    pub(super) fn complete(&mut self, now: Moment) -> Done {
        let mut done = Done::default();
        let Some(span) = self.call.take() else { return done };
        if let Stage::SubLayer(at) = span.stage {
            let Self { gates, running, pipeline, .. } = self;
            pipeline.busy_mut().choose_experts(|sequence, position, experts| {
                let request = running.get(&sequence).map_or(0, |(id, _)| id.0);
                gates.choose(at, key(&[request, u64::from(position)]), experts);
            });
        }
        let mut out = std::mem::take(&mut self.out);
        let mut parcels = Vec::new();
        self.pipeline.complete(now, &mut out, &mut parcels);
        done.rows = out.rows_out();
        for id in &out.logits_of {
            let Some((request, left)) = self.running.get_mut(id) else { continue };
            *left -= 1;
            done.tokens.push((*request, *left == 0));
            if *left == 0 {
                self.running.remove(id);
                self.pipeline.end(*id);
            } else {
                self.pipeline.push(*id, 0);
            }
        }
        self.out = out;
        for parcel in parcels {
            self.record.sent(parcel.vectors());
            self.handle(now, 0.0, parcel.vectors());
            done.parcels.push((self.hands_full.max(now), parcel));
        }
        // What a call leaves to be sent belongs to its time.
        self.record.call(Span { end: self.hands_full.max(now), ..span });
        done
    }

    /// A parcel's end, of so many vectors and with so many seconds besides: once it has done those before.
    fn handle(&mut self, now: Moment, told: f64, vectors: usize) {
        let predicted = told + 1e-6 * self.link.packing_us(vectors);
        let drawn = self.chance.next();
        let seconds = self.in_turn.get(PARCEL).map_or(predicted, |seen| seen.seconds(predicted, drawn));
        self.hands_full = Moment(self.hands_full.max(now).0 + Duration::from_secs_f64(self.slow * seconds));
    }

    /// True from when it is called after a long time without work until it is awake.
    fn is_parked(&mut self, now: Moment) -> bool {
        let us = |us: f64| Duration::from_secs_f64(us * 1e-6);
        let Some(since) = self.idle_since else { return false };
        match self.awake {
            Some(at) if now < at => true,
            Some(_) => {
                (self.awake, self.idle_since) = (None, None);
                false
            }
            None if self.link.wake_us > 0.0 && now.since(since) > us(self.link.spin_us) => {
                self.awake = Some(Moment(now.0 + us(self.link.wake_us)));
                true
            }
            None => false,
        }
    }
}
