//! CUDA source to machine code, once: what was compiled is kept on disk under a hash of the source, the options, the architecture and
//! the compiler's version.
#![expect(unsafe_code, reason = "calls of NVRTC")]

use std::{
    ffi::{CString, c_char, c_int},
    fs,
    path::PathBuf,
    ptr,
};

use cudarc::nvrtc::{result, sys};
use sha2::{Digest, Sha256};

use crate::CudaError;

const COMMON: &str = include_str!("kernels/common.cuh");

/// A file of kernels with its macros.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source {
    pub(crate) file: &'static str,
    pub(crate) text: &'static str,
    pub(crate) defines: &'static [&'static str],
}

/// Machine code for an architecture such as `sm_90a`.
pub(crate) fn compile(source: &Source, architecture: &str) -> Result<Vec<u8>, CudaError> {
    // SAFETY: only opens the library.
    if !unsafe { sys::is_culib_present() } {
        return Err(CudaError::NoCompiler);
    }
    let (mut major, mut minor) = (0, 0);
    // SAFETY: both pointers are valid.
    unsafe { sys::nvrtcVersion(&raw mut major, &raw mut minor) };
    let mut options = vec![format!("--gpu-architecture={architecture}"), "--std=c++17".into()];
    options.extend(source.defines.iter().map(|define| format!("--define-macro={define}")));
    let text = format!("{COMMON}\n{}", source.text);
    let cached = cached_path(&text, &options, (major, minor));
    if let Some(code) = cached.as_ref().and_then(|path| fs::read(path).ok()) {
        return Ok(code);
    }
    let code = run(source.file, &text, &options)?;
    if let Some(path) = cached
        && let Err(error) = keep(&path, &code)
    {
        tracing::warn!(path = %path.display(), %error, "compiled kernels were not kept");
    }
    Ok(code)
}

fn cached_path(text: &str, options: &[String], version: (c_int, c_int)) -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).map(PathBuf::from);
    let folder = variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")))?;
    let mut hash = Sha256::new();
    hash.update(text);
    hash.update(format!("{options:?} {version:?}"));
    let name: String = hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    Some(folder.join("reprise/cuda").join(format!("{name}.cubin")))
}

/// Whole or not at all, also with several processes that start at once.
fn keep(path: &std::path::Path, code: &[u8]) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let part = path.with_extension(format!("part-{}", std::process::id()));
    fs::write(&part, code)?;
    fs::rename(part, path)
}

fn run(file: &'static str, text: &str, options: &[String]) -> Result<Vec<u8>, CudaError> {
    let wrong = |log: String| CudaError::Compile { file, log };
    let text = CString::new(text).map_err(|error| wrong(error.to_string()))?;
    let name = CString::new(file).map_err(|error| wrong(error.to_string()))?;
    let program = result::create_program(&text, Some(&name)).map_err(|error| wrong(error.to_string()))?;
    // SAFETY: the program was just created and is destroyed below, once.
    let outcome = unsafe {
        result::compile_program(program, options).map_err(|_| wrong(log_of(program))).and_then(|()| {
            let mut size = 0;
            sys::nvrtcGetCUBINSize(program, &raw mut size).result().map_err(|e| wrong(e.to_string()))?;
            let mut code = vec![0u8; size];
            sys::nvrtcGetCUBIN(program, code.as_mut_ptr().cast::<c_char>())
                .result()
                .map_err(|e| wrong(e.to_string()))?;
            Ok(code)
        })
    };
    let mut program = program;
    // SAFETY: as above.
    unsafe { sys::nvrtcDestroyProgram(ptr::from_mut(&mut program)) };
    outcome
}

/// # Safety
/// `program` lives.
unsafe fn log_of(program: sys::nvrtcProgram) -> String {
    // SAFETY: of the caller.
    let Ok(log) = (unsafe { result::get_program_log(program) }) else { return "no log".into() };
    let bytes: Vec<u8> = log.iter().take_while(|c| **c != 0).map(|c| *c as u8).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}
