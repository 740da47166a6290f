use std::{env, path::PathBuf};

/// Where models are kept: `$REPRISE_MODELS_DIR`, else `reprise/models` in the user's cache folder.
#[must_use]
pub fn default_folder() -> PathBuf {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(folder) = set("REPRISE_MODELS_DIR") {
        return folder;
    }
    let cache = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
    cache.unwrap_or_else(env::temp_dir).join("reprise").join("models")
}
