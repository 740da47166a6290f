mod cells;
mod check;
mod devices;

use std::{num::NonZeroUsize, path::PathBuf, time::Duration};

use reprise_engine::{Arrivals, ExpertParallel, ExpertParallelBench, Lengths, Roles, Variant};

use devices::Devices;

#[derive(Debug, clap::Args)]
pub struct ExpertParallelArgs {
    /// Schedules, one after the other under the same load: lockstep, pingpong, mtfs, flfs, defrag, roofline,
    /// adaptive. With copies of hot experts: `lockstep+2`.
    #[arg(long = "scheduler", value_delimiter = ',', default_value = "lockstep,defrag,adaptive")]
    variants: Vec<Variant>,
    /// So many CPU threads, each a device, or simulated devices; or their names, as in `cpu,cpu`, `cuda:0,cuda:1` or, for streams of one GPU,
    /// `cuda:0,cuda:0`; GPUs in a binary with the feature `cuda`.
    #[arg(long, default_value = "2")]
    devices: Devices,
    /// The first so many devices have attention, the others experts; left out: all have both.
    #[arg(long)]
    attention: Option<u16>,
    /// A GGUF file, a folder of safetensors, or random weights in a known shape. With `--simulate` also `mixtral-8x7b`, `olmoe-1b-7b` or
    /// `qwen3-30b-a3b` on H100s. Left out: random weights of `--experts` and `--top-k`.
    #[arg(long)]
    model: Option<String>,
    /// Fewer layers than a shape has.
    #[arg(long)]
    layers: Option<u16>,
    #[arg(long, default_value_t = 8)]
    experts: u16,
    /// Experts of each token.
    #[arg(long)]
    top_k: Option<u16>,
    /// Loads fall by exp(-X) from the most to the least loaded expert, drawn instead of the model's gates; 0 is even. Left out: the model's own
    /// gates.
    #[arg(long)]
    skew: Option<f64>,
    /// Text for which the model's own gates are counted, instead of drawn tokens.
    #[arg(long)]
    text: Option<PathBuf>,
    /// With `--simulate`: the `loads` of a report, in a file, instead of gates.
    #[arg(long, requires = "simulate", conflicts_with_all = ["skew", "text"])]
    loads: Option<PathBuf>,
    /// With `--simulate`: a device that takes X times as long, `DEVICE:X`.
    #[arg(long, value_parser = straggler)]
    straggler: Option<(u16, f64)>,
    /// Experts that share a place.
    #[arg(long, default_value_t = 1)]
    experts_per_group: u16,
    /// Copies of the hottest experts of a layer.
    #[arg(long, default_value_t = 0)]
    replicas: usize,
    /// tiny, short, medium, long or decode.
    #[arg(long, default_value = "short")]
    workload: Lengths,
    /// Requests a second, Poisson arrivals. Left out: as many sequences at any time as fit.
    #[arg(long)]
    rate: Option<f64>,
    /// Sequences at once on each device with attention.
    #[arg(long, default_value = "32")]
    batch: NonZeroUsize,
    /// The most prompt tokens in flight on each device with attention.
    #[arg(long, default_value = "64")]
    prefill_chunk: NonZeroUsize,
    /// All schedules run so often, each time in another order.
    #[arg(long, default_value = "1")]
    repeats: NonZeroUsize,
    #[arg(long, default_value_t = 2.0)]
    warm_up_seconds: f64,
    /// Of the adaptive schedule, which first finds its pace; as the others if left out.
    #[arg(long)]
    adaptive_warm_up_seconds: Option<f64>,
    /// How long the adaptive schedule looks at a pace.
    #[arg(long, default_value_t = 0.25)]
    control_window_seconds: f64,
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Of the adaptive schedule, which now and then looks at other paces; as the others if left out.
    #[arg(long)]
    adaptive_seconds: Option<f64>,
    /// The schedules take turns of so long in one cluster, an adaptive one a turn before each of another: tells small differences. Lockstep,
    /// pingpong, roofline, defrag and adaptive; copies of one number.
    #[arg(long, conflicts_with_all = ["simulate", "out", "repeats"])]
    turn_seconds: Option<f64>,
    /// Predicted times instead of computing: of the model as measured here, or of H100s.
    #[arg(long)]
    simulate: bool,
    /// Predicted times from a file instead.
    #[arg(long)]
    profile: Option<PathBuf>,
    /// Timelines go to this folder, one SVG and one trace (Perfetto opens it) for each schedule.
    #[arg(long)]
    out: Option<PathBuf>,
    /// All of every device in the report.
    #[arg(long)]
    details: bool,
    /// One JSON object on standard output; there is no other form.
    #[arg(long = "json")]
    _json: bool,
    /// Lines of a name and the arguments of one measurement, from standard input; for each one JSON object, on a line. A model that the
    /// last line had too stays loaded.
    #[arg(long, exclusive = true)]
    cells: bool,
    /// Instead of measuring: does every schedule on these devices compute what one device does, bit for bit, and is nothing left behind? Of
    /// each model, `random:NAME` or a file. One line for each check.
    #[arg(long, value_name = "MODEL")]
    check: Vec<String>,
}

