use crate::{
    ModelLayout, SubLayerId, SubLayerKind,
    placement::{DeviceId, Hosting, Placement},
    schedule::{ENTRY, Foreseen, Stage},
};

/// What a device with attention says with a call of a gate of the rows that it owns: how many have passed with this call, how many are
/// still to pass this gate, how many are on their way to the next one, how many to the head, from where most come round to the first gate
/// with their next token, and how many wait to enter. In rows, but for the means.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Ahead {
    pub passed: u32,
    pub here: u32,
    pub next: u32,
    pub head: u32,
    pub enters: u32,
    /// Of a row that passed: how many are alone of their sequence, and positions whose KV is read for them; parts that go to the device that gets
    /// the most. Means.
    pub alone: f32,
    pub reach: f32,
    pub most: f32,
}

/// Rows that are about to come: those between two gates. A row's goal is the gate that it passes next, behind the last one the head, or the way
/// out for a row without logits.
///
/// A schedule that knows what is about to come can wait for it. What other devices say is old when it comes: it is for waiting a
/// bounded time, never for deciding that something is whole.
#[derive(Debug)]
pub(crate) struct Upstream {
    /// Per sub-layer the gate at or behind it; the head where there is none.
    goals: Vec<usize>,
    last_attention: Option<SubLayerId>,
    /// Per row of this device its goal, and whether its logits are wanted.
    rows: Vec<Option<(usize, bool)>>,
    /// Per goal, the last of those that have not entered: rows of this device; of all others, as last told; and by device.
    own: Vec<usize>,
    others: Vec<usize>,
    told: Vec<Vec<usize>>,
    /// Per gated sub-layer: rows that passed its gate anywhere, and the parts that came here.
    passed: Vec<f64>,
    parts: Vec<f64>,
    /// Per gated sub-layer and device: parts of this device's rows that went there, and these rows; of those that the others are told of.
    sent: Vec<Vec<f64>>,
    gone: Vec<f64>,
    /// As last told of any device's rows ([`Ahead`]); `most` per gated sub-layer.
    most: Vec<f64>,
    alone: f64,
    reach: f64,
}

/// Rows whose parts are counted before half of the count is forgotten.
const MEMORY: f64 = 8192.0;
/// Of a mean of calls, what the last one counts.
const LATELY: f64 = 0.25;

impl Upstream {
    pub(crate) fn new(layout: &ModelLayout, placement: &Placement, me: DeviceId, rows: usize) -> Self {
        let kinds = &layout.sub_layers;
        let gated = |kind: &SubLayerKind| matches!(kind, SubLayerKind::Experts { .. });
        let head = kinds.len();
        let goal = |from: usize| kinds[from..].iter().position(gated).map_or(head, |at| from + at);
        let goals = (0..=head).map(goal).collect();
        // Before anything was counted experts are taken to get their even share.
        let even = |(sub_layer, kind): (usize, &SubLayerKind)| match *kind {
            SubLayerKind::Experts { top_k, .. } => {
                let Hosting { share, hosts, .. } = placement.hosting(layout, sub_layer, me);
                (f64::from(top_k) * share, f64::from(top_k) / hosts.max(1) as f64)
            }
            SubLayerKind::Attention | SubLayerKind::DenseFeedForward => (0.0, 0.0),
        };
        let (parts, most) = kinds.iter().enumerate().map(even).unzip();
        Self {
            goals,
            last_attention: kinds.iter().rposition(|kind| *kind == SubLayerKind::Attention),
            rows: vec![None; rows],
            own: vec![0; head + 3],
            others: vec![0; head + 3],
            told: vec![vec![0; head + 3]; placement.attention().len()],
            passed: vec![1.0; head],
            parts,
            sent: vec![vec![0.0; usize::from(placement.devices())]; head],
            gone: vec![0.0; head],
            most,
            alone: 1.0,
            reach: 0.0,
        }
    }

    /// The goal of a row that is about to enter a sub-layer, or the head.
    fn goal(&self, from: usize, logits: bool) -> usize {
        let (goal, out) = (self.goals[from], self.goals.len());
        let gone = self.last_attention.is_none_or(|last| goal > last);
        if gone && !logits { out } else { goal }
    }

    /// The gate at or behind a sub-layer, or the head.
    pub(crate) fn goal_of(&self, at: SubLayerId) -> usize {
        self.goals[at]
    }

    /// `index`: the row's number among this device's own. `gathers`: it waits before the first attention for others.
    pub(crate) fn enter(&mut self, index: usize, logits: bool, gathers: bool) {
        let goal = if gathers { self.enters() } else { self.goal(0, logits) };
        self.rows[index] = Some((goal, logits));
        self.own[goal] += 1;
    }

