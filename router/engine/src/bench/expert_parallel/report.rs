use std::time::Duration;

use reprise_expert_parallel::{
    profile::Profile,
    record::{DeviceReport, Modes, Record, balance},
    svg, trace_events,
    workload::Arrivals,
};
use reprise_scheduler::{
    Moment, Pace, Placement,
    placement::{Loads, Roles},
};
use serde_json::{Value, json};

use super::{ExpertParallel, ExpertParallelError, drive::Sending, variant::Variant};

/// Of a timeline's picture.
const PICTURE: Duration = Duration::from_millis(10);

/// What a schedule came to.
pub(super) struct Run {
    pub(super) variant: Variant,
    pub(super) repeat: usize,
    pub(super) seconds: f64,
    pub(super) tokens: u64,
    /// In each tenth of the measured time.
    pub(super) tenths: [u64; 10],
    pub(super) requests: u64,
    /// Seconds.
    pub(super) gaps: Vec<f64>,
    pub(super) first: Vec<f64>,
    pub(super) records: Vec<Record>,
    pub(super) until: Moment,
    /// Of an adaptive schedule.
    pub(super) modes: Modes,
    pub(super) sending: Sending,
}

/// Mean and quantiles of seconds, in milliseconds.
pub(super) fn quantiles(seconds: &mut [f64]) -> Value {
    seconds.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| {
        seconds.get(((seconds.len().saturating_sub(1)) as f64 * share) as usize).map(|seconds| seconds * 1e3)
    };
    let mean = seconds.iter().sum::<f64>() / seconds.len().max(1) as f64 * 1e3;
    json!({ "mean": mean, "p50": at(0.5), "p90": at(0.9), "p99": at(0.99) })
}

/// How much of the time was spent in which mode.
pub(super) fn mode_shares(report: &mut Value, modes: &Modes) {
    report["pingpong_share"] = json!(modes.share(|mode| mode.pace == Pace::PingPong));
    report["free_share"] = json!(modes.share(|mode| mode.pace == Pace::Free));
    report["defrag_share"] = json!(modes.share(|mode| mode.pace == Pace::Defrag));
    report["copies_share"] = json!(modes.share(|mode| mode.copies));
}

impl Run {
    pub(super) fn report(mut self, options: &ExpertParallel) -> Result<Value, ExpertParallelError> {
        let devices: Vec<DeviceReport> =
            self.records.iter().enumerate().map(|(i, record)| record.report(i, self.until)).collect();
        self.pictures(options)?;
        let oldest = devices.iter().map(|device| device.oldest_entry_ms).fold(0.0f64, f64::max);
        let mean = |kind: &str| {
            let stages: Vec<_> = devices.iter().filter_map(|device| device.stages.get(kind)).collect();
            let calls: u64 = stages.iter().map(|stage| stage.calls).sum();
            let entries: f64 = stages.iter().map(|stage| stage.mean_entries * stage.calls as f64).sum();
            entries / calls.max(1) as f64
        };
        let idle: Vec<f64> = devices.iter().map(|device| device.idle_share).collect();
        let mut report = json!({
            "scheduler": self.variant.to_string(),
            "repeat": self.repeat,
            "measured_s": self.seconds,
            "tokens_per_second": self.tokens as f64 / self.seconds,
            "tokens_in_tenths": self.tenths,
            "requests_per_second": self.requests as f64 / self.seconds,
            "inter_token_ms": quantiles(&mut self.gaps),
            "first_token_ms": quantiles(&mut self.first),
            "mean_rows_per_attention_call": mean("sub_layer"),
            "mean_parts_per_expert_call": mean("experts"),
            "idle_share_per_device": idle,
            "oldest_entry_ms": oldest,
            "balance_mean_over_max": balance(&devices),
        });
        mode_shares(&mut report, &self.modes);
        if options.details {
            report["devices"] = json!(devices);
        }
        Ok(report)
    }

    fn pictures(&self, options: &ExpertParallel) -> Result<(), ExpertParallelError> {
        let Some(folder) = &options.out else { return Ok(()) };
        let title = format!("{}, {}, {} devices", options.model, self.variant, options.count());
        // From the middle of what was kept.
        let spans = self.records.iter().flat_map(Record::spans);
        let (first, last) = spans.fold((Moment(Duration::MAX), Moment::default()), |(first, last), span| {
            (first.min(span.begin), last.max(span.end))
        });
        let middle = Moment(first.0.min(last.0) + last.since(first) / 2);
        let picture = svg(&self.records, &title, middle, PICTURE.as_secs_f64());
        let files = [("svg", picture), ("trace.json", trace_events(&self.records).to_string())];
        for (ending, text) in files {
            let path = folder.join(format!("{}.{ending}", self.variant));
            std::fs::write(&path, text).map_err(|source| ExpertParallelError::Write { path, source })?;
        }
        Ok(())
    }
}

/// All runs with what they have in common.
pub(super) fn whole(
    options: &ExpertParallel,
    device: &str,
    runs: Vec<Run>,
    placement: &Placement,
    loads: &Loads,
    profile: &Profile,
) -> Result<Value, ExpertParallelError> {
    let (roles, attention) = match options.roles {
        Roles::Shared => ("shared", options.count()),
        Roles::Disjoint { attention } => ("disjoint", attention),
    };
    let arrivals = match options.arrivals {
        Arrivals::Closed(sequences) => json!({ "closed_sequences": sequences }),
        Arrivals::Poisson(rate) => json!({ "poisson_requests_per_second": rate }),
    };
    let gates = match options.skew {
        None => "natural".to_owned(),
        Some(skew) => format!("synthetic: loads fall by exp(-{skew}) from the first expert to the last"),
    };
    let runs = runs.into_iter().map(|run| run.report(options)).collect::<Result<Vec<_>, _>>()?;
    Ok(json!({
        "model": options.model,
        "simulated": options.simulate,
        "layers": options.layers,
        "top_k": options.top_k,
        "devices": options.count(),
        "device_names": options.devices.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "device": device,
        "roles": roles,
        "attention_devices": attention,
        "experts_per_group": options.experts_per_group,
        "replicas": options.replicas,
        "gates": gates,
        "skew_of_loads": loads.skew(),
        "straggler": options.straggler,
        "placement_balance_mean_over_max": placement.balance(loads),
        "workload": options.lengths,
        "arrivals": arrivals,
        "sequences_per_attention_device": options.batch,
        "prefill_chunk_tokens": options.prefill_chunk,
        "measured_s": options.measured.as_secs_f64(),
        "profile": profile,
        "runs": runs,
    }))
}
