//! A tiny dense model file, for tests.

use std::path::Path;

use crate::{
    Entry, Format, Tensor, Value,
    gguf::{align_up, write_header},
};

pub const HIDDEN: u64 = 32;
pub const INNER: u64 = 64;
pub const LAYERS: u32 = 4;

/// Name, shape, ggml's type.
pub type Described = (String, Vec<u64>, u32);

pub fn entries() -> Vec<Entry> {
    vec![
        Entry::new("general.architecture", &Value::Str("llama")),
        Entry::new("general.name", &Value::Str("Tiny")),
        Entry::new("general.size_label", &Value::Str("1K")),
        Entry::new("llama.block_count", &Value::U32(LAYERS)),
        Entry::new("llama.embedding_length", &Value::U32(HIDDEN as u32)),
        Entry::new("llama.rope.freq_base", &Value::F32(1e5)),
    ]
}

pub fn tensors() -> Vec<Described> {
    let mut tensors = vec![("token_embd.weight".to_owned(), vec![HIDDEN, 7], 0)];
    for layer in 0..LAYERS {
        let named = |name: &str| format!("blk.{layer}.{name}.weight");
        tensors.push((named("ffn_down"), vec![INNER, HIDDEN], 8));
        tensors.push((named("ffn_gate"), vec![HIDDEN, INNER], 3));
        tensors.push((named("ffn_up"), vec![HIDDEN, INNER], 3));
        tensors.push((named("ffn_norm"), vec![HIDDEN], 0));
    }
    tensors
}

/// Every byte of the tensor data is another one than its neighbours.
pub fn write(path: &Path, entries: &[Entry], described: &[Described]) {
    let mut end = 0;
    let tensors: Vec<Tensor> = described
        .iter()
        .map(|(name, shape, format)| {
            let format = Format::from_id(*format).unwrap();
            let (offset, bytes) = (align_up(end, 32), format.bytes(shape).unwrap());
            end = offset + bytes;
            Tensor { name: name.clone(), shape: shape.clone(), format, offset, bytes }
        })
        .collect();
    let mut file = Vec::new();
    write_header(&mut file, entries, &tensors, 32).unwrap();
    file.extend((0..end).map(|at| (at * 31 + at / 251) as u8));
    std::fs::write(path, file).unwrap();
}
