//! A mixture-of-experts model over many devices (asynchronous expert parallelism, AMoE, arXiv 2505.08944).
//!
//! What is computed next, where everything lies and how parts are joined is decided in `reprise-scheduler`, by one
//! [`Pipeline`](reprise_scheduler::Pipeline) for each device. Here stands what carries it out, twice: [`Cluster`] has a thread for each device
//! ([`worker`]), real numbers and a [`transport`] between them, and notices a device that dies or stalls; [`simulate`] has neither numbers nor
//! threads, but the times that a [`profile`] predicts. Both take the same requests ([`workload`]) and leave the same [`record`]s.
//!
//! A device is an [`Exchange`](reprise_scheduler::Exchange), a way between devices a [`Transport`](transport::Transport): GPUs bring their own of
//! both, and nothing else changes.

mod between;
mod cluster;
mod in_turn;
mod measure;
pub mod profile;
pub mod record;
mod reuse;
pub mod simulate;
mod steer;
mod timeline;
pub mod transport;
mod unit;
mod view;
pub mod worker;
pub mod workload;

pub use cluster::{
    Cluster, ClusterConfig, ClusterError, Command, Event, Lost, Replan, RequestError, RequestId, Start,
};
pub use measure::{measure, measure_reuse, measure_up_to, with_latency};
pub use steer::Steered;
pub use timeline::{svg, trace_events};
pub use view::{DeviceView, ExpertView, Watch};
