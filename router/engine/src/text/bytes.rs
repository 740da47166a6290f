//! GPT-2's reversible mapping of bytes to printable characters, in which byte-level vocabularies are written.

/// The byte that `c` stands for, or `None` if it is no character of the mapping.
pub(crate) fn byte_of(c: char) -> Option<u8> {
    let code = u32::from(c);
    match code {
        0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF => u8::try_from(code).ok(),
        // The other 68 bytes, in order, stand from U+0100 on.
        0x100..=0x143 => {
            let index = u8::try_from(code - 0x100).ok()?;
            Some(match index {
                0..=0x20 => index,
                0x21..=0x42 => index - 0x21 + 0x7F,
                _ => 0xAD,
            })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_byte_has_one_character() {
        let bytes: Vec<u8> = (0u32..0x200).filter_map(char::from_u32).filter_map(byte_of).collect();
        assert_eq!(bytes.len(), 256);
        assert_eq!(bytes.iter().collect::<BTreeSet<_>>().len(), 256);
    }

    #[test]
    fn known_characters() {
        for (c, byte) in [('Ġ', b' '), ('Ċ', b'\n'), ('ĉ', b'\t'), ('č', b'\r'), ('a', b'a'), ('Ń', 0xAD)]
        {
            assert_eq!(byte_of(c), Some(byte), "{c}");
        }
        assert_eq!(byte_of('€'), None);
    }
}
