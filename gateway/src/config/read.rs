use std::io;
use std::path::{Path, PathBuf};

use super::raw::RawConfig;
use super::suggest::suggestion;

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read {}", .path.display())]
    Read { path: PathBuf, source: io::Error },
    /// With file, line and column.
    #[error("{0}")]
    Syntax(String),
    #[error("{key}: {message}")]
    Value { key: String, message: String },
}

impl ConfigError {
    pub(super) fn value(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Value { key: key.into(), message: message.into() }
    }
}

pub(super) fn file(path: Option<&Path>) -> Result<RawConfig, ConfigError> {
    let Some(path) = path else { return Ok(RawConfig::default()) };
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    text_of(&text, &path.display().to_string())
}

pub(super) fn text_of(text: &str, name: &str) -> Result<RawConfig, ConfigError> {
    let place = |error: &toml::de::Error| match error.span() {
        Some(span) => format!("{name}:{}", 1 + text[..span.start.min(text.len())].matches('\n').count()),
        None => name.to_owned(),
    };
    let tree = toml::Deserializer::parse(text)
        .map_err(|error| ConfigError::Syntax(format!("{}: {}", place(&error), error.message())))?;
    serde_path_to_error::deserialize(tree).map_err(|error| {
        let path = error.path().to_string();
        let error = error.into_inner();
        let message = error.message();
        let hint = suggestion(message).map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default();
        ConfigError::Syntax(format!("{}: {path}: {message}{hint}", place(&error)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        text_of(text, "r.toml").unwrap_err().to_string()
    }

    #[test]
    fn an_unknown_key_is_named_with_its_path_its_line_and_the_nearest_key() {
        let message = refused("listen = \"127.0.0.1:1\"\n[server]\nmax_body_byte = 3\n");
        assert!(message.starts_with("r.toml:3: server.max_body_byte: unknown field"), "{message}");
        assert!(message.ends_with("(did you mean `max_body_bytes`?)"), "{message}");
        let message = refused("[[tiers]]\nname = \"a\"\nurl = \"x\"\n");
        assert!(message.contains("tiers[0].url"), "{message}");
        let message = refused("[router.load]\ngama = 1.0\n");
        assert!(message.contains("router.load.gama") && message.contains("`gamma`?"), "{message}");
    }

    #[test]
    fn a_wrong_type_and_a_wrong_word_are_named() {
        let message = refused("[router]\npolicy = \"bandid\"\n");
        assert!(message.contains("router.policy") && message.contains("did you mean `bandit`?"), "{message}");
        assert!(refused("listen = 3").contains("listen"));
        assert!(refused("a = = 3").starts_with("r.toml:1: "));
    }

    #[test]
    fn an_empty_file_is_the_default() {
        let (read, default) = (text_of("", "r.toml").unwrap(), RawConfig::default());
        assert_eq!(toml::to_string(&read).unwrap(), toml::to_string(&default).unwrap());
    }
}
