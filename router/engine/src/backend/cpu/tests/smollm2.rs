//! The small model's own file against candle-transformers with the same weights in f32.

use std::{fs::File, io::Cursor, ops::Range};

use candle_core::{
    Device, Tensor,
    quantized::{
        GgmlDType, QTensor,
        gguf_file::{Content, write},
    },
};
use candle_transformers::models::quantized_llama::ModelWeights;

use super::*;
use crate::{
    gguf::Gguf,
    source::{TensorInfo, TensorSource},
    testing::small_model,
};

/// "The capital of France is Paris, and the capital of" or so: any text the model has seen the like of.
const TOKENS: [u32; 12] = [504, 3575, 282, 4649, 314, 7042, 28, 284, 260, 3575, 282, 6402];

/// The file with its tensors widened to f32 by candle.
fn wide() -> Cursor<Vec<u8>> {
    let mut file = File::open(small_model()).expect("opens");
    let content = Content::read(&mut file).expect("reads");
    let mut tensors = Vec::new();
    for name in content.tensor_infos.keys() {
        let stored = content.tensor(&mut file, name, &Device::Cpu).expect("tensor");
        let wide = stored.dequantize(&Device::Cpu).expect("widens");
        tensors.push((name.as_str(), QTensor::quantize(&wide, GgmlDType::F32).expect("f32")));
    }
    let shape = content.metadata.iter().filter(|(key, _)| !key.starts_with("tokenizer."));
    let shape: Vec<_> = shape.map(|(key, value)| (key.as_str(), value)).collect();
    let tensors: Vec<_> = tensors.iter().map(|(name, tensor)| (*name, tensor)).collect();
    let mut bytes = Cursor::new(Vec::new());
    write(&mut bytes, &shape, &tensors).expect("writes");
    bytes.set_position(0);
    bytes
}

/// The tensors of the small model in f32, widened by candle.
#[derive(Debug)]
struct Wide {
    content: Content,
    infos: Vec<(String, TensorInfo)>,
    bytes: Cursor<Vec<u8>>,
}

impl TensorSource for Wide {
    fn names(&self) -> Vec<&str> {
        self.infos.iter().map(|(name, _)| name.as_str()).collect()
    }

    fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.infos.iter().find(|(other, _)| other == name).map(|(_, info)| info)
    }

    fn read(&mut self, name: &str, range: Range<usize>, into: &mut Vec<u8>) -> Result<(), EngineError> {
        let start = self.content.tensor_data_offset + self.content.tensor_infos[name].offset;
        let start = usize::try_from(start).expect("fits");
        into.clear();
        into.extend_from_slice(&self.bytes.get_ref()[start + range.start..start + range.end]);
        Ok(())
    }
}

fn spread(found: &[f32], expected: &[f32]) -> f64 {
    let mean = expected.iter().map(|x| f64::from(*x)).sum::<f64>() / expected.len() as f64;
    let square = |x: f64| x * x;
    let error: f64 = found.iter().zip(expected).map(|(a, b)| square(f64::from(a - b))).sum();
    let spread: f64 = expected.iter().map(|b| square(f64::from(*b) - mean)).sum();
    (error / spread).sqrt()
}

fn run(backend: &mut CpuBackend) -> Vec<Vec<f32>> {
    let mut all = sequences(&[TOKENS.to_vec()]);
    let mut logits = forward(backend, &mut all, &[(0, 9)], |row| row as u32);
    for _ in 9..TOKENS.len() {
        logits.extend(forward(backend, &mut all, &[(0, 1)], |row| row as u32));
    }
    logits
}

#[test]
fn logits_of_the_small_model_are_those_of_candle() {
    let mut bytes = wide();
    let content = Content::read(&mut bytes).expect("reads");
    let mut reference = ModelWeights::from_gguf(content, &mut bytes, &Device::Cpu).expect("loads");
    let mut expected = Vec::new();
    for at in 0..TOKENS.len() {
        let input = Tensor::new(&TOKENS[at..=at], &Device::Cpu).and_then(|t| t.unsqueeze(0)).expect("input");
        let logits = reference.forward(&input, at).and_then(|l| l.flatten_all()).expect("forward");
        expected.push(logits.to_vec1::<f32>().expect("logits"));
    }
    drop(reference);

    bytes.set_position(0);
    let content = Content::read(&mut bytes).expect("reads");
    let format = reprise_kernels::matrix::Format::F32;
    let infos = content.tensor_infos.iter();
    let infos = infos
        .map(|(name, info)| (name.clone(), TensorInfo { shape: info.shape.dims().to_vec(), format }))
        .collect();
    let source = Wide { content, infos, bytes };
    let mut gguf = Gguf::open(&small_model()).expect("opens");
    let checkpoint = Checkpoint::with_source(&mut gguf, Box::new(source)).expect("plans");
    let exact = run(&mut backend(checkpoint, &options(2, KvFormat::F32)));
    for (at, (exact, expected)) in exact.iter().zip(&expected).enumerate() {
        let f32 = spread(exact, expected);
        assert!(f32 < 1e-3, "f32, token {at}: {f32}");
    }
    // What llama.cpp's arithmetic costs, too: activations are rounded to 8 bits in blocks of 32. Which way a number that lies
    // between two codes goes is decided by last bits, and can move a single token by as much again (one was seen at 0.085
    // and, with an exp of other last bits, at 0.145): so all tokens are judged together.
    for kv in [KvFormat::F16, KvFormat::F32] {
        let checkpoint = Checkpoint::open(&small_model()).expect("opens");
        let quantised = run(&mut backend(checkpoint, &options(2, kv)));
        let q8: Vec<f64> =
            quantised.iter().zip(&expected).map(|(q8, expected)| spread(q8, expected)).collect();
        println!("Q4_1 with activations in 8 bits, KV {kv:?}: {q8:.3?} of the spread");
        let all = (q8.iter().map(|x| x * x).sum::<f64>() / q8.len() as f64).sqrt();
        assert!(all < 0.1, "Q4_1, KV {kv:?}: {q8:.3?}, together {all:.3}");
    }
}
