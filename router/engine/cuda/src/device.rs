//! A GPU with its kernels and the one stream that all work of a worker goes through, in order.
#![expect(unsafe_code, reason = "calls of the driver")]

use std::{
    collections::HashMap,
    ffi::{CString, c_void},
    fmt, ptr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use cudarc::driver::{result, sys};

use crate::{CudaError, compile, error::Tried, ops};

/// One GPU, seen by one worker.
pub struct Device {
    ordinal: usize,
    name: String,
    context: sys::CUcontext,
    stream: sys::CUstream,
    multiprocessors: u32,
    hopper: bool,
    /// Whether kernels begin before the last has ended.
    overlaps: bool,
    /// The next kernel waits for an event of another stream: its start is not to overlap with anything.
    held: AtomicBool,
    kernels: HashMap<&'static str, sys::CUfunction>,
}

// SAFETY: the driver's handles may be used from any thread that has entered the context; all of ours do.
unsafe impl Send for Device {}
// SAFETY: as above; the driver locks.
unsafe impl Sync for Device {}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cuda:{} ({})", self.ordinal, self.name)
    }
}

/// Where and how a kernel runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Launch {
    pub(crate) grid: (u32, u32, u32),
    pub(crate) threads: u32,
    pub(crate) shared: u32,
}

impl Device {
    /// Opens `cuda:{ordinal}` and compiles the kernels for it, or takes them from the cache.
    ///
    /// # Errors
    /// There is no driver, no such GPU or no compiler, or the GPU is too old.
    pub fn open(ordinal: usize) -> Result<Arc<Self>, CudaError> {
        // SAFETY: only opens the library.
        if !unsafe { sys::is_culib_present() } {
            return Err(CudaError::NoDriver);
        }
        result::init().tried("start the driver")?;
        let count = result::device::get_count().tried("count GPUs")?.max(0) as usize;
        let index = i32::try_from(ordinal).ok().filter(|_| ordinal < count);
        let Some(index) = index else { return Err(CudaError::NoDevice { ordinal, count }) };
        let device = result::device::get(index).tried("find the GPU")?;
        let name = result::device::get_name(device).tried("name the GPU")?;
        let attribute = |which| {
            // SAFETY: the device was found.
            unsafe { result::device::get_attribute(device, which) }.tried("ask the GPU")
        };
        use sys::CUdevice_attribute_enum as Attribute;
        let major = attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
        let minor = attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
        let shared = attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?;
        let multiprocessors = attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?.max(1) as u32;
        let needed = ops::most_shared();
        if major < 8 || (shared.max(0) as u32) < needed {
            return Err(CudaError::TooOld { ordinal, name, major, minor, needed });
        }
        // SAFETY: the device was found; released in `drop`.
        let context = unsafe { result::primary_ctx::retain(device) }.tried("open the GPU")?;
        // SAFETY: the context was just made.
        unsafe { result::ctx::set_current(context) }.tried("enter the GPU")?;
        let stream =
            result::stream::create(result::stream::StreamKind::NonBlocking).tried("make a stream")?;
        // For finding out whether a fault comes of it, and to check on Hopper what other GPUs run.
        let without = |what| std::env::var_os(what).is_some();
        let hopper = (major, minor) == (9, 0) && !without("REPRISE_CUDA_NO_HOPPER");
        let overlaps = hopper && !without("REPRISE_CUDA_NO_OVERLAP");
        let kernels = HashMap::new();
        let held = AtomicBool::new(false);
        let mut opened =
            Self { ordinal, name, context, stream, multiprocessors, hopper, overlaps, held, kernels };
        // What only Hopper has is named by an architecture of its own.
        opened.load(&format!("sm_{major}{minor}{}", if hopper { "a" } else { "" }))?;
        Ok(Arc::new(opened))
    }

