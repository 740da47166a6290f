//! Secrets come from the environment or from a file, never from the configuration itself.

use std::path::Path;

use secrecy::SecretString;

use super::read::ConfigError;

/// The secret in this variable; `None` if it is unset or empty.
pub(super) fn from_env(variable: &str) -> Option<SecretString> {
    let value = std::env::var(variable).ok()?;
    let value = value.trim();
    (!value.is_empty()).then(|| value.into())
}

/// The secret in this file, without the white space around it.
pub(super) fn from_file(key: &str, path: &Path) -> Result<SecretString, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| ConfigError::value(key, format!("cannot read {}: {error}", path.display())))?;
    match text.trim() {
        "" => Err(ConfigError::value(key, format!("{} is empty", path.display()))),
        secret => Ok(secret.into()),
    }
}
