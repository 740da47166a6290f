//! How long a device takes: what the simulator runs on, and the roofline schedule predicts with. Each says where it comes from.

use std::{collections::BTreeMap, path::Path};

use reprise_scheduler::{
    Stage, SubLayerKind,
    schedule::{Cost, StageCosts},
};
use serde::{Deserialize, Deserializer, Serialize};
use thiserror::Error;

pub use crate::{
    in_turn::{InTurn, OfSize},
    reuse::Reuse,
};

/// Times of one model on one kind of device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    pub name: String,
    /// Measured where and how, or computed from what.
    pub provenance: String,
    pub embed: StageTime,
    /// Of rows of a sequence each; and, where it was measured, of rows of one.
    pub attention: StageTime,
    #[serde(default)]
    pub prompt: Option<StageTime>,
    /// For each position that a row attends to.
    pub context_us: f64,
    /// For each position whose KV is read, once for all rows of a sequence.
    #[serde(default)]
    pub reach_us: f64,
    pub feed_forward: StageTime,
    pub gate: StageTime,
    /// Of the parts of one expert; a call for several pays `fixed_us` once.
    pub expert: StageTime,
    /// Of rows whose parts are joined, before another call.
    #[serde(alias = "join_us", deserialize_with = "time_or_each")]
    pub join: StageTime,
    pub head: StageTime,
    /// What a worker itself takes beside the device.
    #[serde(default, deserialize_with = "each_or_all")]
    pub worker: WorkerTimes,
    pub link: Link,
    /// Of sending a request: those that are sent at once come to a device one after the other.
    #[serde(default)]
    pub request_us: f64,
    /// From a sequence's last token until the request that takes its place has come, of whoever sends the next as soon as one is over: too late
    /// for the call that the others go on with.
    #[serde(default)]
    pub turnaround_us: f64,
    /// Of a worker, for each sequence that it starts before a call.
    #[serde(default)]
    pub start_us: f64,
    /// What was measured, by stage: entries, and microseconds of a call for so many. `beside`: of one expert's in a call for many experts, with
    /// all of `fixed_us`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub points: BTreeMap<String, Vec<[f64; 2]>>,
    /// By stage ([`stage_name`]), and of parcels ([`PARCEL`]): what calls took among all others of a run.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub in_turn: BTreeMap<String, InTurn>,
    /// What calls of experts take less if these were used a short while ago, by parts of a call, ascending.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reuse: Vec<Reuse>,
}

/// What a worker does with a parcel at one of its ends, where the times of stages are told by name.
pub const PARCEL: &str = "parcel";

/// What a stage's times are called.
#[must_use]
pub fn stage_name(stage: Stage, kinds: &[SubLayerKind]) -> &'static str {
    match stage {
        Stage::Embed => "embed",
        Stage::Head => "head",
        Stage::Experts(_) => "experts",
        Stage::SubLayer(at) => match kinds.get(at) {
            Some(SubLayerKind::Attention) => "attention",
            Some(SubLayerKind::Experts { .. }) => "gate",
            Some(SubLayerKind::DenseFeedForward) | None => "feed_forward",
        },
    }
}

/// A call for n entries takes `fixed_us + max(floor_us, n * each_us)`; where it was measured ([`Profile::points`]), what was measured.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct StageTime {
    /// Paid once, where a call is for several experts.
    pub fixed_us: f64,
    pub floor_us: f64,
    pub each_us: f64,
}

/// What a worker takes for calls beside the device: choosing them, taking their rows out and moving these on.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WorkerTimes {
    /// With letting rows in.
    pub embed: StageTime,
    pub attention: StageTime,
    pub feed_forward: StageTime,
    /// With sending its rows' parts on their way.
    pub gate: StageTime,
    pub experts: StageTime,
    pub head: StageTime,
    /// Of what a parcel says of so many parts, when it comes.
    pub parcel: StageTime,
}

/// The way from a device to another. A device sends one parcel after the other, while it computes.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    pub latency_us: f64,
    /// Who waits for longer than `spin_us` has parked, and needs so much longer to look.
    #[serde(default)]
    pub spin_us: f64,
    #[serde(default)]
    pub wake_us: f64,
    /// For each vector of hidden numbers.
    pub vector_us: f64,
    /// What packing a vector, and taking one in, costs the device itself; 0 where a copy engine does it.
    pub pack_us: f64,
    /// The same for a parcel.
    pub parcel_us: f64,
}

impl Link {
    /// Of an end of its way, of so many vectors.
    #[must_use]
    pub fn packing_us(&self, vectors: usize) -> f64 {
        if vectors == 0 { 0.0 } else { self.parcel_us + self.pack_us * vectors as f64 }
    }
}

/// A profile cannot be read.
#[derive(Debug, Error)]
pub enum ProfileError {
    #[error("{path}: {source}")]
    Read { path: String, source: std::io::Error },
    #[error("{path}: {source}")]
    Parse { path: String, source: serde_json::Error },
}

