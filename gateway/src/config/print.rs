use super::raw::RawConfig;
use super::read::ConfigError;

const HEAD: &str = "# Every key with the value in force. Leave out what you do not change.\n";

pub(super) fn toml(raw: &RawConfig) -> Result<String, ConfigError> {
    let body = toml::to_string(raw).map_err(|error| ConfigError::Syntax(error.to_string()))?;
    Ok(format!("{HEAD}{body}"))
}