    /// They have entered.
    pub(crate) fn begin(&mut self, indices: impl Iterator<Item = usize>) {
        let enters = self.enters();
        for index in indices {
            if self.own[enters] == 0 {
                return;
            }
            if let Some((goal, logits)) = self.rows[index].filter(|(goal, _)| *goal == enters) {
                self.own[goal] -= 1;
                self.enter(index, logits, false);
            }
        }
    }

    pub(crate) fn leave(&mut self, index: usize) {
        if let Some((goal, _)) = self.rows[index].take() {
            self.own[goal] -= 1;
        }
    }

    pub(crate) fn clear(&mut self) {
        self.rows.fill(None);
        self.own.fill(0);
    }

    /// Rows of this device have passed a gate; what the others are to be told of it. With each the positions whose KV is read for it, if it is
    /// alone of its sequence.
    pub(crate) fn pass(&mut self, at: SubLayerId, rows: impl Iterator<Item = (usize, Option<u32>)>) -> Ahead {
        let (mut passed, mut alone, mut reach) = (0, 0.0f32, 0.0f32);
        for (index, of_one) in rows {
            let Some((goal, logits)) = self.rows[index] else { continue };
            self.own[goal] -= 1;
            let goal = self.goal(at + 1, logits);
            self.rows[index] = Some((goal, logits));
            self.own[goal] += 1;
            passed += 1;
            alone += f32::from(u8::from(of_one.is_some()));
            reach += of_one.unwrap_or(0) as f32;
        }
        self.count(at, passed);
        let each = 1.0 / passed.max(1) as f32;
        let count = |goal: usize| u32::try_from(self.own[goal]).unwrap_or(u32::MAX);
        let ahead = Ahead {
            passed: u32::try_from(passed).unwrap_or(u32::MAX),
            here: count(at),
            next: count(self.goals[at + 1]),
            head: count(self.head()),
            enters: count(self.enters()),
            alone: each * alone,
            reach: each * reach,
            most: self.most[at] as f32,
        };
        self.learn(at, &ahead);
        ahead
    }

    /// A part of a row of this device goes there.
    pub(crate) fn sent(&mut self, at: SubLayerId, to: DeviceId) {
        if let Some(parts) = self.sent[at].get_mut(usize::from(to.0)) {
            *parts += 1.0;
        }
    }

    /// All parts of the rows that have passed are sent.
    pub(crate) fn count_most(&mut self, at: SubLayerId, ahead: &mut Ahead) {
        self.gone[at] += f64::from(ahead.passed);
        let most = self.sent[at].iter().copied().fold(0.0, f64::max) / self.gone[at].max(1.0);
        if self.gone[at] > MEMORY {
            self.gone[at] /= 2.0;
            self.sent[at].iter_mut().for_each(|parts| *parts /= 2.0);
        }
        (self.most[at], ahead.most) = (most, most as f32);
    }

    fn learn(&mut self, at: SubLayerId, ahead: &Ahead) {
        if ahead.passed > 0 {
            self.alone += LATELY * (f64::from(ahead.alone) - self.alone);
            self.reach += LATELY * (f64::from(ahead.reach) - self.reach);
            self.most[at] = f64::from(ahead.most);
        }
    }

    fn count(&mut self, at: SubLayerId, passed: usize) {
        self.passed[at] += passed as f64;
        if self.passed[at] > MEMORY {
            self.passed[at] /= 2.0;
            self.parts[at] /= 2.0;
        }
    }

    /// The device of this rank says so of its own rows.
    pub(crate) fn hear(&mut self, rank: u32, at: SubLayerId, ahead: Ahead) {
        self.count(at, ahead.passed as usize);
        self.learn(at, &ahead);
        let (next, head, enters) = (self.goals[at + 1], self.head(), self.enters());
        let Some(told) = self.told.get_mut(rank as usize) else { return };
        for (goal, rows) in [(at, ahead.here), (next, ahead.next), (head, ahead.head), (enters, ahead.enters)]
        {
            let rows = rows as usize;
            self.others[goal] = self.others[goal] - told[goal] + rows;
            told[goal] = rows;
        }
    }

    /// A part came that is computed here.
    pub(crate) fn got(&mut self, at: SubLayerId) {
        self.parts[at] += 1.0;
    }

    /// Parts that are about to come; to the first gate those of rows that come round, too.
    pub(crate) fn parts(&self, at: SubLayerId) -> f64 {
        let to = |goal: usize| self.own[goal] + self.others[goal];
        let round = if at == self.goals[0] { to(self.head()) } else { 0 };
        (to(at) + round) as f64 * self.parts[at] / self.passed[at]
    }