impl ExpertParallelArgs {
    pub fn run(self) -> anyhow::Result<()> {
        if self.cells {
            return cells::run();
        }
        if !self.check.is_empty() {
            return check::run(&self.check, &self.devices.0);
        }
        let report = ExpertParallelBench::default().run(&self.options()?)?;
        println!("{report}");
        Ok(())
    }

    fn options(self) -> anyhow::Result<ExpertParallel> {
        anyhow::ensure!(!self.cells && self.check.is_empty(), "a cell of cells or of checks");
        let adaptive_warm_up = self.adaptive_warm_up_seconds.unwrap_or(self.warm_up_seconds);
        let adaptive_seconds = self.adaptive_seconds.unwrap_or(self.seconds);
        let times = [self.warm_up_seconds, adaptive_warm_up, self.seconds, adaptive_seconds];
        anyhow::ensure!(
            times.iter().all(|time| (0.0..1e6).contains(time))
                && self.seconds > 0.0
                && adaptive_seconds > 0.0,
            "--seconds and --adaptive-seconds must be above 0, --warm-up-seconds and --adaptive-warm-up-seconds at least 0"
        );
        anyhow::ensure!(
            self.turn_seconds.is_none_or(|each| (0.01..1e4).contains(&each)),
            "--turn-seconds must be in [0.01, 10000)"
        );
        anyhow::ensure!(
            (0.001..60.0).contains(&self.control_window_seconds),
            "--control-window-seconds must be in [0.001, 60)"
        );
        anyhow::ensure!(
            self.rate.is_none_or(|rate| rate > 0.0 && rate.is_finite()),
            "--rate must be above 0"
        );
        anyhow::ensure!(
            self.skew.is_none_or(|skew| (0.0..100.0).contains(&skew)),
            "--skew must be in [0, 100)"
        );
        let roles = self.attention.map_or(Roles::Shared, |attention| Roles::Disjoint { attention });
        let attention = self.attention.map_or(self.devices.0.len(), usize::from);
        let closed = Arrivals::Closed(self.batch.get() * attention);
        let (model, top_k) = match self.model {
            Some(model) => (model, self.top_k),
            None => (format!("random:olmoe-mini-{}x{}", self.experts, self.top_k.unwrap_or(2)), None),
        };
        if let Some(folder) = &self.out {
            std::fs::create_dir_all(folder)?;
        }
        Ok(ExpertParallel {
            variants: self.variants,
            devices: self.devices.0,
            roles,
            model,
            layers: self.layers,
            top_k,
            skew: self.skew,
            text: self.text,
            loads: self.loads,
            straggler: self.straggler,
            experts_per_group: self.experts_per_group,
            replicas: self.replicas,
            lengths: self.workload,
            arrivals: self.rate.map_or(closed, Arrivals::Poisson),
            batch: self.batch,
            prefill_chunk: self.prefill_chunk,
            kv_blocks: None,
            repeats: self.repeats,
            adaptive_warm_up: Duration::from_secs_f64(adaptive_warm_up),
            control_window: Duration::from_secs_f64(self.control_window_seconds),
            warm_up: Duration::from_secs_f64(self.warm_up_seconds),
            measured: Duration::from_secs_f64(self.seconds),
            adaptive_measured: Duration::from_secs_f64(adaptive_seconds),
            turn: self.turn_seconds.map(Duration::from_secs_f64),
            simulate: self.simulate,
            profile: self.profile,
            out: self.out,
            details: self.details,
        })
    }
}

fn straggler(text: &str) -> Result<(u16, f64), String> {
    let parse = || {
        let (device, times) = text.split_once(':')?;
        let (device, times) = (device.parse().ok()?, times.parse::<f64>().ok()?);
        (times.is_finite() && times > 0.0).then_some((device, times))
    };
    parse().ok_or_else(|| format!("`{text}`: a device and by how many times it is slower, as in `5:1.5`"))
}
