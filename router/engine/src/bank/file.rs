//! Deltas as safetensors files: any tool that trains experts can write one.
//!
//! ```text
//! __metadata__   reprise.bank = "1", name, version, parent; format.TENSOR = Q4_1 for a tensor of GGUF blocks
//! centroid       F32 [dimensions], optional
//! layers.L.experts.E.{gate,up,down}.replace    F32, F16 or BF16 [outputs, inputs]; or U8 [outputs, bytes of a row]
//! layers.L.experts.E.{gate,up,down}.add        F32 [outputs, inputs]
//! ```
//!
//! Written here and not by a crate: theirs keep the metadata in a hash map, so that the same delta has another hash every time.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write,
    path::Path,
};

use reprise_kernels::matrix::Format;
use serde::{Deserialize, Serialize};

use super::{BankError, BankHash, Delta, DeltaInfo, Edit, ExpertMatrix, Shape};

const METADATA: &str = "__metadata__";
const KIND: &str = "reprise.bank";
const KIND_VERSION: &str = "1";
const CENTROID: &str = "centroid";
/// Headers are padded to it, so that data is aligned.
const ALIGNMENT: usize = 8;

#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Entry {
    Tensor { dtype: String, shape: Vec<usize>, data_offsets: [usize; 2] },
    Metadata(BTreeMap<String, String>),
}

impl Delta {
    /// Writes the file, whole or not at all. The same delta gives the same bytes.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn save(&self, path: &Path) -> Result<BankHash, BankError> {
        let failed = |source| BankError::Io { path: path.to_owned(), source };
        let bytes = self.to_bytes().map_err(|error| failed(error.into()))?;
        let mut part = path.as_os_str().to_owned();
        part.push(".part");
        let written = File::create(&part).and_then(|mut file| {
            file.write_all(&bytes)?;
            file.sync_all()?;
            fs::rename(&part, path)
        });
        written.map_err(failed)?;
        Ok(BankHash::of(&bytes))
    }

    /// Reads a file, and its hash: the parent that the next version names.
    ///
    /// # Errors
    /// It cannot be read, is no delta, or holds a tensor that is not of its own shape.
    pub fn load(path: &Path) -> Result<(BankHash, Self), BankError> {
        let bytes = fs::read(path).map_err(|source| BankError::Io { path: path.to_owned(), source })?;
        let delta = match Self::from_bytes(&bytes) {
            Ok(found) => found?,
            Err(reason) => return Err(BankError::NotADelta { path: path.to_owned(), reason }),
        };
        Ok((BankHash::of(&bytes), delta))
    }

    fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        let DeltaInfo { name, version, parent, centroid } = &self.info;
        let mut metadata = BTreeMap::from([
            (KIND.to_owned(), KIND_VERSION.to_owned()),
            ("name".to_owned(), name.clone()),
            ("version".to_owned(), version.to_string()),
            ("parent".to_owned(), parent.to_string()),
        ]);
        let (mut entries, mut data) = (BTreeMap::new(), Vec::new());
        let mut put = |name: String, dtype: &str, shape: Vec<usize>, bytes: &[u8]| {
            let start = data.len();
            data.extend_from_slice(bytes);
            let data_offsets = [start, data.len()];
            entries.insert(name, Entry::Tensor { dtype: dtype.to_owned(), shape, data_offsets });
        };
        if let Some(centroid) = centroid {
            put(CENTROID.to_owned(), "F32", vec![centroid.len()], &le_bytes(centroid));
        }
        for (matrix, edit) in self.edits() {
            match edit {
                Edit::Add { shape, numbers } => {
                    put(format!("{matrix}.add"), "F32", shape.to_vec(), &le_bytes(numbers));
                }
                Edit::Replace { format, shape: [outputs, inputs], bytes } => {
                    let name = format!("{matrix}.replace");
                    if let Some(dtype) = dtype(*format) {
                        put(name, dtype, vec![*outputs, *inputs], bytes);
                    } else {
                        metadata.insert(format!("format.{name}"), format!("{format:?}"));
                        let row = format.row_bytes(*inputs).unwrap_or(0);
                        put(name, "U8", vec![*outputs, row], bytes);
                    }
                }
            }
        }
        entries.insert(METADATA.to_owned(), Entry::Metadata(metadata));
        let mut header = serde_json::to_vec(&entries)?;
        header.resize(header.len().next_multiple_of(ALIGNMENT), b' ');
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.append(&mut header);
        bytes.append(&mut data);
        Ok(bytes)
    }

    /// The outer error: it is no delta at all.
    fn from_bytes(bytes: &[u8]) -> Result<Result<Self, BankError>, String> {
        let short = || "it ends within its header".to_owned();
        let (length, rest) = bytes.split_first_chunk().ok_or_else(short)?;
        let length = usize::try_from(u64::from_le_bytes(*length)).map_err(|error| error.to_string())?;
        let (header, data) = rest.split_at_checked(length).ok_or_else(short)?;
        let mut entries: BTreeMap<String, Entry> =
            serde_json::from_slice(header).map_err(|error| error.to_string())?;
        let Some(Entry::Metadata(metadata)) = entries.remove(METADATA) else {
            return Err("it has no metadata".to_owned());
        };
        let text = |key: &str| metadata.get(key).ok_or_else(|| format!("its metadata lacks {key}"));
        if text(KIND)? != KIND_VERSION {
            return Err(format!("{KIND} is {}, not {KIND_VERSION}", text(KIND)?));
        }
        let mut info = DeltaInfo {
            name: text("name")?.clone(),
            version: text("version")?.parse().map_err(|error| format!("version: {error}"))?,
            parent: text("parent")?.parse().map_err(|error: BankError| format!("parent: {error}"))?,
            centroid: None,
        };
        let mut edits = BTreeMap::new();
        for (name, entry) in entries {
            let Entry::Tensor { dtype, shape, data_offsets: [start, end] } = entry else {
                return Err(format!("{name} is no tensor"));
            };
            let of_tensor = data.get(start..end).ok_or_else(|| format!("{name} lies beyond its end"))?;
            if name == CENTROID {
                info.centroid = Some(numbers(&name, &dtype, of_tensor)?);
                continue;
            }
            let format = metadata.get(&format!("format.{name}")).map(String::as_str);
            let (matrix, edit) = edit(&name, &dtype, &shape, format, of_tensor)?;
            if edits.insert(matrix, edit).is_some() {
                return Err(format!("{matrix} is changed twice"));
            }
        }
        Ok(Self::new(info, edits))
    }
}

