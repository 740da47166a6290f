//! Logits against candle-transformers' quantised llama, on the real small model.

use std::{fs::File, io::Cursor};

use candle_core::{
    Device, Tensor,
    quantized::{
        GgmlDType, QTensor,
        gguf_file::{Content, write},
    },
};
use candle_transformers::models::quantized_llama::ModelWeights;

use super::*;
use crate::testing::small_model;

fn decoder() -> Box<dyn Model> {
    let mut gguf = Gguf::open(&small_model()).expect("opens");
    load(&mut gguf, 256, &Device::Cpu, &|| false).expect("loads")
}

/// Difference of two logit vectors over the spread of the second.
fn distance(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let mean = b.iter().map(|x| f64::from(*x)).sum::<f64>() / b.len() as f64;
    let square = |x: f64| x * x;
    let error: f64 = a.iter().zip(b).map(|(a, b)| square(f64::from(a - b))).sum();
    let spread: f64 = b.iter().map(|b| square(f64::from(*b) - mean)).sum();
    (error / spread).sqrt()
}

/// "The capital of France is Paris, and the capital of" or so: any text the model has seen the like of.
const TOKENS: [u32; 12] = [504, 3575, 282, 4649, 314, 7042, 28, 284, 260, 3575, 282, 6402];

/// The reference, with the same weights in f32: Q4_1 products would round the activations, and rounding turns the
/// last bit's difference into one of percents.
fn reference() -> ModelWeights {
    let mut file = File::open(small_model()).expect("opens");
    let content = Content::read(&mut file).expect("reads");
    let mut tensors = Vec::new();
    for name in content.tensor_infos.keys() {
        let stored = content.tensor(&mut file, name, &Device::Cpu).expect("tensor");
        let tensor = if stored.dtype() == GgmlDType::Q4_1 {
            let wide = stored.dequantize(&Device::Cpu).expect("widens");
            QTensor::quantize(&wide, GgmlDType::F32).expect("f32")
        } else {
            stored
        };
        tensors.push((name.as_str(), tensor));
    }
    let shape = content.metadata.iter().filter(|(key, _)| !key.starts_with("tokenizer."));
    let shape: Vec<_> = shape.map(|(key, value)| (key.as_str(), value)).collect();
    let tensors: Vec<_> = tensors.iter().map(|(name, tensor)| (*name, tensor)).collect();
    let mut bytes = Cursor::new(Vec::new());
    write(&mut bytes, &shape, &tensors).expect("writes");
    bytes.set_position(0);
    let content = Content::read(&mut bytes).expect("reads");
    ModelWeights::from_gguf(content, &mut bytes, &Device::Cpu).expect("loads")
}

#[test]
fn logits_are_those_of_the_reference() {
    let mut reference = reference();
    let mut expected = |tokens: &[u32], at: usize| -> Vec<f32> {
        let input = Tensor::new(tokens, &Device::Cpu).and_then(|t| t.unsqueeze(0)).expect("input");
        let logits = reference.forward(&input, at).and_then(|l| l.flatten_all()).expect("forward");
        logits.to_vec1().expect("logits")
    };
    let model = decoder();
    let mut sequence = model.new_sequence();
    let (head, tail) = TOKENS.split_at(9);
    let whole = distance(&sequence.forward(head).expect("prefill"), &expected(head, 0));
    assert!(whole < 1e-3, "prefill: {whole}");
    for (i, token) in tail.iter().enumerate() {
        let step =
            distance(&sequence.forward(&[*token]).expect("decode"), &expected(&[*token], head.len() + i));
        assert!(step < 1e-3, "decode step {i}: {step}");
    }
}

#[test]
fn chunks_give_what_the_whole_gives() {
    let model = decoder();
    let whole = model.new_sequence().forward(&TOKENS).expect("whole");
    for size in [1, 5] {
        let mut sequence = model.new_sequence();
        let mut last = Vec::new();
        for chunk in TOKENS.chunks(size) {
            last = sequence.forward(chunk).expect("chunk");
        }
        assert_eq!(sequence.len(), TOKENS.len());
        let apart = distance(&last, &whole);
        assert!(apart < 1e-3, "chunks of {size}: {apart}");
    }
}

#[test]
fn a_sequence_ends_with_the_context() {
    let model = decoder();
    let mut sequence = model.new_sequence();
    sequence.forward(&[1; 256]).expect("fits");
    assert!(sequence.forward(&[1]).is_err());
    assert!(model.new_sequence().forward(&[]).is_err());
}
