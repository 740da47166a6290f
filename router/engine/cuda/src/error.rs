use cudarc::driver::result::DriverError;
use thiserror::Error;

/// Why the GPU cannot be used, or what failed on it. Shown to an operator.
#[derive(Debug, Error)]
pub enum CudaError {
    #[error("no NVIDIA driver: libcuda.so.1 is not to be found")]
    NoDriver,
    #[error(
        "kernels cannot be compiled: libnvrtc.so is not to be found; install CUDA's runtime compiler (PyPI nvidia-cuda-nvrtc) and put its \
         folder into LD_LIBRARY_PATH"
    )]
    NoCompiler,
    #[error("there is no cuda:{ordinal}: the machine has {count} GPUs")]
    NoDevice { ordinal: usize, count: usize },
    #[error(
        "cuda:{ordinal} ({name}) has compute capability {major}.{minor}; 8.0 is needed, and {needed} bytes of shared memory a block"
    )]
    TooOld { ordinal: usize, name: String, major: i32, minor: i32, needed: u32 },
    #[error("cuda: {what}: {source}")]
    Driver { what: &'static str, source: DriverError },
    #[error("cuda: no room for {bytes} bytes on the device")]
    OutOfMemory { bytes: usize },
    #[error("cuda: {file} does not compile: {log}")]
    Compile { file: &'static str, log: String },
    #[error("cuda: {0}")]
    Shape(String),
}

/// Names what was tried.
pub(crate) trait Tried<T> {
    fn tried(self, what: &'static str) -> Result<T, CudaError>;
}

impl<T> Tried<T> for Result<T, DriverError> {
    fn tried(self, what: &'static str) -> Result<T, CudaError> {
        self.map_err(|source| CudaError::Driver { what, source })
    }
}
