//! Append-only tables of JSON lines, keyed by SHA-256. A line is written whole before anyone is told of it; a last line that
//! a crash cut off is dropped when the table is opened again.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

use anyhow::{Context, ensure};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// What a run depends on, hashed: 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Key(String);

/// How a prompt is continued.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sampling {
    /// Temperature 0: another run would say the same.
    Greedy,
    /// One of several drawn answers, as curation asks for them.
    Drawn { temperature: f64, seed: u64 },
}

/// The prompt and how it is continued.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// SHA-256 of the model's file: a name may come to mean other weights.
    pub model_hash: &'a str,
    pub earlier: &'a [(&'a str, &'a str)],
    pub prompt: &'a str,
    pub max_tokens: u32,
    pub sampling: Sampling,
}

/// One generation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    pub key: Key,
    pub model: String,
    pub text: String,
    pub finish_reason: Option<String>,
    pub prompt_tokens: u32,
    pub completion_tokens: u32,
    /// Of the prompt, those whose KV the tier still had: it depends on what was asked before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_tokens: Option<u32>,
    /// As the tier measured it, on whatever else the machine did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefill_s: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decode_s: Option<f64>,
}

/// A text's embedding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Vector {
    pub key: Key,
    /// In the file: 32-bit numbers, least byte first, in base64. As decimals they would be four times as long.
    #[serde(with = "packed")]
    pub values: Vec<f32>,
}

mod packed {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(values: &[f32], serializer: S) -> Result<S::Ok, S::Error> {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f32>, D::Error> {
        let text = <std::borrow::Cow<'_, str>>::deserialize(deserializer)?;
        let bytes = STANDARD.decode(text.as_bytes()).map_err(D::Error::custom)?;
        if bytes.len() % 4 != 0 {
            return Err(D::Error::custom("not a whole number of 32-bit numbers"));
        }
        Ok(bytes
            .chunks_exact(4)
            .map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]]))
            .collect())
    }
}

/// A row of a table.
pub trait Keyed: Serialize + DeserializeOwned {
    fn key(&self) -> &Key;
}

/// All rows in memory, and the file behind them.
#[derive(Debug)]
pub struct Table<T> {
    rows: HashMap<Key, T>,
    file: File,
}

impl Key {
    #[must_use]
    pub fn of_run(asked: &Asked<'_>) -> Self {
        let mut parts = vec!["run", asked.model_hash];
        for (request, answer) in asked.earlier {
            parts.extend([*request, *answer]);
        }
        let limit = asked.max_tokens.to_string();
        let sampling = match asked.sampling {
            Sampling::Greedy => "temperature 0".to_owned(),
            Sampling::Drawn { temperature, seed } => format!("temperature {temperature}, seed {seed}"),
        };
        parts.extend([asked.prompt, &sampling, &limit]);
        Self::of(&parts)
    }

    #[must_use]
    pub fn of_text(embedder: &str, text: &str) -> Self {
        Self::of(&["text", embedder, text])
    }

