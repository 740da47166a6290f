//! What a payload costs on its way from the first device to the second, by its size.

use std::time::Instant;

use reprise_expert_parallel::workload::LENGTHS;
use reprise_scheduler::{Backend, DeviceId, Exchange, Row, ScheduleKind, SubLayerKind};
use serde_json::{Value, json};

use super::{ExpertParallel, ExpertParallelError, machine::Machine};

/// Rows of a payload.
const ROWS: [u32; 5] = [1, 8, 64, 256, 1024];
const REPEATS: usize = 60;

/// For each size: bytes, the time of the sender's device for writing them (where it can tell), of both hosts for handing over and taking in, and
/// until a call of the receiver that needs them has ended, less that call alone. Medians, but for the device's, which is a mean.
pub(super) fn link<M: Machine>(options: &ExpertParallel, machine: &M) -> Result<Value, ExpertParallelError> {
    let room = ExpertParallel {
        lengths: LENGTHS[0],
        prefill_chunk: options.prefill_chunk.saturating_add(1024),
        kv_blocks: None,
        ..options.clone()
    };
    let mut devices = machine.devices(&room, ScheduleKind::Lockstep)?;
    let at = machine.layout().sub_layers.iter().position(|kind| matches!(kind, SubLayerKind::Experts { .. }));
    let [first, second, ..] = devices.as_mut_slice() else { return Ok(Value::Null) };
    let Some(at) = at else { return Ok(Value::Null) };
    let (first_row, mut found) = ([Row(0)], Vec::new());
    second.embed(&first_row, &[0])?;
    let alone = median(|| Ok(second.join(at, &first_row)?))?;
    for count in ROWS {
        let rows: Vec<Row> = (0..count).map(Row).collect();
        if rows.len() > second.layout().rows.min(first.layout().rows) {
            break;
        }
        let before = first.way_times();
        let mut handing = Vec::new();
        let whole = median(|| {
            let begun = Instant::now();
            let payload = first.inputs(at, &rows, DeviceId(1))?;
            second.put_inputs(at, &rows, payload)?;
            handing.push(begun.elapsed().as_secs_f64());
            Ok(second.join(at, &first_row)?)
        })?;
        handing.sort_unstable_by(f64::total_cmp);
        let after = first.way_times();
        let timed = after.transfers.saturating_sub(before.transfers);
        let writing = (timed > 0).then(|| 1e6 * (after.seconds - before.seconds) / timed as f64);
        found.push(json!({
            "rows": count,
            "bytes": rows.len() * first.vector_bytes(),
            "writing_us": writing,
            "hosts_us": 1e6 * handing[handing.len() / 2],
            "until_used_us": 1e6 * (whole - alone).max(0.0),
        }));
    }
    Ok(Value::Array(found))
}

/// Seconds of a call.
fn median(mut call: impl FnMut() -> Result<(), ExpertParallelError>) -> Result<f64, ExpertParallelError> {
    let mut times = Vec::with_capacity(REPEATS);
    for _ in 0..REPEATS {
        let begun = Instant::now();
        call()?;
        times.push(begun.elapsed().as_secs_f64());
    }
    times.sort_unstable_by(f64::total_cmp);
    Ok(times[REPEATS / 2])
}
