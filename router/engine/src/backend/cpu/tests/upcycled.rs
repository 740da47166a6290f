//! Sparse upcycling preserves the function: a mixture whose experts are copies has the dense model's logits.

use std::{collections::BTreeMap, path::Path};

use reprise_upcycle::{Upcycle, upcycle};

use super::*;
use crate::{
    bank::{Bank, BankHash, Delta, DeltaInfo, Edit, ExpertMatrix, Part},
    testing::small_model,
};

const TOKENS: [u32; 12] = [504, 3575, 282, 4649, 314, 7042, 28, 284, 260, 3575, 282, 6402];

fn run(path: &Path, threads: usize, bank: Option<&Bank>) -> Vec<Vec<f32>> {
    let checkpoint = Checkpoint::open(path).expect("opens");
    let mut backend = backend(checkpoint, &options(threads, KvFormat::F32));
    if let Some(bank) = bank {
        assert!(backend.apply(bank).expect("applies") > 0);
    }
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
    let dense = run(&small_model(), 2, None);
    for (layers, experts, top_k) in [("every:3", 4, 2), ("all", 3, 3), ("0,29", 2, 1)] {
        let file = folder.path().join("moe.gguf");
        let options = Upcycle { layers: layers.parse().expect("layers"), experts, top_k, seed: 5 };
        let made = upcycle(&small_model(), &file, &options, &mut |_, _| {}).expect("upcycles");
        let layout = Checkpoint::open(&file).expect("opens").layout();
        assert_eq!(layout.count(crate::graph::SubLayerRole::Experts), made.layers.len(), "{layers}");
        let copies = run(&file, 1, None);
        for (at, (copy, dense)) in copies.iter().zip(&dense).enumerate() {
            // Bit for bit: far below the 1e-4 that upcycling promises.
            assert!(copy == dense, "{layers}, token {at}: {:?} apart", apart(copy, dense));
        }
    }
}

/// A delta takes the place of the experts that it names, and of no others.
#[test]
fn a_bank_changes_its_experts() {
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("moe.gguf");
    let options = Upcycle { layers: "every:3".parse().expect("layers"), experts: 2, top_k: 2, seed: 5 };
    upcycle(&small_model(), &file, &options, &mut |_, _| {}).expect("upcycles");
    let base = Bank::of(BankHash::of(b"the file"), Checkpoint::open(&file).expect("opens").plan());
    let dense = run(&file, 2, None);
    let added = |layer, number: f32| {
        let shape = [576, 1536];
        let edit = |expert| {
            let numbers = vec![number; 576 * 1536];
            (ExpertMatrix { layer, expert, part: Part::Down }, Edit::Add { shape, numbers })
        };
        let info = DeltaInfo { name: "test".into(), version: 1, parent: base.tip(), centroid: None };
        let delta = Delta::new(info, BTreeMap::from([edit(0), edit(1)])).expect("fits itself");
        base.with(BankHash::of(b"delta"), delta)
    };
    // Nothing added: the same matrices in f32, which round activations no more.
    let same = run(&file, 2, Some(&added(29, 0.0).expect("fits")));
    let other = run(&file, 2, Some(&added(29, 1.0).expect("fits")));
    for (at, dense) in dense.iter().enumerate() {
        let (same, other) = (apart(&same[at], dense).0, apart(&other[at], dense).0);
        assert!(same < 0.05, "token {at}: {same}");
        assert!(other > 4.0 * same, "token {at}: {same}, {other}");
    }
    assert!(added(28, 0.0).is_err(), "layer 28 is dense");
}