    /// The same GPU with a stream of its own, for another worker. Kernels are loaded once; what lies in its memory can be used by both.
    ///
    /// # Errors
    /// The device failed.
    pub fn sibling(&self) -> Result<Arc<Self>, CudaError> {
        let index = i32::try_from(self.ordinal).unwrap_or(0);
        let device = result::device::get(index).tried("find the GPU")?;
        // SAFETY: the device was found; released in `drop`.
        let context = unsafe { result::primary_ctx::retain(device) }.tried("open the GPU")?;
        // SAFETY: the context was just retained.
        unsafe { result::ctx::set_current(context) }.tried("enter the GPU")?;
        let stream =
            result::stream::create(result::stream::StreamKind::NonBlocking).tried("make a stream")?;
        let (name, kernels) = (self.name.clone(), self.kernels.clone());
        let Self { ordinal, multiprocessors, hopper, overlaps, .. } = *self;
        let held = AtomicBool::new(false);
        Ok(Arc::new(Self {
            ordinal,
            name,
            context,
            stream,
            multiprocessors,
            hopper,
            overlaps,
            held,
            kernels,
        }))
    }

    fn load(&mut self, architecture: &str) -> Result<(), CudaError> {
        let modules = ops::modules(self.hopper);
        let compiled: Vec<_> = std::thread::scope(|scope| {
            let compiling: Vec<_> = modules
                .iter()
                .map(|module| scope.spawn(|| compile::compile(&module.source, architecture)))
                .collect();
            compiling.into_iter().map(std::thread::ScopedJoinHandle::join).collect()
        });
        for (module, code) in modules.iter().zip(compiled) {
            let file = module.source.file;
            let wrong = |log: &str| CudaError::Compile { file, log: log.to_owned() };
            let code = code.map_err(|_| wrong("the compiler panicked"))??;
            // SAFETY: a whole module, which stays loaded as long as the context.
            let loaded = unsafe { result::module::load_data(code.as_ptr().cast::<c_void>()) };
            let loaded = loaded.tried("load kernels")?;
            for kernel in &module.kernels {
                let symbol = CString::new(kernel.symbol).map_err(|_| wrong("a kernel's name"))?;
                // SAFETY: the module is loaded.
                let function =
                    unsafe { result::module::get_function(loaded, symbol) }.tried("find a kernel")?;
                if kernel.shared > 48 * 1024 {
                    let bytes = i32::try_from(kernel.shared).unwrap_or(i32::MAX);
                    let which =
                        sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
                    // SAFETY: the function was found.
                    unsafe { result::function::set_function_attribute(function, which, bytes) }
                        .tried("reserve shared memory")?;
                }
                self.kernels.insert(kernel.name, function);
            }
        }
        Ok(())
    }

    #[must_use]
    pub const fn ordinal(&self) -> usize {
        self.ordinal
    }

    /// As the driver calls it: `NVIDIA H100 80GB HBM3`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    #[must_use]
    pub const fn multiprocessors(&self) -> u32 {
        self.multiprocessors
    }

    /// Whether it runs the kernels that only compute capability 9.0 has.
    pub(crate) const fn is_hopper(&self) -> bool {
        self.hopper
    }

    /// Free bytes and all bytes.
    ///
    /// # Errors
    /// The device failed.
    pub fn memory(&self) -> Result<(usize, usize), CudaError> {
        self.enter()?;
        result::mem_get_info().tried("ask for free memory")
    }

    /// Waits until all that was launched is done.
    ///
    /// # Errors
    /// Something of it failed.
    pub fn synchronize(&self) -> Result<(), CudaError> {
        self.enter()?;
        // SAFETY: the stream lives as long as the device.
        unsafe { result::stream::synchronize(self.stream) }.tried("wait for the device")
    }

