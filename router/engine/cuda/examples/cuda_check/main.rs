//! Holds every kernel to its reference on random inputs, and times it beside what the GPU could do at best.
//!
//! ```text
//! cuda_check [--device 0] [--no-times | --products]
//! ```
//!
//! Prints a line for each check and ends with failure if one is off; then, as CSV, times with the bytes that must be moved and the
//! operations that must be done. `--no-times` is for compute-sanitizer; `--products` times experts' products alone, in tiles and blocks of every size.

mod attention;
mod check;
mod product;
mod products;
mod rows;
mod times;

use reprise_cuda::{CudaError, Device};

fn main() -> Result<(), CudaError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let ordinal = arguments.iter().position(|argument| argument == "--device");
    let ordinal = ordinal.and_then(|at| arguments.get(at + 1)?.parse().ok()).unwrap_or(0);
    let begun = std::time::Instant::now();
    let device = Device::open(ordinal)?;
    println!("# {device:?}, opened in {:.2} s", begun.elapsed().as_secs_f64());
    if arguments.iter().any(|argument| argument == "--products") {
        return products::measure(&device);
    }
    let mut checks = check::Checks::default();
    product::check(&device, &mut checks)?;
    attention::check(&device, &mut checks)?;
    rows::check(&device, &mut checks)?;
    if !arguments.iter().any(|argument| argument == "--no-times") {
        times::measure(&device)?;
    }
    checks.end();
    Ok(())
}
