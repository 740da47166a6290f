//! Sparse upcycling preserves the function: a mixture whose experts are copies has the dense model's logits.

use reprise_upcycle::{Upcycle, upcycle};

use super::*;
use crate::testing::small_model;

const TOKENS: [u32; 12] = [504, 3575, 282, 4649, 314, 7042, 28, 284, 260, 3575, 282, 6402];

fn run(path: &std::path::Path, threads: usize) -> Vec<Vec<f32>> {
    let checkpoint = Checkpoint::open(path).expect("opens");
    let mut backend = backend(checkpoint, &options(threads, KvFormat::F32));
    let mut all = sequences(&[TOKENS.to_vec()]);
    // A prefill, then token by token.
    let mut logits = forward(&mut backend, &mut all, &[(0, 8)], |row| row as u32);
    for _ in 8..TOKENS.len() {
        logits.extend(forward(&mut backend, &mut all, &[(0, 1)], |row| row as u32));
    }
    logits
}

#[test]
fn logits_are_the_dense_ones() {
    let folder = tempfile::tempdir().expect("folder");
    let dense = run(&small_model(), 2);
    for (layers, experts, top_k) in [("every:3", 4, 2), ("all", 3, 3), ("0,29", 2, 1)] {
        let file = folder.path().join("moe.gguf");
        let options = Upcycle { layers: layers.parse().expect("layers"), experts, top_k, seed: 5 };
        let made = upcycle(&small_model(), &file, &options, &mut |_, _| {}).expect("upcycles");
        let layout = Checkpoint::open(&file).expect("opens").layout();
        assert_eq!(layout.count(crate::graph::SubLayerRole::Experts), made.layers.len(), "{layers}");
        let copies = run(&file, 1);
        for (at, (copy, dense)) in copies.iter().zip(&dense).enumerate() {
            // Bit for bit: far below the 1e-4 that upcycling promises.
            assert!(copy == dense, "{layers}, token {at}: {:?} apart", apart(copy, dense));
        }
    }
}