    /// Whether kernels on this GPU can write memory of the other's; from now on they may.
    ///
    /// # Errors
    /// A device failed.
    pub fn reach(&self, other: &Self) -> Result<bool, CudaError> {
        if self.ordinal == other.ordinal {
            return Ok(true);
        }
        let number =
            |ordinal: usize| result::device::get(i32::try_from(ordinal).unwrap_or(-1)).tried("find the GPU");
        let (here, there) = (number(self.ordinal)?, number(other.ordinal)?);
        let mut can = 0;
        // SAFETY: both devices were found.
        unsafe { sys::cuDeviceCanAccessPeer(&raw mut can, here, there) }.result().tried("ask for the way")?;
        if can == 0 {
            return Ok(false);
        }
        self.enter()?;
        // SAFETY: the other's context lives as long as it does, and is left open with the process.
        match unsafe { sys::cuCtxEnablePeerAccess(other.context, 0) } {
            sys::CUresult::CUDA_SUCCESS | sys::CUresult::CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED => Ok(true),
            // Then copies go through the host.
            sys::CUresult::CUDA_ERROR_TOO_MANY_PEERS | sys::CUresult::CUDA_ERROR_PEER_ACCESS_UNSUPPORTED => {
                Ok(false)
            }
            error => error.result().tried("open the way to another GPU").map(|()| true),
        }
    }

    /// Calls of the driver need a thread's current context: memory of another GPU that was let go of may have changed it.
    pub(crate) fn enter(&self) -> Result<(), CudaError> {
        // SAFETY: the context lives as long as the device.
        unsafe { result::ctx::set_current(self.context) }.tried("enter the GPU")
    }

    pub(crate) const fn context(&self) -> sys::CUcontext {
        self.context
    }

    /// An event of another stream was put before what is launched next.
    pub(crate) fn held(&self) {
        self.held.store(true, Relaxed);
    }

    pub(crate) const fn stream(&self) -> sys::CUstream {
        self.stream
    }

    /// Launches a kernel that takes structures by value.
    ///
    /// # Safety
    /// The structures are laid out as the kernel's, and all their addresses hold what it reads and writes.
    pub(crate) unsafe fn launch(
        &self,
        kernel: &'static str,
        launch: Launch,
        parameters: &mut [*mut c_void],
    ) -> Result<(), CudaError> {
        let Launch { grid, threads, shared } = launch;
        if grid.0 == 0 || grid.1 == 0 || grid.2 == 0 {
            return Ok(());
        }
        let function = self.kernels.get(kernel).copied();
        let Some(function) = function else { return Err(CudaError::Shape(format!("no kernel {kernel}"))) };
        self.enter()?;
        // On Hopper a kernel may begin before the last has ended; all of ours wait for it themselves (`await_previous`).
        let overlap = sys::CUlaunchAttribute {
            id: sys::CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION,
            pad: Default::default(),
            value: sys::CUlaunchAttributeValue { programmaticStreamSerializationAllowed: 1 },
        };
        let mut attributes = [overlap];
        let config = sys::CUlaunchConfig {
            gridDimX: grid.0,
            gridDimY: grid.1,
            gridDimZ: grid.2,
            blockDimX: threads,
            blockDimY: 1,
            blockDimZ: 1,
            sharedMemBytes: shared,
            hStream: self.stream,
            attrs: attributes.as_mut_ptr(),
            numAttrs: u32::from(self.overlaps && !self.held.swap(false, Relaxed)),
        };
        // SAFETY: of the caller; configuration and attributes live until it returns.
        unsafe {
            sys::cuLaunchKernelEx(&raw const config, function, parameters.as_mut_ptr(), ptr::null_mut())
        }
        .result()
        .tried(kernel)
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if self.enter().is_ok() {
            // SAFETY: made in `open`, and nobody has it any more.
            let _ = unsafe { result::stream::destroy(self.stream) };
            if let Ok(device) = result::device::get(i32::try_from(self.ordinal).unwrap_or(0)) {
                // SAFETY: retained once in `open`.
                let _ = unsafe { result::primary_ctx::release(device) };
            }
        }
    }
}
