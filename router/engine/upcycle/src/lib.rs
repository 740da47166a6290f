//! Function-preserving sparse upcycling (arXiv 2212.05055): a dense llama model in GGUF becomes a mixture of experts.
//!
//! In the chosen layers the feed-forward is replaced by `n` experts, each a byte-for-byte copy of it, behind a small random
//! gate `W` (`[n, hidden]`, drawn from about N(0, 0.02)). With `x` the normed state and `F` the dense feed-forward,
//!
//! ```text
//! y = sum_{i in top_k(W x)} w_i F_i(x),    w = softmax over the chosen,    so sum w_i = 1 and F_i = F  =>  y = F(x)
//! ```
//!
//! for any gate: the copy answers as the dense model does, to rounding. Nothing is trained here; what it gains is that the
//! experts can be trained apart, and that an engine for mixtures has real weights to run.
//!
//! The copy is a llama-architecture file in the Mixtral layout (`ffn_gate_inp`, `ffn_{gate,up,down}_exps` with the experts as
//! third dimension). llama.cpp loads it if *all* layers are upcycled: its loader wants experts in every layer or in none.
//!
//! Absences: no tensor is ever decoded, so no candle; no model is ever held in memory, tensors are streamed; no clock and no
//! randomness but the seed, so the same arguments give the same bytes on every machine.

mod error;
mod gate;
mod gguf;
mod layers;
mod plan;
mod run;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use error::{GgufError, UpcycleError};
pub use gguf::{Entry, Format, Header, Tensor, Value};
pub use layers::{Layers, LayersError};
pub use plan::Upcycle;
pub use run::{Summary, upcycle};
