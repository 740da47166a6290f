//! The form of a stored value. One that does not decode is a miss, never an error.
//!
//! ```text
//! "RP" | version u8 | 0 | crc32 of the rest, u32 LE | model hash, 32 bytes | length of JSON, u32 LE | JSON | f32 LE ...
//! ```

use serde::{Serialize, de::DeserializeOwned};

use crate::ModelHash;

const MAGIC: [u8; 4] = [b'R', b'P', VERSION, 0];
const VERSION: u8 = 1;
const HEAD: usize = 8;

/// A record and the vector beside it, as bytes. `None` only if the record is no JSON value.
pub fn encode<T: Serialize>(model: &ModelHash, record: &T, vector: &[f32]) -> Option<Vec<u8>> {
    let json = serde_json::to_vec(record).ok()?;
    let mut bytes = Vec::with_capacity(HEAD + 36 + json.len() + size_of_val(vector));
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(model.as_bytes());
    bytes.extend_from_slice(&u32::try_from(json.len()).ok()?.to_le_bytes());
    bytes.extend_from_slice(&json);
    vector.iter().for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()));
    let checksum = crc32fast::hash(&bytes[HEAD..]);
    bytes[4..HEAD].copy_from_slice(&checksum.to_le_bytes());
    Some(bytes)
}

/// The record and its vector; `None` if the bytes are damaged, of another version, or of another model.
pub fn decode<T: DeserializeOwned>(model: &ModelHash, bytes: &[u8]) -> Option<(T, Vec<f32>)> {
    let body = intact(bytes)?;
    let (hash, body) = body.split_at_checked(32)?;
    if hash != model.as_bytes() {
        return None;
    }
    let (length, body) = body.split_at_checked(4)?;
    let length = u32::from_le_bytes(length.try_into().ok()?) as usize;
    let (json, vector) = body.split_at_checked(length)?;
    let record = serde_json::from_slice(json).ok()?;
    let vector = vector.chunks_exact(4).map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]]));
    Some((record, vector.collect()))
}

/// What the checksum covers, if it is right.
pub fn intact(bytes: &[u8]) -> Option<&[u8]> {
    let (head, body) = bytes.split_at_checked(HEAD)?;
    let checksum = u32::from_le_bytes(head[4..].try_into().ok()?);
    (head[..4] == MAGIC && crc32fast::hash(body) == checksum).then_some(body)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn another_model_is_a_miss() {
        let model = ModelHash::new([1; 32]);
        let bytes = encode(&model, &"text", &[1.0, -2.5]).unwrap();
        assert_eq!(decode::<String>(&model, &bytes), Some(("text".into(), vec![1.0, -2.5])));
        assert_eq!(decode::<String>(&ModelHash::new([2; 32]), &bytes), None);
        assert_eq!(decode::<u32>(&model, &bytes), None);
    }

    proptest! {
        #[test]
        fn no_damage_goes_unnoticed(text in ".{0,40}", at in any::<prop::sample::Index>(), flip in 1_u8..=255, cut in any::<prop::sample::Index>()) {
            let model = ModelHash::new([7; 32]);
            let good = encode(&model, &text, &[0.5; 3]).unwrap();
            let mut bad = good.clone();
            bad[at.index(good.len())] ^= flip;
            prop_assert_eq!(decode::<String>(&model, &bad), None);
            prop_assert_eq!(decode::<String>(&model, &good[..cut.index(good.len())]), None);
        }

        #[test]
        fn random_bytes_are_a_miss(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(decode::<String>(&ModelHash::new([7; 32]), &bytes), None);
        }
    }
}
