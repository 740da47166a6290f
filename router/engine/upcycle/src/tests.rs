use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use candle_core::{
    Device,
    quantized::gguf_file::{Content, Value},
};
use proptest::prelude::*;
use tempfile::TempDir;

use crate::{Entry, Header, Layers, Upcycle, UpcycleError, Value as Ours, testing, upcycle};

fn options(layers: &str) -> Upcycle {
    Upcycle { layers: layers.parse().unwrap(), experts: 4, top_k: 2, seed: 0 }
}

fn run(source: &Path, name: &str, options: &Upcycle) -> Result<(PathBuf, crate::Summary), UpcycleError> {
    let target = source.with_file_name(name);
    upcycle(source, &target, options, &mut |_, _| {}).map(|summary| (target, summary))
}

fn dense(folder: &TempDir) -> PathBuf {
    let path = folder.path().join("dense.gguf");
    testing::write(&path, &testing::entries(), &testing::tensors());
    path
}

fn bytes(path: &Path, name: &str) -> Vec<u8> {
    let file = fs::read(path).unwrap();
    let header = Header::read(file.as_slice(), file.len() as u64).unwrap();
    let tensor = header.tensor(name).unwrap_or_else(|| panic!("{name} is missing"));
    let start = (header.data_start + tensor.offset) as usize;
    file[start..start + tensor.bytes as usize].to_vec()
}

#[test]
fn experts_are_the_dense_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let source = dense(&folder);
    let (target, summary) = run(&source, "moe.gguf", &options("every:2")).unwrap();
    assert_eq!(summary.layers, [1, 3]);
    assert_eq!(summary.bytes, fs::metadata(&target).unwrap().len());
    for (name, ..) in testing::tensors() {
        let upcycled = (name.contains("blk.1.") || name.contains("blk.3.")) && !name.contains("norm");
        if upcycled {
            let experts = name.replace(".weight", "_exps.weight");
            assert_eq!(bytes(&target, &experts), bytes(&source, &name).repeat(4), "{name}");
        } else {
            assert_eq!(bytes(&target, &name), bytes(&source, &name), "{name}");
        }
    }
}

/// Another reader's view of the same file.
#[test]
fn candle_reads_it() {
    let folder = tempfile::tempdir().unwrap();
    let source = dense(&folder);
    let (target, _) = run(&source, "moe.gguf", &options("1")).unwrap();
    let mut file = File::open(&target).unwrap();
    let content = Content::read(&mut file).unwrap();
    assert_eq!(content.metadata["llama.expert_count"].to_u32().unwrap(), 4);
    assert_eq!(content.metadata["llama.expert_used_count"].to_u32().unwrap(), 2);
    assert!(!content.metadata.contains_key("general.size_label"));
    assert!(matches!(content.metadata["llama.rope.freq_base"], Value::F32(base) if base == 1e5));
    let note = content.metadata["general.description"].to_string().unwrap();
    assert!(note.contains("experts are copies") && note.contains("Nothing was trained"), "{note}");
    let gate = content.tensor(&mut file, "blk.1.ffn_gate_inp.weight", &Device::Cpu).unwrap();
    assert_eq!(gate.shape().dims(), [4, 32]);
    let up = content.tensor(&mut file, "blk.1.ffn_up_exps.weight", &Device::Cpu).unwrap();
    assert_eq!(up.shape().dims(), [4, 64, 32]);
    let experts = up.dequantize(&Device::Cpu).unwrap();
    let first = experts.get(0).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let last = experts.get(3).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert!(first.iter().zip(&last).all(|(a, b)| a.to_bits() == b.to_bits()));
}

#[test]
fn what_does_not_fit_is_named_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let source = dense(&folder);
    let file = |name: &str, entries: &[Entry], tensors: &[testing::Described]| {
        let path = folder.path().join(name);
        testing::write(&path, entries, tensors);
        path
    };
    let fault = |source: &Path, options: &Upcycle| {
        let error = run(source, "never.gguf", options).unwrap_err();
        assert!(!folder.path().join("never.gguf").exists());
        error.to_string()
    };
    let mut entries = testing::entries();
    entries[0] = Entry::new("general.architecture", &Ours::Str("qwen2"));
    assert!(fault(&file("a", &entries, &testing::tensors()), &options("all")).contains("`qwen2`"));
    let mut tensors = testing::tensors();
    tensors.retain(|(name, ..)| name != "blk.2.ffn_up.weight");
    let error = fault(&file("b", &testing::entries(), &tensors), &options("all"));
    assert!(error.contains("blk.2.ffn_up.weight"), "{error}");
    let mut tensors = testing::tensors();
    tensors[1].1 = vec![96, 32];
    let error = fault(&file("c", &testing::entries(), &tensors), &options("0"));
    assert!(error.contains("[96, 32], not [64, 32]") || error.contains("[64, 32], not"), "{error}");
    let mut tensors = testing::tensors();
    tensors.push(("blk.3.ffn_up.bias".to_owned(), vec![64], 0));
    assert!(fault(&file("d", &testing::entries(), &tensors), &options("3")).contains("blk.3.ffn_up.bias"));
    assert!(fault(&source, &options("4")).contains("layers 0 to 3"));
    assert!(fault(&source, &Upcycle { top_k: 5, ..options("all") }).contains("5 of 4"));
    assert!(fault(&source, &Upcycle { experts: 1, ..options("all") }).contains("1 experts"));
    let whole = fs::read(&source).unwrap();
    fs::write(folder.path().join("cut.gguf"), &whole[..whole.len() - 1]).unwrap();
    assert!(fault(&folder.path().join("cut.gguf"), &options("all")).contains("cut off"));
    let (moe, _) = run(&source, "moe.gguf", &options("all")).unwrap();
    assert!(fault(&moe, &options("all")).contains("4 experts already"));
    let onto_itself = upcycle(&source, &source, &options("all"), &mut |_, _| {});
    assert!(matches!(onto_itself, Err(UpcycleError::SameFile(_))), "{onto_itself:?}");
    let left: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().contains("upcycling")), "{left:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn same_arguments_same_bytes(
        layers in prop::collection::btree_set(0..testing::LAYERS, 1..4),
        experts in 2_u16..6,
        top_k in 1_u16..3,
        seed in any::<u64>(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let source = dense(&folder);
        let layers = Layers::Listed(layers.into_iter().collect());
        let options = Upcycle { layers, experts, top_k, seed };
        let mut told = (0, 0);
        let one = folder.path().join("one.gguf");
        let summary = upcycle(&source, &one, &options, &mut |done, all| told = (told.0 + done, all)).unwrap();
        prop_assert_eq!(told.0, told.1);
        let (two, again) = run(&source, "two.gguf", &options).unwrap();
        prop_assert_eq!(&summary, &again);
        prop_assert_eq!(fs::read(&one).unwrap(), fs::read(two).unwrap());
        let (other, _) = run(&source, "other.gguf", &Upcycle { seed: seed ^ 1, ..options }).unwrap();
        prop_assert_ne!(fs::read(one).unwrap(), fs::read(other).unwrap());
    }
}
