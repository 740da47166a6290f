//! The six families on tiny random checkpoints, against transformers (`tests/data/make_tiny_models.py`).

use std::path::PathBuf;

use proptest::prelude::*;
use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
struct Reference {
    vocabulary: usize,
    sequences: Vec<Vec<u32>>,
}

fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/tiny").join(name)
}

/// Token sequences, and the logits after each token.
fn reference(name: &str) -> (Vec<Vec<u32>>, Vec<Vec<f32>>) {
    let text = std::fs::read_to_string(folder(name).join("reference.json")).expect("reference.json");
    let reference: Reference = serde_json::from_str(&text).expect("parses");
    let bytes = std::fs::read(folder(name).join("logits.f32")).expect("logits.f32");
    let numbers: Vec<f32> = bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    let mut rows = numbers.chunks_exact(reference.vocabulary).map(<[f32]>::to_vec);
    let logits = reference
        .sequences
        .iter()
        .map(|tokens| rows.by_ref().take(tokens.len()).flatten().collect())
        .collect();
    assert!(rows.next().is_none());
    (reference.sequences, logits)
}

/// Each sequence by itself, in chunks of up to `chunk` tokens.
fn alone(backend: &mut CpuBackend, tokens: &[Vec<u32>], chunk: usize) -> Vec<Vec<f32>> {
    let mut all = sequences(tokens);
    (0..all.len())
        .map(|i| {
            let mut logits = Vec::new();
            while all[i].done < all[i].tokens.len() {
                let count = chunk.min(all[i].tokens.len() - all[i].done);
                logits.extend(forward(backend, &mut all, &[(i, count)], |row| row as u32).concat());
            }
            logits
        })
        .collect()
}

/// All sequences at once, in chunks of the given sizes in turn, in rows that do not lie side by side.
fn together(backend: &mut CpuBackend, tokens: &[Vec<u32>], sizes: &[usize]) -> Vec<Vec<f32>> {
    let mut all = sequences(tokens);
    let mut logits = vec![Vec::new(); all.len()];
    let mut sizes = sizes.iter().cycle();
    loop {
        let mut batch = Vec::new();
        for (i, sequence) in all.iter().enumerate().rev() {
            let left = sequence.tokens.len() - sequence.done;
            let count = left.min(*sizes.next().expect("cycle"));
            if count > 0 {
                batch.push((i, count));
            }
        }
        if all.iter().all(|sequence| sequence.done == sequence.tokens.len()) {
            return logits;
        }
        let mut found = forward(backend, &mut all, &batch, |row| 127 - row as u32).into_iter();
        for (i, count) in batch {
            logits[i].extend(found.by_ref().take(count).flatten());
        }
    }
}

/// Loads, and holds the three ways of computing to the reference and, bit for bit, to each other. Returns how far
/// the logits were from the reference at most.
fn prove(name: &str, file: Option<&str>, kv_format: KvFormat) -> f64 {
    let path = file.map_or_else(|| folder(name), |file| folder(name).join(file));
    let (tokens, expected) = reference(name);
    let mut largest: f64 = 0.0;
    let mut first: Option<Vec<Vec<f32>>> = None;
    for threads in [1, 2] {
        let checkpoint = Checkpoint::open(&path).expect("opens");
        let mut backend = backend(checkpoint, &options(threads, kv_format));
        let ways = [
            ("prefill", alone(&mut backend, &tokens, 128)),
            ("token by token", alone(&mut backend, &tokens, 1)),
            ("mixed batch", together(&mut backend, &tokens, &[3, 1, 17, 5])),
        ];
        for (way, logits) in ways {
            let (norm, most) = apart(&logits.concat(), &expected.concat());
            largest = largest.max(norm).max(most);
            assert_eq!(
                first.get_or_insert_with(|| logits.clone()),
                &logits,
                "{name}, {way} on {threads} threads has other bits than the prefill"
            );
        }
    }
    println!("{name} {}: {largest:.2e} from transformers", file.unwrap_or("folder"));
    largest
}

const FAMILIES: [(&str, &str, &str); 7] = [
    ("llama", "llama", "af af"),
    ("llama-biased", "llama", "af af"),
    ("qwen2", "qwen2", "af af"),
    ("mixtral", "mixtral", "ag ag"),
    ("qwen2-moe", "qwen2_moe", "ag af ag"),
    ("qwen3-moe", "qwen3_moe", "af ag"),
    ("olmoe", "olmoe", "ag ag"),
];