    /// What a queue is to know, of whose entries so many are about to come.
    pub(crate) fn foresee(&self, stage: Stage, soon: f64) -> Foreseen {
        let (own, others): (usize, usize) = (self.own.iter().sum(), self.others.iter().sum());
        let (own, all) = (own as f64, (own + others) as f64);
        let enters = self.enters();
        let (own_enter, all_enter) =
            (self.own[enters] as f64, (self.own[enters] + self.others[enters]) as f64);
        let (whole, enter, gate) = match stage {
            Stage::Experts(at) => {
                let each = self.parts[at] / self.passed[at];
                (all * each, all_enter * each, at)
            }
            Stage::SubLayer(at) => (own, if stage == ENTRY { 0.0 } else { own_enter }, self.goals[at]),
            Stage::Embed | Stage::Head => (own, own_enter, self.goals[0]),
        };
        let most = self.most.get(gate).copied().unwrap_or(0.0);
        let rows = all / whole.max(f64::MIN_POSITIVE);
        Foreseen { soon, whole, enter, rows, most, alone: self.alone, reach: self.reach }
    }

    const fn head(&self) -> usize {
        self.goals.len() - 1
    }

    const fn enters(&self) -> usize {
        self.goals.len() + 1
    }

    /// Rows of this device that are to pass a sub-layer, or the head, and have not passed the gate before it; those that wait there
    /// included.
    pub(crate) fn rows(&self, at: usize) -> usize {
        let out = if self.last_attention == Some(at) { self.own[self.goals.len()] } else { 0 };
        self.own[self.goals[at]] + out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Backend, testing::Fake};

    #[test]
    fn rows_that_come_round_are_about_to_come_to_the_first_gate() {
        let layout = Fake::new("agag", 1, 1, 1).layout().clone();
        let mut upstream = Upstream::new(&layout, &Placement::alone(&layout), DeviceId(0), 4);
        let SubLayerKind::Experts { top_k, .. } = layout.sub_layers[1] else { panic!("gated") };
        // Two whose logits are wanted, and one of a prompt, which leaves behind the last attention.
        (0..3).for_each(|index| upstream.enter(index, index < 2, false));
        assert!((upstream.parts(1) - 3.0 * f64::from(top_k)).abs() < 1e-9);
        let ahead = upstream.pass(1, [(0, Some(5)), (1, Some(7)), (2, None)].into_iter());
        let told = |ahead: Ahead| (ahead.passed, ahead.here, ahead.next, ahead.head);
        assert_eq!(told(ahead), (3, 0, 2, 0));
        assert!((ahead.reach - 4.0).abs() < 1e-6 && (3.0 * ahead.alone - 2.0).abs() < 1e-6);
        let ahead = upstream.pass(3, [(0, Some(5)), (1, Some(7))].into_iter());
        assert_eq!(told(ahead), (2, 0, 2, 2));
        let round = |upstream: &Upstream| upstream.parts(1) > 0.0;
        assert!(round(&upstream) && upstream.parts(3) == 0.0);
        // Out, and in again with their next tokens.
        (0..3).for_each(|index| upstream.leave(index));
        assert!(!round(&upstream));
        upstream.enter(0, true, false);
        assert!(round(&upstream));
        // Of another device, as it tells.
        upstream.leave(0);
        upstream.hear(0, 3, Ahead { passed: 5, here: 0, next: 5, head: 5, ..ahead });
        assert!(round(&upstream));
        upstream.hear(0, 1, Ahead { passed: 5, here: 0, next: 5, head: 0, ..ahead });
        assert!(!round(&upstream) && upstream.parts(3) > 0.0);
    }

    #[test]
    fn rows_that_wait_to_enter_are_about_to_come_nowhere() {
        let layout = Fake::new("agag", 1, 1, 1).layout().clone();
        let alone = Placement::alone(&layout);
        let [mut upstream, mut other] = [0, 1].map(|_| Upstream::new(&layout, &alone, DeviceId(0), 4));
        (0..4).for_each(|index| upstream.enter(index, true, index == 3));
        let parts =
            |upstream: &Upstream| (upstream.parts(1) * upstream.passed[1] / upstream.parts[1]).round();
        assert_eq!((upstream.rows(0), parts(&upstream)), (3, 3.0));
        let foreseen = |stage| {
            let Foreseen { whole, enter, .. } = upstream.foresee(stage, 0.0);
            (whole, enter)
        };
        assert_eq!(foreseen(Stage::SubLayer(0)), (4.0, 0.0), "one of those it meets");
        assert_eq!(foreseen(Stage::SubLayer(1)), (4.0, 1.0));
        let ahead = upstream.pass(1, [(0, Some(5)), (1, Some(5))].into_iter());
        assert_eq!((ahead.here, ahead.next, ahead.enters), (1, 2, 1));
        other.hear(0, 1, ahead);
        assert_eq!(parts(&other), 1.0);
        upstream.begin([3, 2].into_iter());
        assert_eq!((upstream.rows(0), parts(&upstream)), (2, 2.0));
        upstream.leave(3);
        assert_eq!(upstream.rows(0), 1);
    }
}
