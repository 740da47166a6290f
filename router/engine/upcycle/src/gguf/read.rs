use std::io::Read;

use super::{ALIGNMENT_KEY, DEFAULT_ALIGNMENT, Entry, Format, Header, MAGIC, Tensor, align_up, value};
use crate::GgufError;

/// Deeper arrays of arrays are nobody's.
const DEEPEST: usize = 8;

/// Counts what was read, so that no length in a damaged file makes us allocate more than the file holds.
struct Reader<R> {
    from: R,
    position: u64,
    length: u64,
}

impl Header {
    /// Reads the header of a file of `length` bytes, little-endian, version 2 or 3, and checks that every tensor lies
    /// within the file.
    ///
    /// # Errors
    /// The file cannot be read or is not what its header claims.
    pub fn read(from: impl Read, length: u64) -> Result<Self, GgufError> {
        let mut reader = Reader { from, position: 0, length };
        if reader.take(4)? != MAGIC {
            return Err(GgufError::Magic);
        }
        match reader.u32()? {
            2 | 3 => {}
            version => return Err(GgufError::Version(version)),
        }
        let (tensors, entries) = (reader.u64()?, reader.u64()?);
        let entries: Vec<Entry> = (0..entries).map(|_| reader.entry()).collect::<Result<_, _>>()?;
        let mut tensors: Vec<Tensor> = (0..tensors).map(|_| reader.tensor()).collect::<Result<_, _>>()?;
        let alignment = entries.iter().find(|entry| entry.key == ALIGNMENT_KEY);
        let alignment = alignment.and_then(Entry::as_u32).map_or(DEFAULT_ALIGNMENT, u64::from);
        if !alignment.is_power_of_two() {
            return Err(GgufError::Alignment(alignment));
        }
        let data_start = align_up(reader.position, alignment);
        for tensor in &mut tensors {
            let bytes = tensor.format.bytes(&tensor.shape);
            let end = bytes.and_then(|bytes| bytes.checked_add(tensor.offset)?.checked_add(data_start));
            let (Some(bytes), Some(end)) = (bytes, end) else {
                return Err(GgufError::Shape { name: tensor.name.clone(), shape: tensor.shape.clone() });
            };
            if end > length {
                return Err(GgufError::Truncated { name: tensor.name.clone(), end, length });
            }
            tensor.bytes = bytes;
        }
        Ok(Self { entries, tensors, alignment, data_start })
    }
}

impl<R: Read> Reader<R> {
    fn take(&mut self, bytes: u64) -> Result<Vec<u8>, GgufError> {
        let end = self.position.checked_add(bytes).filter(|end| *end <= self.length);
        let (Some(end), Ok(size)) = (end, usize::try_from(bytes)) else { return Err(GgufError::Short) };
        let mut taken = vec![0; size];
        self.from.read_exact(&mut taken)?;
        self.position = end;
        Ok(taken)
    }

    fn u32(&mut self) -> Result<u32, GgufError> {
        let bytes = self.take(4)?;
        bytes.try_into().map(u32::from_le_bytes).map_err(|_| GgufError::Short)
    }

    fn u64(&mut self) -> Result<u64, GgufError> {
        let bytes = self.take(8)?;
        bytes.try_into().map(u64::from_le_bytes).map_err(|_| GgufError::Short)
    }

    fn name(&mut self) -> Result<String, GgufError> {
        let bytes = self.u64()?;
        String::from_utf8(self.take(bytes)?).map_err(|_| GgufError::Utf8)
    }

    fn entry(&mut self) -> Result<Entry, GgufError> {
        let key = self.name()?;
        let (kind, mut payload) = (self.u32()?, Vec::new());
        self.payload(&key, kind, &mut payload, 0)?;
        Ok(Entry { key, kind, payload })
    }

    fn payload(&mut self, key: &str, kind: u32, out: &mut Vec<u8>, depth: usize) -> Result<(), GgufError> {
        let unknown = || GgufError::ValueType { key: key.to_owned(), kind };
        if let Some(bytes) = value::scalar_bytes(kind) {
            out.extend(self.take(bytes)?);
            return Ok(());
        }
        match kind {
            value::STRING => {
                let bytes = self.u64()?;
                out.extend(bytes.to_le_bytes());
                out.extend(self.take(bytes)?);
            }
            value::ARRAY if depth < DEEPEST => {
                let (inner, count) = (self.u32()?, self.u64()?);
                out.extend(inner.to_le_bytes());
                out.extend(count.to_le_bytes());
                match value::scalar_bytes(inner) {
                    Some(bytes) => out.extend(self.take(count.checked_mul(bytes).ok_or(GgufError::Short)?)?),
                    None => (0..count).try_for_each(|_| self.payload(key, inner, out, depth + 1))?,
                }
            }
            _ => return Err(unknown()),
        }
        Ok(())
    }

    /// Its size is filled in when the end of the header is known.
    fn tensor(&mut self) -> Result<Tensor, GgufError> {
        let name = self.name()?;
        let dimensions = self.u32()?;
        let shape: Vec<u64> = (0..dimensions).map(|_| self.u64()).collect::<Result<_, _>>()?;
        let format = self.u32()?;
        let format =
            Format::from_id(format).ok_or_else(|| GgufError::Format { name: name.clone(), format })?;
        Ok(Tensor { name, shape, format, offset: self.u64()?, bytes: 0 })
    }
}
