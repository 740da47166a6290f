//! Checkpoints that do not fit are refused with the tensor and both shapes.

use std::{fs, path::PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;

fn tiny(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tiny").join(name)
}

/// A copy of a tiny folder whose settings are changed.
fn changed(name: &str, change: impl FnOnce(&mut Value)) -> TempDir {
    let copy = tempfile::tempdir().expect("tempdir");
    for entry in fs::read_dir(tiny(name)).expect("folder") {
        let path = entry.expect("entry").path();
        fs::copy(&path, copy.path().join(path.file_name().expect("name"))).expect("copies");
    }
    let path = copy.path().join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).expect("reads")).expect("parses");
    change(&mut config);
    fs::write(path, config.to_string()).expect("writes");
    copy
}

fn refusal(name: &str, key: &str, value: Value) -> EngineError {
    let folder = changed(name, |config| config[key] = value);
    Checkpoint::open(folder.path()).expect_err("does not fit")
}

#[test]
fn a_shape_that_does_not_fit_is_named_with_what_was_expected() {
    let cases = [
        ("llama", "intermediate_size", json!(96), "model.layers.0.mlp.gate_proj.weight", [96, 32]),
        ("llama", "num_key_value_heads", json!(4), "model.layers.0.self_attn.k_proj.weight", [32, 32]),
        ("llama", "vocab_size", json!(100), "model.embed_tokens.weight", [100, 32]),
        ("olmoe", "num_experts", json!(6), "model.layers.0.mlp.gate.weight", [6, 32]),
        (
            "mixtral",
            "intermediate_size",
            json!(48),
            "model.layers.0.block_sparse_moe.experts.0.w1.weight",
            [48, 32],
        ),
        (
            "qwen2-moe",
            "shared_expert_intermediate_size",
            json!(32),
            "model.layers.0.mlp.shared_expert.gate_proj.weight",
            [32, 32],
        ),
    ];
    for (name, key, value, tensor, shape) in cases {
        match refusal(name, key, value) {
            EngineError::TensorShape { name, expected, found } => {
                assert_eq!((name.as_str(), expected.as_slice()), (tensor, &shape[..]));
                assert_ne!(expected, found);
            }
            other => panic!("{key}: {other}"),
        }
    }
}

#[test]
fn a_missing_and_a_left_over_tensor_are_named() {
    match refusal("llama", "num_hidden_layers", json!(3)) {
        EngineError::MissingTensor { name } => assert!(name.starts_with("model.layers.2."), "{name}"),
        other => panic!("{other}"),
    }
    for (key, value, part) in [
        ("num_hidden_layers", json!(1), "model.layers.1."),
        // Norms of q and k that llama would leave out.
        ("model_type", json!("llama"), "self_attn.q_norm"),
    ] {
        let folder = if key == "model_type" { "qwen3-moe" } else { "llama" };
        match refusal(folder, key, value) {
            EngineError::UnknownTensor { name, .. } => assert!(name.contains(part), "{name}"),
            EngineError::MissingTensor { name } if key == "model_type" => {
                assert!(name.contains("mlp.gate_proj"), "{name}");
            }
            other => panic!("{key}: {other}"),
        }
    }
    match refusal("llama", "model_type", json!("qwen2")) {
        EngineError::MissingTensor { name } => assert!(name.ends_with("q_proj.bias"), "{name}"),
        other => panic!("{other}"),
    }
}

#[test]
fn settings_that_would_compute_something_else_are_refused() {
    for (name, key, value) in [
        ("llama", "hidden_act", json!("gelu")),
        ("olmoe", "clip_qkv", json!(8.0)),
        ("llama", "model_type", json!("gpt2")),
        ("llama", "rope_parameters", json!({"rope_type": "longrope", "rope_theta": 500.0})),
        ("llama", "rope_parameters", json!({"rope_type": "default", "partial_rotary_factor": 0.5})),
    ] {
        let error = refusal(name, key, value);
        assert!(matches!(error, EngineError::Unsupported { .. }), "{key}: {error}");
    }
    for (name, key, value) in [
        ("llama", "num_attention_heads", json!(3)),
        ("llama", "num_attention_heads", json!(0)),
        ("llama", "hidden_size", json!(1u64 << 40)),
        ("llama", "num_hidden_layers", json!(1u64 << 40)),
        ("mixtral", "num_experts_per_tok", json!(5)),
        ("llama", "rms_norm_eps", json!(-1.0)),
        ("llama", "rope_parameters", json!({"rope_type": "linear", "factor": 0.0})),
    ] {
        let error = refusal(name, key, value);
        assert!(
            matches!(error, EngineError::Inconsistent(_) | EngineError::TensorShape { .. }),
            "{key}: {error}"
        );
    }
}

#[test]
fn a_sliding_window_bounds_the_context() {
    let folder = changed("mixtral", |config| config["sliding_window"] = json!(40));
    assert_eq!(Checkpoint::open(folder.path()).expect("opens").plan().sizes.context_length, 40);
    let folder = changed("qwen2", |config| {
        config["sliding_window"] = json!(40);
        config["use_sliding_window"] = json!(false);
    });
    assert_eq!(Checkpoint::open(folder.path()).expect("opens").plan().sizes.context_length, 256);
}

/// However a file is cut off, opening it says so or what is there is read; nothing panics.
#[test]
fn a_file_that_is_cut_off_is_refused() {
    let folder = tempfile::tempdir().expect("tempdir");
    let whole = fs::read(tiny("mixtral/model.gguf")).expect("reads");
    for length in [0, 3, 100, 2000, whole.len() / 2, whole.len() - 40] {
        let path = folder.path().join("cut.gguf");
        fs::write(&path, &whole[..length]).expect("writes");
        assert!(Checkpoint::open(&path).is_err(), "{length} of {} bytes", whole.len());
    }
    let copy = changed("mixtral", |_| {});
    let path = copy.path().join("model.safetensors");
    let whole = fs::read(&path).expect("reads");
    for length in [0, 7, 100, whole.len() / 2, whole.len() - 1] {
        fs::write(&path, &whole[..length]).expect("writes");
        assert!(Checkpoint::open(copy.path()).is_err(), "{length} of {} bytes", whole.len());
    }
}

#[test]
fn an_index_cannot_point_out_of_its_folder() {
    let copy = changed("llama-biased", |_| {});
    let path = copy.path().join("model.safetensors.index.json");
    fs::write(path, json!({"weight_map": {"lm_head.weight": "../../etc/passwd"}}).to_string())
        .expect("writes");
    let error = Checkpoint::open(copy.path()).expect_err("refused");
    assert!(error.to_string().contains("no file name"), "{error}");
}