/// Sizes that decide the times of a model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shape {
    pub name: &'static str,
    pub layers: usize,
    pub hidden: f64,
    pub heads: f64,
    pub kv_heads: f64,
    pub head_dim: f64,
    pub experts: u16,
    pub top_k: u16,
    pub width: f64,
    pub vocabulary: f64,
}

/// As in the released checkpoints' `config.json`.
pub const SHAPES: [Shape; 3] = [
    Shape {
        name: "mixtral-8x7b",
        layers: 32,
        hidden: 4096.0,
        heads: 32.0,
        kv_heads: 8.0,
        head_dim: 128.0,
        experts: 8,
        top_k: 2,
        width: 14_336.0,
        vocabulary: 32_000.0,
    },
    Shape {
        name: "olmoe-1b-7b",
        layers: 16,
        hidden: 2048.0,
        heads: 16.0,
        kv_heads: 16.0,
        head_dim: 128.0,
        experts: 64,
        top_k: 8,
        width: 1024.0,
        vocabulary: 50_304.0,
    },
    Shape {
        name: "qwen3-30b-a3b",
        layers: 48,
        hidden: 2048.0,
        heads: 32.0,
        kv_heads: 4.0,
        head_dim: 128.0,
        experts: 128,
        top_k: 8,
        width: 768.0,
        vocabulary: 151_936.0,
    },
];

/// What bounds a device.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hardware {
    pub name: &'static str,
    pub bytes_per_second: f64,
    pub flops_per_second: f64,
    pub link_bytes_per_second: f64,
    pub link_latency_us: f64,
    /// Of any call.
    pub call_us: f64,
}

impl Hardware {
    /// Memory by its data sheet, multiplication as measured (790 TFLOP/s, bf16, 8192^3); NVLink as its data sheet has it, one way. Latency and the cost of a call
    /// (some kernel launches, the host's choice) are assumed.
    pub const H100: Self = Self {
        name: "h100",
        bytes_per_second: 3.35e12,
        flops_per_second: 790e12,
        link_bytes_per_second: 450e9,
        link_latency_us: 10.0,
        call_us: 15.0,
    };
}

/// Profiles of before have one time for all calls.
fn each_or_all<'de, D: Deserializer<'de>>(deserializer: D) -> Result<WorkerTimes, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        All(StageTime),
        Each(WorkerTimes),
    }
    Ok(match Either::deserialize(deserializer)? {
        Either::All(time) => {
            let parcel = StageTime::default();
            let (attention, feed_forward) = (time, time);
            WorkerTimes {
                embed: time,
                attention,
                feed_forward,
                gate: time,
                experts: time,
                head: time,
                parcel,
            }
        }
        Either::Each(times) => times,
    })
}

/// Profiles of before have a number here: microseconds of each.
fn time_or_each<'de, D: Deserializer<'de>>(deserializer: D) -> Result<StageTime, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Each(f64),
        Time(StageTime),
    }
    Ok(match Either::deserialize(deserializer)? {
        Either::Each(each_us) => StageTime { each_us, ..StageTime::default() },
        Either::Time(time) => time,
    })
}

impl Profile {
    /// Bytes over bandwidth or FLOPs over peak, whichever is more: no kernel reaches it, so ratios mean more than times.
    #[must_use]
    pub fn roofline(shape: &Shape, hardware: &Hardware) -> Self {
        let Shape { hidden, heads, kv_heads, head_dim, width, vocabulary, .. } = *shape;
        const BYTES: f64 = 2.0;
        let us = 1e6;
        let matrix = |weights: f64| StageTime {
            fixed_us: hardware.call_us,
            floor_us: us * BYTES * weights / hardware.bytes_per_second,
            each_us: us * 2.0 * weights / hardware.flops_per_second,
        };
        let vectors = |count: f64| us * BYTES * hidden * count / hardware.bytes_per_second;
        let attention = hidden * head_dim * (2.0 * heads + 2.0 * kv_heads);
        let embed = StageTime { fixed_us: hardware.call_us, each_us: vectors(2.0), ..StageTime::default() };
        Self {
            name: format!("{} on {}", shape.name, hardware.name),
            provenance: format!(
                "rooflines, not measured: bf16 bytes over {:.3e} B/s or FLOPs over {:.3e} per s; {} us assumed for each call; \
                 link {:.3e} B/s, {} us assumed for its latency",
                hardware.bytes_per_second,
                hardware.flops_per_second,
                hardware.call_us,
                hardware.link_bytes_per_second,
                hardware.link_latency_us
            ),
            embed,
            attention: matrix(attention),
            prompt: None,
            // A position's keys and values, read once; multiplied with each row's queries and weights.
            context_us: us * 4.0 * heads * head_dim / hardware.flops_per_second,
            reach_us: us * BYTES * 2.0 * kv_heads * head_dim / hardware.bytes_per_second,
            feed_forward: matrix(3.0 * hidden * width),
            gate: matrix(hidden * f64::from(shape.experts)),
            expert: matrix(3.0 * hidden * width),
            join: StageTime { each_us: vectors(f64::from(shape.top_k) + 2.0), ..StageTime::default() },
            head: matrix(hidden * vocabulary),
            // In the cost of a call.
            worker: WorkerTimes::default(),
            link: Link {
                latency_us: hardware.link_latency_us,
                vector_us: us * BYTES * hidden / hardware.link_bytes_per_second,
                ..Link::default()
            },
            points: BTreeMap::new(),
            in_turn: BTreeMap::new(),
            request_us: 0.0,
            turnaround_us: 0.0,
            start_us: 0.0,
            reuse: Vec::new(),
        }
    }

