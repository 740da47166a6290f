//! Launches of the kernels, one file for each file of kernels: shapes are checked here, so that no kernel reads or writes beyond what it
//! was given. All work is queued on the device's stream; nothing waits.
#![expect(unsafe_code, reason = "launches of kernels")]

mod attention;
mod cut;
mod join;
mod matrix;
mod product;
mod rotation;
mod route;
mod rows;
mod sample;

pub use attention::{Attention, PrefillTile, attention_decode, attention_prefill};
pub use cut::{Cut, cut, tiles};
pub use join::{Join, SharedPart, join};
pub use matrix::Matrix;
pub use product::{Blocks, Outcome, Product, TileSize, Tiles, multiply, multiply_in};
pub use rotation::{Rotation, rotate};
pub use route::{Grouping, Routing, choose, group_parts, route};
pub use rows::{Embedding, Norm, embed, fill_random, gather_rows, rms_norm, scatter_rows, silu_mul};
pub use sample::argmax;

use crate::{CudaError, Plain, View, compile::Source};

/// A kernel under the name by which it is launched.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kernel {
    pub(crate) name: &'static str,
    pub(crate) symbol: &'static str,
    /// Bytes of shared memory that a launch asks for.
    pub(crate) shared: u32,
}

/// A file of kernels.
#[derive(Debug)]
pub(crate) struct Module {
    pub(crate) source: Source,
    pub(crate) kernels: Vec<Kernel>,
}

pub(crate) fn modules(hopper: bool) -> Vec<Module> {
    let mut modules = product::modules(hopper);
    modules.extend([attention::kernels(hopper), rows::kernels(), route::kernels(), sample::kernels()]);
    modules
}

/// Of any kernel that every GPU must run.
pub(crate) fn most_shared() -> u32 {
    modules(false).iter().flat_map(|module| &module.kernels).map(|kernel| kernel.shared).max().unwrap_or(0)
}

fn module(file: &'static str, text: &'static str, kernels: &[&'static str]) -> Module {
    let kernels = kernels.iter().map(|name| Kernel { name, symbol: name, shared: 0 }).collect();
    Module { source: Source { file, text, defines: &[] }, kernels }
}

/// `what` holds at least `count` numbers.
fn room<T: Plain>(what: &str, view: View<'_, T>, count: usize) -> Result<(), CudaError> {
    if view.len() < count {
        return Err(CudaError::Shape(format!("{what} has {} numbers, not {count}", view.len())));
    }
    Ok(())
}

fn address<T: Plain>(view: Option<View<'_, T>>) -> u64 {
    view.map_or(0, View::address)
}

/// Sizes of models are far below it; what is not would be refused by the driver.
fn int(size: usize) -> i32 {
    i32::try_from(size).unwrap_or(i32::MAX)
}

fn grid(size: usize) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
}

/// The one parameter of a kernel.
macro_rules! launch {
    ($device:expr, $kernel:expr, $grid:expr, $threads:expr, $shared:expr, $($parameters:expr),+) => {{
        let launch = crate::device::Launch { grid: $grid, threads: $threads, shared: $shared };
        // SAFETY: the structures are those of the kernel, and the caller has checked the sizes of all that they point to.
        unsafe { $device.launch($kernel, launch, &mut [$((&raw const $parameters).cast_mut().cast()),+]) }
    }};
}
use launch;
