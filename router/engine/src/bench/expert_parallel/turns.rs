//! Schedules in turns, in one cluster. Two clusters that do the same differ by some per cent, by where their threads happen to run and by what the
//! machine does besides; two turns of one cluster do not, so that far smaller differences are told from each other.

use std::time::Duration;

use reprise_expert_parallel::record::Modes;
use reprise_scheduler::{Mode, Pace, ScheduleKind, schedule::RowsOut};
use serde_json::{Value, json};

use super::{
    ExpertParallel, ExpertParallelError,
    drive::{Came, Driver},
    report::{mode_shares, quantiles},
    variant::Variant,
};

/// Share of a turn that is left out: what the one before has left behind.
const SETTLE: f64 = 0.25;
/// Turns after which there is a pause.
const PAUSE: usize = 10;

/// Who takes turns with whom: whatever an adaptive schedule can do, and what it does by itself.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Contenders {
    /// Copies of hot groups that there are, used or not.
    pub(super) replicas: usize,
    /// By themselves; if any, it has a turn before each turn of another.
    adaptive: Option<Variant>,
    others: Vec<(Variant, Mode)>,
}

/// What came in a turn, from its first token to its last, without what is left out.
#[derive(Debug, Default)]
struct Turn {
    begin: Option<(Duration, RowsOut)>,
    end: (Duration, RowsOut),
    /// After the first.
    tokens: u64,
    modes: Modes,
}

impl Contenders {
    /// `otherwise`: the copies of a variant that says nothing of them.
    pub(super) fn of(variants: &[Variant], otherwise: usize) -> Result<Self, ExpertParallelError> {
        let copies = |variant: &Variant| variant.replicas.unwrap_or(otherwise);
        let replicas = variants.iter().map(copies).max().unwrap_or(0);
        let mut found = Self { replicas, adaptive: None, others: Vec::new() };
        for variant in variants {
            let no_turn = |why| ExpertParallelError::NoTurn { variant: *variant, why };
            let pace = match variant.schedule {
                ScheduleKind::Lockstep => Pace::Lockstep,
                ScheduleKind::PingPong => Pace::PingPong,
                ScheduleKind::Roofline => Pace::Free,
                ScheduleKind::Defrag => Pace::Defrag,
                ScheduleKind::Adaptive if copies(variant) == replicas => {
                    found.adaptive = Some(*variant);
                    continue;
                }
                ScheduleKind::Adaptive => {
                    return Err(no_turn("it has the copies that any of the others has"));
                }
                ScheduleKind::MostTokensFirst | ScheduleKind::FirstLayerFirst => {
                    return Err(no_turn("no adaptive schedule does the same"));
                }
            };
            let copies = copies(variant);
            if ![0, replicas].contains(&copies) {
                return Err(no_turn("all that have copies must have as many"));
            }
            found.others.push((*variant, Mode { pace, copies: copies > 0 }));
        }
        Ok(found)
    }

    /// Turns of a round, in another order each time. What is held; none: as an adaptive schedule goes on.
    fn round(&self, round: usize) -> Vec<(Variant, Option<Mode>)> {
        let mut others = self.others.clone();
        let first = round % others.len().max(1);
        others.rotate_left(first);
        let adaptive = self.adaptive.map(|variant| (variant, None));
        let mut turns: Vec<_> = others
            .into_iter()
            .flat_map(|(other, mode)| adaptive.into_iter().chain([(other, Some(mode))]))
            .collect();
        if turns.is_empty() {
            turns.extend(adaptive);
        }
        turns
    }
}

impl Turn {
    fn add(&mut self, at: Duration, out: RowsOut) {
        let (begin, _) = *self.begin.get_or_insert((at, out));
        self.tokens += u64::from(at > begin);
        if at >= self.end.0 {
            self.end = (at, out);
        }
    }

    fn report(&self, variant: Variant) -> Value {
        let (begin, before) = self.begin.unwrap_or_default();
        let (end, out) = self.end;
        let mut report = json!({
            "scheduler": variant.to_string(),
            "at_s": begin.as_secs_f64(),
            "seconds": end.saturating_sub(begin).as_secs_f64(),
            "tokens": self.tokens,
            "prompt_rows": out.since(before).prompt,
        });
        mode_shares(&mut report, &self.modes);
        report
    }
}

