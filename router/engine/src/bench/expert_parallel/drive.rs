use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use reprise_expert_parallel::{
    Cluster, Event, RequestError, RequestId,
    record::{Modes, Record},
    workload::{Arrivals, Job},
};
use reprise_scheduler::{Mode, Priority};

use super::{ExpertParallel, ExpertParallelError, report::Run, variant::Variant};

/// Tokens as they come. In lock-step they come all at once, some times in a short measurement: time is counted from the first of them to the
/// last, not to an end that may lie anywhere between.
#[derive(Default)]
struct Counted {
    begin: Option<Duration>,
    end: Duration,
    /// After the first, to the last.
    tokens: u64,
    tenths: [u64; 10],
}

impl Counted {
    /// `share`: of the measured time that has passed.
    fn token(&mut self, at: Duration, share: f64) {
        let begin = *self.begin.get_or_insert(at);
        self.end = self.end.max(at);
        self.tokens += u64::from(at > begin);
        self.tenths[((share * 10.0) as usize).min(9)] += 1;
    }

    /// Tokens, and the seconds in which they came; all of `time` where they all came at once.
    fn whole(&self, time: Duration) -> (u64, f64) {
        let seconds = self.end.saturating_sub(self.begin.unwrap_or(self.end)).as_secs_f64();
        if seconds > 0.0 { (self.tokens, seconds) } else { (self.tenths.iter().sum(), time.as_secs_f64()) }
    }
}

/// How requests are sent, in seconds; 0 where they come by chance.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Sending {
    /// One of the first.
    pub(super) each: f64,
    /// From a sequence's last token until the request in its place is sent, the median.
    pub(super) turnaround: f64,
}

impl Sending {
    /// Of several, each for itself.
    pub(super) fn mean(of: &[Self]) -> Self {
        let mean = |field: fn(&Self) -> f64| of.iter().map(field).sum::<f64>() / of.len().max(1) as f64;
        Self { each: mean(|of| of.each), turnaround: mean(|of| of.turnaround) }
    }
}

/// Sends a workload to a cluster and takes down what comes.
pub(super) struct Driver<'a, P: Send + 'static> {
    options: &'a ExpertParallel,
    cluster: Cluster<P>,
    vocabulary: usize,
    begun: Instant,
    /// The same on the cluster's clock.
    begin: Duration,
    submitted: u64,
    sent_each: f64,
    turnarounds: Vec<f64>,
    /// When the next comes, if they come by themselves.
    next: Option<Duration>,
    /// When each arrived, and when its last token came.
    running: HashMap<RequestId, (Duration, Option<Duration>)>,
}

/// A token that came.
pub(super) struct Came {
    /// Since the first requests were sent.
    pub(super) at: Duration,
    pub(super) last: bool,
    /// When the one before it came; none: it is the first of its request.
    pub(super) before: Option<Duration>,
    pub(super) arrived: Duration,
}

/// No call waits for longer.
const WAIT: Duration = Duration::from_millis(5);

