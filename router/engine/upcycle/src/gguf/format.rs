/// How a tensor's numbers are stored: ggml's number of the type, and the size of its blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Format {
    id: u32,
    block: u64,
    block_bytes: u64,
}

/// (type, numbers a block, bytes a block), from `ggml.c`'s `type_traits`.
const FORMATS: &[(u32, u64, u64)] = &[
    (0, 1, 4),      // F32
    (1, 1, 2),      // F16
    (2, 32, 18),    // Q4_0
    (3, 32, 20),    // Q4_1
    (6, 32, 22),    // Q5_0
    (7, 32, 24),    // Q5_1
    (8, 32, 34),    // Q8_0
    (9, 32, 36),    // Q8_1
    (10, 256, 84),  // Q2_K
    (11, 256, 110), // Q3_K
    (12, 256, 144), // Q4_K
    (13, 256, 176), // Q5_K
    (14, 256, 210), // Q6_K
    (15, 256, 292), // Q8_K
    (16, 256, 66),  // IQ2_XXS
    (17, 256, 74),  // IQ2_XS
    (18, 256, 98),  // IQ3_XXS
    (19, 256, 50),  // IQ1_S
    (20, 32, 18),   // IQ4_NL
    (21, 256, 110), // IQ3_S
    (22, 256, 82),  // IQ2_S
    (23, 256, 136), // IQ4_XS
    (24, 1, 1),     // I8
    (25, 1, 2),     // I16
    (26, 1, 4),     // I32
    (27, 1, 8),     // I64
    (28, 1, 8),     // F64
    (29, 256, 56),  // IQ1_M
    (30, 1, 2),     // BF16
];

impl Format {
    pub const F32: Self = Self { id: 0, block: 1, block_bytes: 4 };

    /// `None` for a type that is not known here.
    #[must_use]
    pub fn from_id(id: u32) -> Option<Self> {
        let &(id, block, block_bytes) = FORMATS.iter().find(|(known, ..)| *known == id)?;
        Some(Self { id, block, block_bytes })
    }

    /// ggml's number of the type.
    #[must_use]
    pub fn id(self) -> u32 {
        self.id
    }

    /// Of a tensor; `None` if its rows are not whole blocks or the product overflows.
    #[must_use]
    pub fn bytes(self, shape: &[u64]) -> Option<u64> {
        let row = shape.first().copied().unwrap_or(1);
        if !row.is_multiple_of(self.block) {
            return None;
        }
        let numbers = shape.iter().try_fold(1_u64, |product, size| product.checked_mul(*size))?;
        (numbers / self.block).checked_mul(self.block_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::Format;

    #[test]
    fn bytes_of_whole_blocks_only() {
        let q4_1 = Format::from_id(3).unwrap();
        assert_eq!(q4_1.bytes(&[576, 1536]), Some(576 / 32 * 20 * 1536));
        assert_eq!(q4_1.bytes(&[576, 1536, 4]), Some(576 / 32 * 20 * 1536 * 4));
        assert_eq!(q4_1.bytes(&[577, 32]), None);
        assert_eq!(Format::F32.bytes(&[u64::MAX, 2]), None);
        assert_eq!(Format::from_id(4), None);
    }

    /// candle knows the same blocks.
    #[test]
    fn blocks_are_those_of_candle() {
        use candle_core::quantized::GgmlDType as Type;
        let types = [
            (0, Type::F32),
            (1, Type::F16),
            (2, Type::Q4_0),
            (3, Type::Q4_1),
            (6, Type::Q5_0),
            (7, Type::Q5_1),
            (8, Type::Q8_0),
            (10, Type::Q2K),
            (11, Type::Q3K),
            (12, Type::Q4K),
            (13, Type::Q5K),
            (14, Type::Q6K),
            (15, Type::Q8K),
            (30, Type::BF16),
        ];
        for (id, of_candle) in types {
            let ours = Format::from_id(id).unwrap();
            assert_eq!(ours.block, of_candle.block_size() as u64, "{of_candle:?}");
            assert_eq!(ours.block_bytes, of_candle.type_size() as u64, "{of_candle:?}");
        }
    }
}
