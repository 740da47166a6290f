use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{DataError, stem};
use crate::score::Metric;

/// One recorded request with the answers that are known to be right.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    pub id: String,
    /// The file it came from, without extension. Reports are grouped by it.
    pub set: String,
    pub source: String,
    pub task: String,
    pub prompt: String,
    /// The user's text without our instruction line, where the row has one.
    pub text: Option<String>,
    /// Every accepted answer, the main one first. Empty if the row has no reference.
    pub references: Vec<String>,
    pub metric: Metric,
    /// A worked answer (GSM8K), better to learn from than the bare number.
    pub solution: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Raw {
    id: String,
    #[serde(default)]
    source: String,
    #[serde(default)]
    task: String,
    prompt: String,
    #[serde(default)]
    reference: String,
    #[serde(default)]
    references: Vec<String>,
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    metric: Option<String>,
    #[serde(default)]
    solution: Option<String>,
}

impl Request {
    /// Reads a JSONL file of requests. A bad row or an id seen twice is an error that names its line.
    pub fn read(path: &Path) -> Result<Vec<Self>, DataError> {
        let text = std::fs::read_to_string(path).map_err(DataError::io(path))?;
        let set = stem(path);
        let mut seen = HashSet::new();
        let mut requests = Vec::new();
        for (index, line) in text.lines().enumerate() {
            if line.trim().is_empty() {
                continue;
            }
            let row =
                |message: String| DataError::Row { path: PathBuf::from(path), line: index + 1, message };
            let raw: Raw = serde_json::from_str(line).map_err(|error| row(error.to_string()))?;
            let request = Self::checked(raw, &set).map_err(row)?;
            if !seen.insert(request.id.clone()) {
                return Err(row(format!("the id {:?} was seen before", request.id)));
            }
            requests.push(request);
        }
        Ok(requests)
    }

    fn checked(raw: Raw, set: &str) -> Result<Self, String> {
        if raw.prompt.trim().is_empty() {
            return Err("the prompt is empty".into());
        }
        let mut references = Vec::with_capacity(1 + raw.references.len());
        for reference in std::iter::once(raw.reference).chain(raw.references) {
            if !reference.trim().is_empty() && !references.contains(&reference) {
                references.push(reference);
            }
        }
        let metric = match raw.metric {
            Some(name) => name.parse().map_err(|error: crate::score::UnknownMetric| error.to_string())?,
            None => Metric::None,
        };
        if references.is_empty() && metric != Metric::None {
            return Err(format!("metric {metric} needs a reference"));
        }
        let text = raw.text.filter(|text| !text.trim().is_empty());
        let solution = raw.solution.filter(|solution| !solution.trim().is_empty());
        Ok(Self {
            id: raw.id,
            set: set.to_owned(),
            source: raw.source,
            task: raw.task,
            prompt: raw.prompt,
            text,
            references,
            metric,
            solution,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &str) -> Result<Vec<Request>, DataError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("set.jsonl");
        std::fs::write(&path, lines).unwrap();
        Request::read(&path)
    }

    #[test]
    fn references_are_united_without_repeats() {
        let rows = read(
            r#"{"id":"a","prompt":"p","reference":"x","references":["x","y"],"metric":"contains"}
{"id":"b","prompt":"q","reference":"","metric":"none"}"#,
        )
        .unwrap();
        assert_eq!(rows[0].references, ["x", "y"]);
        assert_eq!(rows[0].set, "set");
        assert!(rows[1].references.is_empty());
    }

    #[test]
    fn a_bad_row_is_named_by_line() {
        let error = read("{\"id\":\"a\",\"prompt\":\"p\"}\n{\"id\":\"a\"}\n").unwrap_err();
        assert!(error.to_string().contains("set.jsonl:2:"), "{error}");
        let error =
            read("{\"id\":\"a\",\"prompt\":\"p\",\"metric\":\"bleu\",\"reference\":\"r\"}").unwrap_err();
        assert!(error.to_string().contains("bleu"), "{error}");
        let error = read("{\"id\":\"a\",\"prompt\":\"p\"}\n{\"id\":\"a\",\"prompt\":\"q\"}").unwrap_err();
        assert!(error.to_string().contains("seen before"), "{error}");
    }
}
