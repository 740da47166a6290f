use std::io::{self, Write};

use super::{Entry, MAGIC, Tensor};

const VERSION: u32 = 3;

/// The next multiple of a power of two.
pub(crate) fn align_up(position: u64, alignment: u64) -> u64 {
    position.next_multiple_of(alignment)
}

/// Writes all that stands before the tensor data, padding included.
pub(crate) fn write_header(
    mut out: impl Write,
    entries: &[Entry],
    tensors: &[Tensor],
    alignment: u64,
) -> io::Result<()> {
    let mut header = Vec::new();
    header.extend_from_slice(MAGIC);
    header.extend(VERSION.to_le_bytes());
    header.extend((tensors.len() as u64).to_le_bytes());
    header.extend((entries.len() as u64).to_le_bytes());
    for entry in entries {
        name(&mut header, &entry.key);
        header.extend(entry.kind.to_le_bytes());
        header.extend_from_slice(&entry.payload);
    }
    for tensor in tensors {
        name(&mut header, &tensor.name);
        header.extend(u32::try_from(tensor.shape.len()).map_err(io::Error::other)?.to_le_bytes());
        header.extend(tensor.shape.iter().flat_map(|size| size.to_le_bytes()));
        header.extend(tensor.format.id().to_le_bytes());
        header.extend(tensor.offset.to_le_bytes());
    }
    let padded = align_up(header.len() as u64, alignment);
    header.resize(usize::try_from(padded).map_err(io::Error::other)?, 0);
    out.write_all(&header)
}

fn name(header: &mut Vec<u8>, name: &str) {
    header.extend((name.len() as u64).to_le_bytes());
    header.extend_from_slice(name.as_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Format, Header, Value};

    fn entry() -> impl Strategy<Value = Entry> {
        let key = "[a-z.]{0,12}";
        prop_oneof![
            (key, any::<u32>()).prop_map(|(key, value)| Entry::new(&key, &Value::U32(value))),
            (key, any::<u64>()).prop_map(|(key, value)| Entry::new(&key, &Value::U64(value))),
            (key, any::<f32>()).prop_map(|(key, value)| Entry::new(&key, &Value::F32(value))),
            (key, any::<String>()).prop_map(|(key, text)| Entry::new(&key, &Value::Str(&text))),
            (key, prop::collection::vec(any::<u32>(), 0..5))
                .prop_map(|(key, values)| Entry::new(&key, &Value::U32s(&values))),
        ]
    }

    fn tensor() -> impl Strategy<Value = (String, Vec<u64>)> {
        (any::<String>(), prop::collection::vec(1_u64..5, 1..4))
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            entries in prop::collection::vec(entry(), 0..6),
            tensors in prop::collection::vec(tensor(), 0..5),
        ) {
            let mut end = 0;
            let tensors: Vec<Tensor> = tensors.into_iter().map(|(name, shape)| {
                let (offset, bytes) = (align_up(end, 32), Format::F32.bytes(&shape).unwrap());
                end = offset + bytes;
                Tensor { name, shape, format: Format::F32, offset, bytes }
            }).collect();
            let mut file = Vec::new();
            write_header(&mut file, &entries, &tensors, 32).unwrap();
            let data_start = file.len() as u64;
            let header = Header::read(file.as_slice(), data_start + end).unwrap();
            prop_assert_eq!(&header, &Header { entries, tensors, alignment: 32, data_start });
            // A file cut off in its header is refused, whatever it claims, and never read beyond its end.
            for length in 0..file.len().saturating_sub(31) {
                prop_assert!(Header::read(&file[..length], length as u64).is_err());
            }
        }
    }
}