impl<'a, P: Send + 'static> Driver<'a, P> {
    /// Sends the first requests.
    pub(super) fn start(
        options: &'a ExpertParallel,
        cluster: Cluster<P>,
        vocabulary: usize,
    ) -> Result<Self, ExpertParallelError> {
        let (begun, begin) = (Instant::now(), cluster.now().0);
        let (running, next) = (HashMap::new(), Some(Duration::ZERO));
        let turnarounds = Vec::new();
        let mut driver = Self {
            options,
            cluster,
            vocabulary,
            begun,
            begin,
            submitted: 0,
            sent_each: 0.0,
            turnarounds,
            next,
            running,
        };
        if let Arrivals::Closed(sequences) = options.arrivals {
            driver.next = None;
            for _ in 0..sequences {
                driver.submit()?;
            }
            driver.sent_each = driver.elapsed().as_secs_f64() / sequences.max(1) as f64;
        }
        Ok(driver)
    }

    pub(super) const fn cluster(&mut self) -> &mut Cluster<P> {
        &mut self.cluster
    }

    pub(super) fn sending(&self) -> Sending {
        let mut of = self.turnarounds.clone();
        of.sort_unstable_by(f64::total_cmp);
        Sending { each: self.sent_each, turnaround: of.get(of.len() / 2).copied().unwrap_or(0.0) }
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// On the cluster's clock, since the first requests were sent.
    fn now(&self) -> Duration {
        self.cluster.now().0.saturating_sub(self.begin)
    }

    /// Sends what is due, and waits for what comes, for a moment.
    pub(super) fn step(&mut self) -> Result<Vec<Came>, ExpertParallelError> {
        while self.next.is_some_and(|next| self.elapsed() >= next) {
            self.submit()?;
            let gap = self.options.workload().gap(self.submitted);
            self.next = self.next.zip(gap).map(|(next, gap)| next + gap);
        }
        let wait = self.next.map_or(WAIT, |next| next.saturating_sub(self.elapsed()));
        let mut all = Vec::new();
        for event in self.cluster.poll(wait.min(WAIT)) {
            let Event::Token { request, last, at, .. } = event else {
                let Event::Failed { error, .. } = event else { continue };
                return Err(error.into());
            };
            let at = at.saturating_sub(self.begin);
            let Some((arrived, before)) = self.running.get_mut(&request) else { continue };
            all.push(Came { at, last, before: before.replace(at), arrived: *arrived });
            if last {
                self.running.remove(&request);
                if let Arrivals::Closed(_) = self.options.arrivals {
                    self.submit()?;
                    self.turnarounds.push((self.now() - at).as_secs_f64());
                }
            }
        }
        Ok(all)
    }

    /// For so long, in this mode.
    pub(super) fn hold(&mut self, mode: Mode, time: Duration) -> Result<(), ExpertParallelError> {
        self.cluster.hold(Some(mode));
        let end = self.elapsed() + time;
        while self.elapsed() < end {
            self.step()?;
        }
        Ok(())
    }

    /// What its devices did.
    pub(super) fn stop(self) -> Vec<Record> {
        self.cluster.stop().into_iter().flatten().collect()
    }

    /// One schedule, all the time. While it gets warm its calls are compared, if there is something to compare them with: not while it is measured, which
    /// takes a little time, nor before it is half warm.
    pub(super) fn run(mut self, variant: Variant, repeat: usize) -> Result<Run, ExpertParallelError> {
        let (warm_up, measured) =
            (self.options.warm_up(variant.schedule), self.options.measured(variant.schedule));
        let (mut warm, mut modes) = (false, Modes::default());
        let (mut counted, mut requests, mut gaps, mut first) =
            (Counted::default(), 0, Vec::new(), Vec::new());
        let (mut looked, mut comparing) = (self.elapsed(), false);
        while self.elapsed() < warm_up + measured {
            if !warm && self.elapsed() >= warm_up {
                warm = true;
                self.cluster.set_comparing(false);
                self.cluster.reset_records();
            } else if !warm && !comparing && self.elapsed() >= warm_up / 2 {
                comparing = true;
                self.cluster.set_comparing(true);
            }
            let came = self.step()?;
            let now = self.elapsed();
            if warm {
                modes.add(self.cluster.mode(), now.saturating_sub(looked));
            }
            looked = now;
            let counts = |came: &Came| warm && came.at >= warm_up;
            for Came { at, last, before, arrived } in came.into_iter().filter(counts) {
                counted.token(at, (at - warm_up).as_secs_f64() / measured.as_secs_f64());
                requests += u64::from(last);
                match before {
                    Some(before) => gaps.push(at.saturating_sub(before).as_secs_f64()),
                    None => first.push(at.saturating_sub(arrived).as_secs_f64()),
                }
            }
        }
        let until = self.cluster.now();
        let (tokens, seconds) = counted.whole(self.elapsed().saturating_sub(warm_up));
        let (tenths, sending) = (counted.tenths, self.sending());
        let records = self.stop();
        Ok(Run {
            variant,
            repeat,
            seconds,
            tokens,
            tenths,
            requests,
            gaps,
            first,
            records,
            until,
            modes,
            sending,
        })
    }

    fn submit(&mut self) -> Result<(), RequestError> {
        self.submitted += 1;
        let workload = self.options.workload();
        let job = match workload.arrivals {
            Arrivals::Closed(count) if self.submitted <= count as u64 => {
                workload.job_at_start(self.submitted)
            }
            Arrivals::Closed(_) | Arrivals::Poisson(_) => workload.job(self.submitted),
        };
        let Job { prompt, generate } = job;
        let prompt = workload.prompt(self.submitted, prompt, self.vocabulary);
        let id = self.cluster.submit(prompt, generate, Priority::Interactive, self.submitted)?;
        self.running.insert(id, (self.now(), None));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_counted_from_tick_to_tick() {
        let mut counted = Counted::default();
        let ms = Duration::from_millis;
        for tick in 0..3u32 {
            (0..8).for_each(|_| counted.token(ms(107 + 20 * u64::from(tick)), f64::from(tick) / 3.0));
        }
        let (tokens, seconds) = counted.whole(ms(50));
        assert_eq!((tokens, counted.tenths[0], counted.tenths[6]), (16, 8, 8));
        assert!((seconds - 0.04).abs() < 1e-9);
        let mut at_once = Counted::default();
        at_once.token(ms(3), 0.0);
        assert_eq!(at_once.whole(ms(50)), (1, 0.05));
    }
}
