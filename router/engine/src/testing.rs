//! Where this crate's own tests find the small model's file.

use std::path::PathBuf;

pub(crate) fn small_model() -> PathBuf {
    let variable = |name| std::env::var_os(name).map(PathBuf::from);
    let folder = variable("REPRISE_MODELS_DIR")
        .or_else(|| Some(variable("XDG_CACHE_HOME")?.join("reprise/models")))
        .or_else(|| Some(variable("HOME")?.join(".cache/reprise/models")))
        .expect("one of REPRISE_MODELS_DIR, XDG_CACHE_HOME, HOME");
    let name = "smollm2-135m-instruct-q4_1";
    let path = folder.join(name).join("SmolLM2-135M-Instruct.Q4_1.gguf");
    assert!(path.is_file(), "{} is missing: run `reprise models pull {name}` first", path.display());
    path
}
