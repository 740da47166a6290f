/// One metadata entry, its value as it stands in the file: what is not understood is copied unchanged.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub key: String,
    /// GGUF's number of the value's type.
    pub(crate) kind: u32,
    /// Little-endian, without the type.
    pub(crate) payload: Vec<u8>,
}

/// A value to write.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'a> {
    U32(u32),
    U64(u64),
    F32(f32),
    Str(&'a str),
    U32s(&'a [u32]),
}

pub(crate) const U32: u32 = 4;
pub(crate) const F32: u32 = 6;
pub(crate) const STRING: u32 = 8;
pub(crate) const ARRAY: u32 = 9;
pub(crate) const U64: u32 = 10;

/// Bytes of a scalar of this type; `None` for strings, arrays and unknown types.
pub(crate) fn scalar_bytes(kind: u32) -> Option<u64> {
    match kind {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        U32 | 5 | F32 => Some(4),
        U64 | 11 | 12 => Some(8),
        _ => None,
    }
}

impl Entry {
    #[must_use]
    pub fn new(key: &str, value: &Value<'_>) -> Self {
        let (kind, payload) = match value {
            Value::U32(value) => (U32, value.to_le_bytes().to_vec()),
            Value::U64(value) => (U64, value.to_le_bytes().to_vec()),
            Value::F32(value) => (F32, value.to_le_bytes().to_vec()),
            Value::Str(text) => {
                let mut payload = (text.len() as u64).to_le_bytes().to_vec();
                payload.extend_from_slice(text.as_bytes());
                (STRING, payload)
            }
            Value::U32s(values) => {
                let mut payload = U32.to_le_bytes().to_vec();
                payload.extend_from_slice(&(values.len() as u64).to_le_bytes());
                payload.extend(values.iter().flat_map(|value| value.to_le_bytes()));
                (ARRAY, payload)
            }
        };
        Self { key: key.to_owned(), kind, payload }
    }

    /// `None` for a value of another type or of invalid UTF-8.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        let text = self.payload.get(8..).filter(|_| self.kind == STRING)?;
        std::str::from_utf8(text).ok()
    }

    /// Writers differ in the integer type they choose for one key. `None` for other types and out of range.
    #[must_use]
    pub fn as_u32(&self) -> Option<u32> {
        let bytes = self.payload.as_slice();
        match self.kind {
            0 => Some(u8::from_le_bytes(bytes.try_into().ok()?).into()),
            1 => i8::from_le_bytes(bytes.try_into().ok()?).try_into().ok(),
            2 => Some(u16::from_le_bytes(bytes.try_into().ok()?).into()),
            3 => i16::from_le_bytes(bytes.try_into().ok()?).try_into().ok(),
            U32 => Some(u32::from_le_bytes(bytes.try_into().ok()?)),
            5 => i32::from_le_bytes(bytes.try_into().ok()?).try_into().ok(),
            U64 => u64::from_le_bytes(bytes.try_into().ok()?).try_into().ok(),
            11 => i64::from_le_bytes(bytes.try_into().ok()?).try_into().ok(),
            _ => None,
        }
    }
}
