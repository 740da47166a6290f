use std::{collections::HashMap, ops::Range};

use half::bf16;
use reprise_kernels::matrix::Format;

use super::{TensorInfo, TensorSource};
use crate::EngineError;

/// Weights that no training has seen, in bf16: for measuring speed. Matrices are uniform with variance 1 / inputs, vectors are 1, so that
/// hidden states stay of ordinary size and gates choose about evenly. The same numbers on every machine and device.
#[derive(Debug)]
pub(crate) struct RandomWeights {
    tensors: HashMap<String, TensorInfo>,
}

impl RandomWeights {
    /// Of these shapes, outermost dimension first.
    pub(crate) fn new(shapes: impl IntoIterator<Item = (String, Vec<usize>)>) -> Self {
        let tensor = |(name, shape)| (name, TensorInfo { shape, format: Format::BF16 });
        Self { tensors: shapes.into_iter().map(tensor).collect() }
    }
}

impl TensorSource for RandomWeights {
    fn names(&self) -> Vec<&str> {
        self.tensors.keys().map(String::as_str).collect()
    }

    fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(name)
    }

    fn read(&mut self, name: &str, range: Range<usize>, into: &mut Vec<u8>) -> Result<(), EngineError> {
        if !self.tensors.contains_key(name) {
            return Err(EngineError::MissingTensor { name: name.to_owned() });
        }
        into.clear();
        let elements = range.start as u64 / 2..range.end as u64 / 2;
        match self.random(name) {
            Some((seed, reach)) => into.extend(elements.flat_map(|i| weight(seed, i, reach).to_le_bytes())),
            None => into.extend(elements.flat_map(|_| bf16::ONE.to_le_bytes())),
        }
        Ok(())
    }

    fn random(&self, name: &str) -> Option<(u64, f32)> {
        let [_, inputs] = self.tensors.get(name)?.shape[..] else { return None };
        // FNV-1a: any name, any seed.
        let seed = name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Some((seed, (3.0 / inputs as f32).sqrt()))
    }
}

/// Element `i`: uniform in [-reach, reach], from the top bits of SplitMix64.
fn weight(seed: u64, i: u64, reach: f32) -> bf16 {
    let mut z = seed.wrapping_add(i.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let bits = (z >> 32) as u32 >> 8;
    bf16::from_f32((bits as f32 * (1.0 / 8_388_608.0) - 1.0) * reach)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_range_holds_the_same_numbers() {
        let mut source = RandomWeights::new([("m".to_owned(), vec![8, 64]), ("v".to_owned(), vec![4])]);
        let (mut all, mut part) = (Vec::new(), Vec::new());
        source.read("m", 0..1024, &mut all).expect("reads");
        source.read("m", 100..300, &mut part).expect("reads");
        assert_eq!(part, all[100..300]);
        let numbers: Vec<f32> =
            all.as_chunks::<2>().0.iter().map(|bytes| bf16::from_le_bytes(*bytes).to_f32()).collect();
        let square = numbers.iter().map(|x| x * x).sum::<f32>() / 512.0;
        assert!((square * 64.0 - 1.0).abs() < 0.2, "{square}");
        source.read("v", 0..8, &mut part).expect("reads");
        assert_eq!(part, [0x80, 0x3f].repeat(4));
        assert!(source.read("x", 0..2, &mut part).is_err());
    }

    #[cfg(feature = "cuda")]
    #[test]
    fn the_device_makes_the_same() {
        for i in 0..1000 {
            assert_eq!(weight(7, i, 0.3), reprise_cuda::weights::random(7, i, 0.3));
        }
    }
}
