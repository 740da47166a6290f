use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use reprise_expert_parallel::{
    Cluster, Event, RequestError, RequestId,
    record::Modes,
    workload::{Arrivals, Job},
};
use reprise_scheduler::Priority;

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

/// Sends a workload to a cluster and takes down what comes.
pub(super) struct Driver<'a, P: Send + 'static> {
    options: &'a ExpertParallel,
    cluster: Cluster<P>,
    vocabulary: usize,
    submitted: u64,
    /// When each arrived, and when its last token came.
    running: HashMap<RequestId, (Duration, Option<Duration>)>,
}

impl<'a, P: Send + 'static> Driver<'a, P> {
    pub(super) fn new(options: &'a ExpertParallel, cluster: Cluster<P>, vocabulary: usize) -> Self {
        Self { options, cluster, vocabulary, submitted: 0, running: HashMap::new() }
    }

    pub(super) fn run(mut self, variant: Variant, repeat: usize) -> Result<Run, ExpertParallelError> {
        let (warm_up, measured) = (self.options.warm_up(variant.schedule), self.options.measured);
        let mut next = Some(Duration::ZERO);
        if let Arrivals::Closed(sequences) = self.options.arrivals {
            next = None;
            for _ in 0..sequences {
                self.submit()?;
            }
        }
        let begun = Instant::now();
        let begin = self.cluster.now().0;
        let (mut warm, mut modes) = (false, Modes::default());
        let (mut counted, mut requests, mut gaps, mut first) =
            (Counted::default(), 0, Vec::new(), Vec::new());
        let mut looked = begun;
        while begun.elapsed() < warm_up + measured {
            while next.is_some_and(|next| begun.elapsed() >= next) {
                self.submit()?;
                let gap = self.options.workload().gap(self.submitted);
                next = next.zip(gap).map(|(next, gap)| next + gap);
            }
            if !warm && begun.elapsed() >= warm_up {
                warm = true;
                self.cluster.reset_records();
            }
            let wait = next.map_or(Duration::from_millis(5), |next| next.saturating_sub(begun.elapsed()));
            let events = self.cluster.poll(wait.min(Duration::from_millis(5)));
            if warm {
                modes.add(self.cluster.mode(), looked.elapsed());
            }
            looked = Instant::now();
            for event in events {
                let Event::Token { request, last, at, .. } = event else {
                    let Event::Failed { error, .. } = event else { continue };
                    return Err(error.into());
                };
                let Some((arrived, before)) = self.running.get_mut(&request) else { continue };
                if warm && at >= begin + warm_up {
                    counted.token(at, (at - begin - warm_up).as_secs_f64() / measured.as_secs_f64());
                    requests += u64::from(last);
                    match before {
                        Some(before) => gaps.push(at.saturating_sub(*before).as_secs_f64()),
                        None => first.push(at.saturating_sub(*arrived).as_secs_f64()),
                    }
                }
                *before = Some(at);
                if last {
                    self.running.remove(&request);
                    if let Arrivals::Closed(_) = self.options.arrivals {
                        self.submit()?;
                    }
                }
            }
        }
        let until = self.cluster.now();
        let (tokens, seconds) = counted.whole(begun.elapsed().saturating_sub(warm_up));
        let tenths = counted.tenths;
        let records = self.cluster.stop().into_iter().flatten().collect();
        Ok(Run { variant, repeat, seconds, tokens, tenths, requests, gaps, first, records, until, modes })
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
        self.running.insert(id, (self.cluster.now().0, None));
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
