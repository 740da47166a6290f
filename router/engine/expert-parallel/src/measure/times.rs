//! What calls take, of the medians of those that were made.

use std::collections::BTreeMap;

use super::{
    calls::{Call, Done, FEW, REUSED_PARTS},
    samples::Samples,
};
use crate::profile::{Link, Profile, Reuse, StageTime, WorkerTimes};

pub(super) fn profile(done: &Done) -> Profile {
    let samples = &done.samples;
    let (context_us, reach_us) = positions(done);
    let mut points = BTreeMap::new();
    let mut line = |name: &str, curve: Vec<[f64; 2]>| {
        let time = StageTime::of(&curve);
        if !curve.is_empty() {
            points.insert(name.to_owned(), curve);
        }
        time
    };
    let embed = line("embed", curve(samples, Call::Embed));
    let gate = line("gate", curve(samples, Call::Gate));
    let expert = line("expert", curve(samples, Call::Expert));
    let fixed_us = fixed_us(done, expert.floor_us);
    line("beside", beside(done, fixed_us));
    let join = line("join", curve(samples, Call::Join));
    let link = line("link", curve(samples, Call::Link));
    let attention = line("attention", curve(samples, Call::Attention));
    // Of rows of one sequence, without what their positions take.
    let mut prompt_curve = curve(samples, Call::Prompt);
    for [rows, us] in &mut prompt_curve {
        *us = (*us - context_us * *rows * (*rows + 1.0) / 2.0 - reach_us * *rows).max(0.0);
    }
    let has_attention = !prompt_curve.is_empty();
    let prompt = line("prompt", prompt_curve);
    let feed_forward = line("feed_forward", curve(samples, Call::FeedForward));
    let head = line("head", curve(samples, Call::Head));
    Profile {
        name: String::new(),
        provenance: String::new(),
        embed,
        attention: attention.with_fixed(fixed_us),
        prompt: has_attention.then(|| prompt.with_fixed(fixed_us)),
        context_us,
        reach_us,
        feed_forward: feed_forward.with_fixed(fixed_us),
        gate: gate.with_fixed(fixed_us),
        expert: expert.with_fixed(fixed_us),
        join,
        head: head.with_fixed(fixed_us),
        worker: WorkerTimes::default(),
        link: packing(link, samples.median((Call::Waiting, 1))),
        points,
        in_turn: BTreeMap::new(),
        request_us: 0.0,
        turnaround_us: 0.0,
        start_us: 0.0,
        reuse: Vec::new(),
    }
}

fn curve(samples: &Samples<(Call, usize)>, of: Call) -> Vec<[f64; 2]> {
    samples.medians((of, 0)..=(of, usize::MAX)).map(|((_, entries), us)| [entries as f64, us]).collect()
}

/// m experts of one part each cost `fixed` once: m * t(1) less what was saved.
fn fixed_us(done: &Done, one_us: f64) -> f64 {
    let all_us = done.samples.median((Call::Together, 1));
    match done.spread(1) as f64 {
        m if m > 1.0 => ((m * one_us - all_us) / (m - 1.0)).clamp(0.0, one_us),
        _ => 0.0,
    }
}

/// Of one expert's parts in a call for many.
fn beside(done: &Done, fixed_us: f64) -> Vec<[f64; 2]> {
    let each = |((_, each), us): ((Call, usize), f64)| {
        [each as f64, fixed_us + (us - fixed_us).max(0.0) / done.spread(each) as f64]
    };
    done.samples.medians((Call::Together, 0)..=(Call::Together, usize::MAX)).map(each).collect()
}

/// For each position that a row attends to; and for each that is read, once for all rows of a sequence. Few sequences of a row each tell the sum of
/// both, many rows of one sequence, as of a prompt, the first almost alone.
fn positions(done: &Done) -> (f64, f64) {
    let more = |rows, near, far| done.samples.median((far, rows)) - done.samples.median((near, rows));
    let (few, many, far) = (done.few, done.many_of_one, f64::from(done.far).max(1.0));
    let each_us = (more(few, Call::Near, Call::Far) / far / few.max(1) as f64).max(0.0);
    let together_us = (more(many, Call::PromptNear, Call::PromptFar) / far).max(0.0);
    let count = many.max(2) as f64;
    // each = context + reach, together = count * context + reach.
    let context_us = ((together_us - each_us) / (count - 1.0)).clamp(0.0, each_us);
    (context_us, each_us - context_us)
}

/// Of calls that pack two vectors a row and take them in, and wait for all before.
fn packing(line: StageTime, waiting_us: f64) -> Link {
    let pack_us = line.each_us / 4.0;
    let parcel_us = ((line.floor_us - waiting_us) / 4.0 - pack_us).max(0.0);
    Link { pack_us, parcel_us, ..Link::default() }
}

pub(super) fn reuse(done: &Done) -> Vec<Reuse> {
    let of = |parts| Reuse::of(parts, &curve(&done.samples, Call::TakingTurns { parts }));
    let mut parts = REUSED_PARTS.map(|parts| parts.min(done.rows)).to_vec();
    parts.dedup();
    parts.into_iter().map(of).collect()
}

impl StageTime {
    /// What one takes, and what an entry adds from few to the most.
    pub(super) fn of(points: &[[f64; 2]]) -> Self {
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
    pub(super) fn with_fixed(self, fixed_us: f64) -> Self {
        let fixed_us = fixed_us.min(self.floor_us);
        Self { fixed_us, floor_us: self.floor_us - fixed_us, ..self }
    }
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