#[test]
fn logits_of_safetensors_are_those_of_transformers() {
    for (name, family, layout) in FAMILIES {
        let checkpoint = Checkpoint::open(&folder(name)).expect("opens");
        assert_eq!((checkpoint.family(), checkpoint.layout().to_string().as_str()), (family, layout));
        let far = prove(name, None, KvFormat::F32);
        assert!(far <= 1e-3, "{name}: {far}");
    }
}

#[test]
fn logits_of_gguf_are_those_of_transformers() {
    for (name, family, layout) in FAMILIES {
        let checkpoint = Checkpoint::open(&folder(name).join("model.gguf")).expect("opens");
        assert_eq!((checkpoint.family(), checkpoint.layout().to_string().as_str()), (family, layout));
        let far = prove(name, Some("model.gguf"), KvFormat::F32);
        assert!(far <= 1e-3, "{name}: {far}");
    }
}

/// Halves as KV round keys and values to 11 bits.
#[test]
fn kv_in_halves_costs_little() {
    for (name, ..) in FAMILIES {
        let far = prove(name, None, KvFormat::F16);
        assert!(far <= 5e-3, "{name}: {far}");
    }
}

/// Experts in Q8_0 and Q4_1: the reference has the rounded weights, but does not round activations to 8 bits.
#[test]
fn quantised_experts_are_read_as_they_were_written() {
    let far = prove("mixtral-quantised", Some("model.gguf"), KvFormat::F32);
    assert!(far <= 3e-2, "{far}");
    assert!(far > 1e-6, "activations were not rounded");
}

/// As an expert that was added later may be: it then cannot share a parallel region with the others.
#[test]
fn an_expert_may_be_in_another_format() {
    let (tokens, expected) = reference("mixtral-quantised");
    let checkpoint = Checkpoint::open(&folder("mixtral-quantised/model.gguf")).expect("opens");
    let mut backend = backend(checkpoint, &options(2, KvFormat::F32));
    let before = alone(&mut backend, &tokens, 128);
    let model = Arc::get_mut(&mut backend.model).expect("its own");
    let Some(SubLayer::Experts(layer)) = model.sub_layers.get_mut(1) else { panic!("experts") };
    let wide = |matrix: &Matrix| {
        let mut row = vec![0.0; matrix.inputs()];
        let mut bytes = Vec::new();
        for output in 0..matrix.outputs() {
            matrix.row(output, &mut row);
            bytes.extend(row.iter().flat_map(|x| x.to_le_bytes()));
        }
        let format = reprise_kernels::matrix::Format::F32;
        Matrix::pack(format, matrix.outputs(), matrix.inputs(), &bytes).expect("packs")
    };
    let expert = &mut layer.experts[2];
    expert.gate = wide(&expert.gate);
    expert.down = wide(&expert.down);
    let after = alone(&mut backend, &tokens, 128);
    let (norm, most) = apart(&after.concat(), &expected.concat());
    assert!(norm < 3e-2 && most < 3e-2, "{norm} {most}");
    assert_ne!(before, after, "no token went to the expert");
    assert_eq!(after, together(&mut backend, &tokens, &[3, 1, 17, 5]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    /// However prompts are cut and mixed, each gets the bits that it gets alone.
    #[test]
    fn batches_do_not_show(
        sizes in proptest::collection::vec(1usize..20, 1..8),
        lengths in proptest::collection::vec(1usize..40, 1..5),
        seed in any::<u32>(),
    ) {
        for name in ["mixtral-quantised/model.gguf", "qwen2-moe"] {
            let mut backend = backend(
                Checkpoint::open(&folder(name)).expect("opens"),
                &options(2, KvFormat::F16),
            );
            let token = |i: usize, j: usize| (seed.wrapping_mul(31) ^ (i * 7919 + j * 104_729) as u32) % 96;
            let tokens: Vec<Vec<u32>> =
                lengths.iter().enumerate().map(|(i, n)| (0..*n).map(|j| token(i, j)).collect()).collect();
            let mixed = together(&mut backend, &tokens, &sizes);
            prop_assert_eq!(mixed, alone(&mut backend, &tokens, 128));
        }
    }
}

#[test]
fn what_a_model_does_not_have_is_an_error() {
    let checkpoint = Checkpoint::open(&folder("llama")).expect("opens");
    let mut backend = backend(checkpoint, &options(1, KvFormat::F16));
    let row = [Row(0)];
    assert!(backend.embed(&row, &[96]).is_err());
    assert!(backend.feed_forward(0, &row).is_err());
    assert!(backend.gate(1, &row, &mut Vec::new()).is_err());
    assert!(backend.join(99, &row).is_err());
    let beyond = AttentionRow { row: Row(0), position: 256, blocks: &[BlockId(0); 9] };
    assert!(backend.attention(0, &[beyond]).is_err());
}
