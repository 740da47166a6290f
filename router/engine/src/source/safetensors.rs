use std::{
    collections::{BTreeSet, HashMap},
    fs::File,
    io::{Read, Seek, SeekFrom},
    ops::Range,
    path::{Path, PathBuf},
};

use reprise_kernels::matrix::Format;
use serde::Deserialize;

use super::{Stored, TensorInfo, TensorSource};
use crate::EngineError;

const WHOLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// As the format's own reader has it.
const LARGEST_HEADER: u64 = 100_000_000;

/// The weights of a model folder: one safetensors file, or several shards with their index.
#[derive(Debug)]
pub struct Safetensors {
    shards: Vec<(PathBuf, File)>,
    /// Index of the shard, and the place in it.
    tensors: HashMap<String, (usize, Stored)>,
}

#[derive(Deserialize)]
struct Index {
    weight_map: HashMap<String, String>,
}

/// <https://github.com/huggingface/safetensors#format>
#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (u64, u64),
}

impl Safetensors {
    /// Reads the headers of all shards.
    ///
    /// # Errors
    /// A file is missing, is cut off, or is no safetensors file, or a tensor is no floating point.
    pub fn open(folder: &Path) -> Result<Self, EngineError> {
        let index = folder.join(INDEX);
        let names: BTreeSet<String> = if index.is_file() {
            let index: Index = read_json(&index)?;
            index.weight_map.into_values().collect()
        } else {
            BTreeSet::from([WHOLE.to_owned()])
        };
        let mut all = Self { shards: Vec::new(), tensors: HashMap::new() };
        for name in names {
            // A shard is a file of the folder, wherever a hostile index points.
            if Path::new(&name).file_name().is_none_or(|file| file != name.as_str()) {
                return Err(EngineError::Inconsistent(format!(
                    "{INDEX} names `{name}`, which is no file name"
                )));
            }
            all.add(folder.join(name))?;
        }
        Ok(all)
    }

    fn add(&mut self, path: PathBuf) -> Result<(), EngineError> {
        let cannot = |source| EngineError::Open { path: path.clone(), source };
        let mut file = File::open(&path).map_err(cannot)?;
        let file_bytes = file.metadata().map_err(cannot)?.len();
        let mut length = [0; 8];
        file.read_exact(&mut length).map_err(cannot)?;
        let length = u64::from_le_bytes(length);
        if length > LARGEST_HEADER.min(file_bytes.saturating_sub(8)) {
            return Err(EngineError::Inconsistent(format!(
                "{} is no safetensors file: a header of {length} bytes",
                path.display()
            )));
        }
        let mut header = vec![0; length as usize];
        file.read_exact(&mut header).map_err(cannot)?;
        let wrong = |error: serde_json::Error| {
            EngineError::Inconsistent(format!("header of {}: {error}", path.display()))
        };
        let header: HashMap<String, serde_json::Value> = serde_json::from_slice(&header).map_err(wrong)?;
        let shard = self.shards.len();
        for (name, entry) in header {
            if name == "__metadata__" {
                continue;
            }
            let Entry { dtype, shape, data_offsets: (begin, end) } =
                serde_json::from_value(entry).map_err(wrong)?;
            let info = TensorInfo { shape, format: format_of(&name, &dtype)? };
            let stored = Stored::new(&name, info, (8 + length).saturating_add(begin), file_bytes)?;
            if end.checked_sub(begin) != Some(stored.bytes as u64) {
                return Err(EngineError::Inconsistent(format!(
                    "{name}: shape {:?} takes {} bytes, and the header gives it {begin}..{end}",
                    stored.info.shape, stored.bytes
                )));
            }
            if self.tensors.insert(name.clone(), (shard, stored)).is_some() {
                return Err(EngineError::Inconsistent(format!("{name} is in two shards")));
            }
        }
        self.shards.push((path, file));
        Ok(())
    }
}

fn format_of(name: &str, dtype: &str) -> Result<Format, EngineError> {
    match dtype {
        "F32" => Ok(Format::F32),
        "F16" => Ok(Format::F16),
        "BF16" => Ok(Format::BF16),
        other => Err(EngineError::Unsupported {
            what: "tensor format",
            value: format!("{other} of {name}"),
            supported: "F32, F16, BF16",
        }),
    }
}

/// Reads a JSON file of a model folder.
pub(crate) fn read_json<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<T, EngineError> {
    let text = std::fs::read(path).map_err(|source| EngineError::Open { path: path.to_owned(), source })?;
    serde_json::from_slice(&text)
        .map_err(|error| EngineError::Inconsistent(format!("{}: {error}", path.display())))
}

impl TensorSource for Safetensors {
    fn names(&self) -> Vec<&str> {
        self.tensors.keys().map(String::as_str).collect()
    }

    fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(name).map(|(_, stored)| &stored.info)
    }

    fn read(&mut self, name: &str, range: Range<usize>, into: &mut Vec<u8>) -> Result<(), EngineError> {
        let (Some((shard, stored)), shards) = (self.tensors.get(name), &mut self.shards) else {
            return Err(EngineError::MissingTensor { name: name.to_owned() });
        };
        let offset = stored.locate(name, &range)?;
        into.resize(range.len(), 0);
        let (path, file) = &mut shards[*shard];
        file.seek(SeekFrom::Start(offset))
            .and_then(|_| file.read_exact(into))
            .map_err(|source| EngineError::Open { path: path.clone(), source })
    }
}
