//! Which tokens a model computes next, and in what order: no I/O, no clock, no candle.
//!
//! The compute itself stands behind [`Backend`].

mod backend;

pub use backend::{
    AttentionRow, Backend, BackendError, BlockId, ExpertId, ModelLayout, PartWork, Row, SubLayerId,
    SubLayerKind,
};