    /// # Errors
    /// The file cannot be read, or is no profile.
    pub fn read(path: &Path) -> Result<Self, ProfileError> {
        let name = || path.display().to_string();
        let text =
            std::fs::read_to_string(path).map_err(|source| ProfileError::Read { path: name(), source })?;
        serde_json::from_str(&text).map_err(|source| ProfileError::Parse { path: name(), source })
    }

    #[must_use]
    pub fn costs(&self) -> StageCosts {
        let cost = |name: &str, time: StageTime, worker: StageTime| {
            let fixed = time.fixed_us * 1e-6;
            let device = match self.points.get(name).filter(|points| points.len() > 1) {
                Some(points) => Cost::through(points.iter().map(|[n, us]| (*n, us * 1e-6)), fixed),
                None => Cost::roofline(fixed, time.floor_us * 1e-6, time.each_us * 1e-6),
            };
            device.plus_line(worker.fixed_us * 1e-6, worker.each_us * 1e-6)
        };
        let (worker, nothing) = (&self.worker, StageTime::default());
        let attention = cost("attention", self.attention, worker.attention);
        let expert = cost("expert", self.expert, worker.experts);
        let is_measured = self.points.contains_key("beside");
        let beside = if is_measured { cost("beside", self.expert, worker.experts) } else { expert };
        StageCosts {
            embed: cost("embed", self.embed, worker.embed),
            attention,
            prompt: self.prompt.map_or(attention, |prompt| cost("prompt", prompt, worker.attention)),
            context: self.context_us * 1e-6,
            reach: self.reach_us * 1e-6,
            feed_forward: cost("feed_forward", self.feed_forward, worker.feed_forward),
            gate: cost("gate", self.gate, worker.gate),
            expert,
            beside,
            join: cost("join", self.join, nothing),
            head: cost("head", self.head, worker.head),
            parcel: cost("parcel", nothing, worker.parcel),
            packing: Cost::roofline(1e-6 * self.link.parcel_us, 0.0, 1e-6 * self.link.pack_us),
            link: Cost::roofline(1e-6 * self.link.latency_us, 0.0, 1e-6 * self.link.vector_us),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooflines_are_those_of_the_recipes() {
        // Qwen3-30B-A3B at batch 1, 1k context: 542 tokens/s. All weights that a token needs, each once, and its KV.
        let shape = SHAPES.iter().find(|shape| shape.name == "qwen3-30b-a3b").expect("known");
        let profile = Profile::roofline(shape, &Hardware::H100);
        let layer = profile.attention.floor_us
            + 1024.0 * profile.reach_us
            + profile.gate.floor_us
            + 8.0 * profile.expert.floor_us;
        let seconds = (48.0 * layer + profile.head.floor_us) * 1e-6;
        assert!((1.0 / seconds - 542.0).abs() < 11.0, "{}", 1.0 / seconds);
        // An expert leaves the memory roof at 236 rows.
        let rows = profile.expert.floor_us / profile.expert.each_us;
        assert!((rows - 236.0).abs() < 1.0, "{rows}");
    }

    #[test]
    fn a_profile_is_read_as_it_is_written() {
        let profile = Profile::roofline(&SHAPES[0], &Hardware::H100);
        let text = serde_json::to_string(&profile).expect("writes");
        assert_eq!(serde_json::from_str::<Profile>(&text).expect("reads"), profile);
        assert!(serde_json::from_str::<Profile>(&text.replace("\"join\"", "\"joins\"")).is_err());
        let mut before: serde_json::Value = serde_json::from_str(&text).expect("reads");
        let each = before["join"]["each_us"].take();
        before["join_us"] = each;
        before["worker"] = serde_json::json!(StageTime::default());
        before.as_object_mut().expect("an object").remove("join");
        assert_eq!(serde_json::from_value::<Profile>(before).expect("reads"), profile);
    }

    #[test]
    fn what_was_measured_is_what_is_predicted() {
        let mut profile = Profile::roofline(&SHAPES[0], &Hardware::H100);
        profile.points.insert("head".into(), vec![[1.0, 90.0], [64.0, 240.0], [512.0, 380.0]]);
        let (before, costs) = (Profile::roofline(&SHAPES[0], &Hardware::H100).costs(), profile.costs());
        assert!((costs.head.seconds(64) * 1e6 - 240.0).abs() < 1e-6);
        assert!((costs.head.fixed() - before.head.fixed()).abs() < 1e-12);
        assert_eq!(costs.expert, before.expert);
        profile.worker.head = StageTime { fixed_us: 3.0, each_us: 0.5, ..StageTime::default() };
        assert!((profile.costs().head.seconds(64) * 1e6 - 275.0).abs() < 1e-6);
    }
}
