//! What the kernels compute, plainly and in f64: what tests hold them to. Inputs come as the kernels see them, rounded to their formats.

mod attention;
mod product;
mod route;
mod rows;

pub use attention::{PagedKv, attend};
pub use product::{gated, multiply};
pub use route::{choose, group};
pub use rows::{argmax, join, rms_norm, rotate};