    /// Each part with its length, so that no two lists of parts hash the same bytes.
    #[must_use]
    pub fn of(parts: &[&str]) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part.as_bytes());
        }
        Self(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Keyed for Run {
    fn key(&self) -> &Key {
        &self.key
    }
}

impl Keyed for Vector {
    fn key(&self) -> &Key {
        &self.key
    }
}

impl<T: Keyed> Table<T> {
    /// Opens or makes the file. Of two rows with one key the first counts, as it did when it was written.
    ///
    /// # Errors
    /// The file cannot be read or written, or holds a line that is no row.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let file = OpenOptions::new()
            .create(true)
            .read(true)
            .append(true)
            .open(path)
            .with_context(|| format!("open {}", path.display()))?;
        let text = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        if whole < text.len() {
            file.set_len(whole as u64).with_context(|| format!("mend {}", path.display()))?;
        }
        let mut rows = HashMap::new();
        for (number, line) in text[..whole].split(|byte| *byte == b'\n').enumerate() {
            if line.is_empty() {
                continue;
            }
            let row: T =
                serde_json::from_slice(line).with_context(|| format!("{}:{}", path.display(), number + 1))?;
            rows.entry(row.key().clone()).or_insert(row);
        }
        Ok(Self { rows, file })
    }

    #[must_use]
    pub fn get(&self, key: &Key) -> Option<&T> {
        self.rows.get(key)
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.rows.values()
    }

    /// # Errors
    /// The file cannot be written, or the key is there already: a memo is never rewritten.
    pub fn append(&mut self, row: T) -> anyhow::Result<()> {
        ensure!(!self.rows.contains_key(row.key()), "the table has {} already", row.key().as_str());
        let mut line = serde_json::to_vec(&row)?;
        line.push(b'\n');
        self.file.write_all(&line).context("append to the table")?;
        self.rows.insert(row.key().clone(), row);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn asked<'a>(prompt: &'a str, earlier: &'a [(&'a str, &'a str)]) -> Asked<'a> {
        Asked { model_hash: "m", earlier, prompt, max_tokens: 8, sampling: Sampling::Greedy }
    }

    fn run(prompt: &str) -> Run {
        Run {
            key: Key::of_run(&asked(prompt, &[])),
            model: "m".into(),
            text: prompt.into(),
            finish_reason: Some("stop".into()),
            prompt_tokens: 1,
            completion_tokens: 2,
            cached_tokens: None,
            prefill_s: None,
            decode_s: Some(0.5),
        }
    }

    #[test]
    fn whatever_changes_the_answer_changes_the_key() {
        let plain = Key::of_run(&asked("q", &[]));
        let turns = [("a", "b")];
        let drawn = |seed| {
            Key::of_run(&Asked { sampling: Sampling::Drawn { temperature: 0.8, seed }, ..asked("q", &[]) })
        };
        assert_ne!(drawn(1), drawn(2));
        let others = [
            Key::of_run(&asked("q2", &[])),
            Key::of_run(&asked("q", &turns)),
            Key::of_run(&Asked { model_hash: "n", ..asked("q", &[]) }),
            Key::of_run(&Asked { max_tokens: 9, ..asked("q", &[]) }),
            drawn(1),
            drawn(2),
        ];
        assert!(others.iter().all(|other| *other != plain));
        assert_eq!(plain, Key::of_run(&asked("q", &[])));
    }

    #[test]
    fn rows_outlive_a_crash_in_the_middle_of_a_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("runs.jsonl");
        let mut table = Table::open(&path).unwrap();
        table.append(run("one")).unwrap();
        assert!(table.append(run("one")).is_err());
        drop(table);
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"key\":\"ab").unwrap();
        let mut table: Table<Run> = Table::open(&path).unwrap();
        assert_eq!(table.len(), 1);
        table.append(run("two")).unwrap();
        let table: Table<Run> = Table::open(&path).unwrap();
        assert_eq!(table.get(&run("two").key), Some(&run("two")));
    }

    #[test]
    fn vectors_are_read_back_bit_for_bit() {
        let vector = Vector { key: Key::of(&["v"]), values: vec![0.1, -1.0e-30, f32::MIN_POSITIVE, 7.0] };
        let line = serde_json::to_string(&vector).unwrap();
        assert_eq!(serde_json::from_str::<Vector>(&line).unwrap(), vector);
        assert!(serde_json::from_str::<Vector>(&line.replace("==", "")).is_err());
    }

    proptest! {
        #[test]
        fn where_a_part_ends_matters(a in "[ab]{0,4}", b in "[ab]{0,4}", c in "[ab]{0,4}", d in "[ab]{0,4}") {
            let same = a == c && b == d;
            prop_assert_eq!(Key::of(&[&a, &b]) == Key::of(&[&c, &d]), same);
        }
    }
}
