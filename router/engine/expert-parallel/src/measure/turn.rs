use std::time::{Duration, Instant};

use reprise_scheduler::{
    BackendError, CoreConfig, Exchange, Finished, Moment, NewSequence, Pipeline, Priority, ScheduleKind,
};

use crate::profile::StageTime;

/// Sequences and calls that are looked at.
const SEQUENCES: usize = 16;
const CALLS: usize = 4000;
/// Not for longer than this.
const MOST: Duration = Duration::from_millis(700);

/// What a worker itself takes for a call: choosing a queue, taking its rows out and moving them on. A line through calls of many sizes.
pub(super) fn measure<D: Exchange>(device: &mut D) -> Result<StageTime, BackendError> {
    let layout = device.layout().clone();
    let wrong = |error: &dyn std::fmt::Display| BackendError(error.to_string());
    let rows = layout.rows.min(2 * SEQUENCES);
    let config =
        CoreConfig { max_sequences: SEQUENCES.min(rows), prefill_chunk: (rows / 2).max(1), max_rows: rows };
    let schedule = ScheduleKind::MostTokensFirst.build(&layout.sub_layers, &Default::default());
    let mut pipeline =
        Pipeline::with_schedule(config, &layout, 1, schedule).map_err(|error| wrong(&error))?;
    let room = (layout.kv_blocks * layout.kv_block_tokens / SEQUENCES).min(layout.context_length);
    let max_new = room.saturating_sub(2 + layout.kv_block_tokens).max(1);
    let mut started = 0;
    let (mut out, mut outbox, mut samples) = (Finished::default(), Vec::new(), Vec::with_capacity(CALLS));
    let late = Instant::now() + MOST;
    while samples.len() < CALLS && Instant::now() < late {
        while pipeline.core().len() < config.max_sequences {
            started += 1;
            let (priority, deadline) = (Priority::Interactive, None);
            // Tokens of no model; none shares another's KV.
            let tokens = vec![1];
            let new = NewSequence { tokens, max_new, priority, deadline, scope: started, greedy: false };
            pipeline.start(new).map_err(|error| wrong(&error))?;
        }
        let begun = Instant::now();
        pipeline.admit(Moment::default());
        let Some(entries) = pipeline.begin(Moment::default()).map(|work| work.entries) else { break };
        let before = begun.elapsed();
        pipeline.compute(device)?;
        let computed = Instant::now();
        pipeline.complete(Moment::default(), &mut out, &mut outbox);
        samples.push((entries as f64, (before + computed.elapsed()).as_secs_f64() * 1e6));
        for id in out.ready().collect::<Vec<_>>() {
            // One of 64 tokens is the last, so that sequences come and go.
            if samples.len().is_multiple_of(64) || pipeline.core().tokens(id).len() >= max_new {
                pipeline.end(id);
            } else {
                pipeline.push(id, 1);
            }
        }
    }
    Ok(line(&mut samples))
}

/// Least squares, without the slowest hundredth: in these something else ran.
fn line(samples: &mut Vec<(f64, f64)>) -> StageTime {
    samples.sort_unstable_by(|a, b| a.1.total_cmp(&b.1));
    samples.truncate((samples.len() * 99).div_ceil(100));
    let count = samples.len().max(1) as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| samples.iter().map(of).sum::<f64>() / count;
    let (entries, us) = (mean(|sample| sample.0), mean(|sample| sample.1));
    let (mut covariance, mut variance) = (0.0, 0.0);
    for sample in samples.iter() {
        covariance += (sample.0 - entries) * (sample.1 - us);
        variance += (sample.0 - entries).powi(2);
    }
    let each_us = if variance > 0.0 { (covariance / variance).max(0.0) } else { 0.0 };
    StageTime { fixed_us: (us - each_us * entries).max(0.0), each_us, ..StageTime::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found_whatever_else_ran() {
        let mut samples: Vec<_> = (0..400).map(|i| f64::from(i % 20)).map(|n| (n, 3.0 + 0.5 * n)).collect();
        samples[7].1 = 900.0;
        let StageTime { fixed_us, floor_us, each_us, .. } = line(&mut samples);
        assert!((fixed_us - 3.0).abs() < 1e-9 && (each_us - 0.5).abs() < 1e-9 && floor_us == 0.0);
        assert_eq!(line(&mut Vec::new()), StageTime::default());
    }
}