fn edit(
    name: &str,
    dtype: &str,
    shape: &[usize],
    format: Option<&str>,
    bytes: &[u8],
) -> Result<(ExpertMatrix, Edit), String> {
    let (matrix, kind) = name.rsplit_once('.').unwrap_or((name, ""));
    let matrix = ExpertMatrix::parse(matrix).ok_or_else(|| format!("{name} is no expert's matrix"))?;
    let shape: Shape =
        shape.try_into().map_err(|_| format!("{name} has the shape {shape:?}, not two dimensions"))?;
    let edit = match (kind, format) {
        ("add", None) => Edit::Add { shape, numbers: numbers(name, dtype, bytes)? },
        ("replace", None) => {
            let format = Format::ALL.into_iter().find(|format| self::dtype(*format) == Some(dtype));
            let format = format.ok_or_else(|| format!("{name} is of {dtype}, not F32, F16 or BF16"))?;
            Edit::Replace { format, shape, bytes: bytes.to_vec() }
        }
        ("replace", Some(format)) => {
            let known = Format::ALL.into_iter().find(|known| format!("{known:?}") == format);
            let format = known.ok_or_else(|| format!("{name} is in the unknown format {format}"))?;
            let [outputs, row] = shape;
            let inputs = row / format.block_bytes() * format.block();
            if dtype != "U8" || format.row_bytes(inputs) != Some(row) {
                return Err(format!(
                    "{name} has rows of {row} {dtype}, which are no whole blocks of {format:?}"
                ));
            }
            Edit::Replace { format, shape: [outputs, inputs], bytes: bytes.to_vec() }
        }
        _ => return Err(format!("{name} says neither `add` nor `replace`")),
    };
    Ok((matrix, edit))
}

const fn dtype(format: Format) -> Option<&'static str> {
    match format {
        Format::F32 => Some("F32"),
        Format::F16 => Some("F16"),
        Format::BF16 => Some("BF16"),
        _ => None,
    }
}

fn numbers(name: &str, dtype: &str, bytes: &[u8]) -> Result<Vec<f32>, String> {
    match bytes.as_chunks() {
        (chunks, []) if dtype == "F32" => Ok(chunks.iter().map(|chunk| f32::from_le_bytes(*chunk)).collect()),
        _ => Err(format!("{name} is of {dtype}, not F32, or cut off")),
    }
}

fn le_bytes(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}