/// Whole rounds, at least one, as long as there is time, with a pause before the first, after the last and every [`PAUSE`] turns, whose time does not
/// count. A JSON object for each turn, and times between tokens by schedule.
pub(super) fn take<P: Send + 'static>(
    options: &ExpertParallel,
    contenders: &Contenders,
    driver: &mut Driver<'_, P>,
    each: Duration,
    mut pause: impl FnMut(&mut Driver<'_, P>) -> Result<(), ExpertParallelError>,
) -> Result<(Vec<Value>, Value), ExpertParallelError> {
    driver.cluster().hold(None);
    let warm = driver.elapsed() + options.adaptive_warm_up;
    while driver.elapsed() < warm {
        driver.step()?;
    }
    let mut late = warm + options.measured;
    let (mut turns, mut gaps) = (Vec::new(), Vec::<(Variant, Vec<f64>)>::new());
    let mut pause_at = 0;
    for round in 0.. {
        let now = contenders.round(round);
        let time = each * u32::try_from(now.len()).unwrap_or(u32::MAX);
        if now.is_empty() || round > 0 && driver.elapsed() + time > late {
            break;
        }
        if turns.len() >= pause_at {
            let begun = driver.elapsed();
            pause(driver)?;
            late += driver.elapsed().saturating_sub(begun);
            pause_at = turns.len() + PAUSE;
        }
        for (variant, mode) in now {
            let (turn, of_turn) = take_one(driver, mode, each)?;
            turns.push(turn.report(variant));
            match gaps.iter_mut().find(|(of, _)| *of == variant) {
                Some((_, gaps)) => gaps.extend(of_turn),
                None => gaps.push((variant, of_turn)),
            }
        }
    }
    pause(driver)?;
    let gaps = gaps.into_iter().map(|(variant, mut gaps)| (variant.to_string(), quantiles(&mut gaps)));
    Ok((turns, Value::Object(gaps.collect())))
}

fn take_one<P: Send + 'static>(
    driver: &mut Driver<'_, P>,
    mode: Option<Mode>,
    each: Duration,
) -> Result<(Turn, Vec<f64>), ExpertParallelError> {
    driver.cluster().hold(mode);
    let begin = driver.elapsed();
    let counted = begin + each.mul_f64(SETTLE);
    let (mut turn, mut gaps, mut looked) = (Turn::default(), Vec::new(), begin);
    while driver.elapsed() < begin + each {
        let came = driver.step()?;
        let (now, out) = (driver.elapsed(), driver.cluster().rows_out());
        if now >= counted {
            turn.modes.add(driver.cluster().mode(), now.saturating_sub(looked.max(counted)));
        }
        looked = now;
        for Came { at, before, .. } in came.into_iter().filter(|came| came.at >= counted) {
            turn.add(at, out);
            gaps.extend(before.filter(|before| *before >= counted).map(|before| (at - before).as_secs_f64()));
        }
    }
    Ok((turn, gaps))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_counted_from_tick_to_tick() {
        let mut turn = Turn::default();
        for tick in 0..4u64 {
            let out = RowsOut { tokens: 8 * tick, prompt: 3 * tick };
            (0..8).for_each(|_| turn.add(Duration::from_millis(107 + 20 * tick), out));
        }
        let report = turn.report("lockstep".parse().expect("known"));
        assert_eq!((report["tokens"].as_u64(), report["prompt_rows"].as_u64()), (Some(24), Some(9)));
        assert!((report["seconds"].as_f64().expect("a number") - 0.06).abs() < 1e-9);
    }

    fn contenders(text: &str) -> Result<Contenders, ExpertParallelError> {
        let variants: Vec<Variant> = text.split(',').map(|name| name.parse().expect("known")).collect();
        Contenders::of(&variants, 0)
    }

    #[test]
    fn adaptive_has_a_turn_before_each_turn_of_another() {
        let contenders = contenders("lockstep,lockstep+2,adaptive+2").expect("they take turns");
        let names = |round| contenders.round(round).iter().map(|(of, _)| of.to_string()).collect::<Vec<_>>();
        assert_eq!(names(0), ["adaptive+2", "lockstep", "adaptive+2", "lockstep+2"]);
        assert_eq!(names(1), ["adaptive+2", "lockstep+2", "adaptive+2", "lockstep"]);
        let copies = |(_, mode): &(Variant, Option<Mode>)| mode.map(|mode| mode.copies);
        assert_eq!(
            contenders.round(0).iter().map(copies).collect::<Vec<_>>(),
            [None, Some(false), None, Some(true)]
        );
    }

    #[test]
    fn who_cannot_take_turns_is_told_why() {
        for (text, of) in [
            ("lockstep,mtfs", "mtfs"),
            ("adaptive,lockstep+2", "adaptive"),
            ("lockstep+1,lockstep+2", "lockstep+1"),
        ] {
            let error = contenders(text).expect_err(text).to_string();
            assert!(error.starts_with(&format!("`{of}` takes no turns: ")), "{error}");
        }
    }
}
