"""Makes the tiny random checkpoints in `tiny/`, with the logits that transformers computes for them.

    pip install torch transformers gguf
    python make_tiny_models.py

One folder for each model: `config.json` and safetensors as transformers writes them, the same weights as GGUF, and
`reference.json` with token sequences, `logits.f32` with the logits after every token of each of them (little-endian f32,
sequence after sequence, [tokens, vocabulary]). All weights are rounded to bfloat16 first, so that bfloat16, float16 and float32
files hold the same numbers; transformers computes in float32. `mixtral-quantised` has its experts rounded to Q8_0 and Q4_1, and
logits of the rounded weights.
"""

import json
import math
import pathlib
import shutil

import gguf
import numpy as np
import torch
import transformers

HERE = pathlib.Path(__file__).parent / "tiny"
LENGTHS = [1, 7, 33, 70]
VOCABULARY = 96
COMMON = dict(
    vocab_size=VOCABULARY, hidden_size=32, num_attention_heads=4, num_key_value_heads=2, num_hidden_layers=2,
    max_position_embeddings=256, rms_norm_eps=1e-5, bos_token_id=None, eos_token_id=None, pad_token_id=None,
    use_cache=False)
LLAMA3 = dict(rope_type="llama3", rope_theta=500.0, factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=64)
YARN = dict(rope_type="yarn", rope_theta=500.0, factor=4.0, original_max_position_embeddings=64)
LINEAR = dict(rope_type="linear", rope_theta=10000.0, factor=2.0)
PLAIN = dict(rope_type="default", rope_theta=10000.0)

# name: class, settings beside the common ones, and how the safetensors are stored.
MODELS = {
    "llama": ("Llama", dict(intermediate_size=64, rope_parameters=LLAMA3), dict(dtype=torch.float32)),
    # With biases everywhere, in shards.
    "llama-biased": ("Llama", dict(intermediate_size=64, rope_parameters=LINEAR, attention_bias=True, mlp_bias=True,
                                   num_key_value_heads=4, tie_word_embeddings=True),
                     dict(dtype=torch.float16, max_shard_size="24KB")),
    "qwen2": ("Qwen2", dict(intermediate_size=64, rope_parameters=YARN, tie_word_embeddings=True),
              dict(dtype=torch.bfloat16)),
    "mixtral": ("Mixtral", dict(intermediate_size=64, rope_parameters=PLAIN, num_local_experts=4, num_experts_per_tok=2),
                dict(dtype=torch.bfloat16)),
    # The middle layer is dense.
    "qwen2-moe": ("Qwen2Moe", dict(intermediate_size=64, rope_parameters=PLAIN, num_hidden_layers=3, num_experts=8,
                                   num_experts_per_tok=3, moe_intermediate_size=32, shared_expert_intermediate_size=64,
                                   mlp_only_layers=[1]), dict(dtype=torch.bfloat16)),
    # Heads that are wider than hidden / heads; the first layer is dense.
    "qwen3-moe": ("Qwen3Moe", dict(intermediate_size=64, rope_parameters=PLAIN, num_hidden_layers=2, num_experts=8,
                                   num_experts_per_tok=2, moe_intermediate_size=32, head_dim=16, norm_topk_prob=True,
                                   decoder_sparse_step=2), dict(dtype=torch.bfloat16)),
    "olmoe": ("Olmoe", dict(intermediate_size=32, rope_parameters=PLAIN, num_experts=8, num_experts_per_tok=4),
              dict(dtype=torch.bfloat16)),
}


def randomise(model, generator):
    """Norms and biases as far from trivial as matrices; weights that make logits differ."""
    for name, weight in model.named_parameters():
        noise = torch.randn(weight.shape, generator=generator)
        if "norm" in name:
            value = 1.0 + 0.3 * noise
        elif weight.dim() == 1:
            value = 0.3 * noise
        elif "embed" in name:
            value = noise
        else:
            value = noise * 1.2 / math.sqrt(weight.shape[-1])
        weight.data = value.to(torch.bfloat16).float()


def sequences(generator):
    return [torch.randint(VOCABULARY, (n,), generator=generator).tolist() for n in LENGTHS]


def write_reference(model, folder, tokens):
    with torch.no_grad():
        logits = [model(torch.tensor([sequence])).logits[0] for sequence in tokens]
    np.concatenate([part.numpy().astype("<f4") for part in logits]).tofile(folder / "logits.f32")
    reference = dict(vocabulary=VOCABULARY, sequences=tokens)
    (folder / "reference.json").write_text(json.dumps(reference) + "\n")


def permuted(weight, heads):
    """Rows in the order of llama.cpp: the halves of a head interleaved."""
    shape = weight.shape
    return weight.reshape(heads, 2, shape[0] // heads // 2, *shape[1:]).swapaxes(1, 2).reshape(shape)


ARCHITECTURES = {"llama": "llama", "qwen2": "qwen2", "mixtral": "llama", "qwen2_moe": "qwen2moe", "qwen3_moe": "qwen3moe",
                 "olmoe": "olmoe"}
NAMES = {
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm", "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "mlp.gate": "ffn_gate_inp",
    "mlp.shared_expert_gate": "ffn_gate_inp_shexp", "mlp.shared_expert.gate_proj": "ffn_gate_shexp",
    "mlp.shared_expert.up_proj": "ffn_up_shexp", "mlp.shared_expert.down_proj": "ffn_down_shexp"}


def gguf_tensors(model, legacy):
    """(name, array) in llama.cpp's names. `legacy`: experts in a tensor each."""
    config = model.config
    llama = ARCHITECTURES[config.model_type] == "llama"
    for name, weight in model.state_dict().items():
        weight = weight.numpy()
        if name == "model.embed_tokens.weight":
            yield "token_embd.weight", weight
        elif name == "model.norm.weight":
            yield "output_norm.weight", weight
        elif name == "lm_head.weight":
            if not config.tie_word_embeddings:
                yield "output.weight", weight
        else:
            _, _, layer, name = name.split(".", 3)
            if name.startswith("mlp.experts."):
                parts = dict(down=weight)
                if name.endswith("gate_up_proj"):
                    gate, up = np.split(weight, 2, axis=1)
                    parts = dict(gate=gate, up=up)
                for part, stack in parts.items():
                    if legacy:
                        for expert, matrix in enumerate(stack):
                            yield f"blk.{layer}.ffn_{part}.{expert}.weight", matrix
                    else:
                        yield f"blk.{layer}.ffn_{part}_exps.weight", stack
                continue
            name, kind = name.rsplit(".", 1)
            if llama and name in ("self_attn.q_proj", "self_attn.k_proj"):
                weight = permuted(weight, config.num_attention_heads if ".q_" in name else config.num_key_value_heads)
            if name == "mlp.shared_expert_gate":
                weight = weight[0]
            yield f"blk.{layer}.{NAMES[name]}.{kind}", weight
    rope = config.rope_parameters
    if rope["rope_type"] == "llama3":
        inverse = model.model.rotary_emb.inv_freq.numpy()
        plain = rope["rope_theta"] ** -(np.arange(0, len(inverse)) / len(inverse))
        yield "rope_freqs.weight", (plain / inverse).astype(np.float32)


def write_gguf(model, path, quantised=lambda name: None, legacy=False):
    config = model.config
    arch = ARCHITECTURES[config.model_type]
    writer = gguf.GGUFWriter(path, arch)
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    rope = config.rope_parameters
    if rope["rope_type"] in ("linear", "yarn"):
        kinds = dict(linear=gguf.RopeScalingType.LINEAR, yarn=gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_type(kinds[rope["rope_type"]])
        writer.add_rope_scaling_factor(rope["factor"])
    if rope["rope_type"] == "yarn":
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
    if hasattr(config, "num_experts_per_tok"):
        writer.add_expert_count(getattr(config, "num_experts", None) or config.num_local_experts)
        writer.add_expert_used_count(config.num_experts_per_tok)
    if config.model_type == "qwen3_moe":
        writer.add_expert_feed_forward_length(config.moe_intermediate_size)
    # qwen2_moe without its widths, as early files are.
    for name, weight in gguf_tensors(model, legacy):
        kind = quantised(name)
        if kind is not None:
            data = gguf.quants.quantize(weight.astype(np.float32), kind)
            writer.add_tensor(name, data, raw_dtype=kind)
        elif weight.ndim > 1 and "ffn_gate_inp" not in name:
            writer.add_tensor(name, weight.astype(np.float16))
        else:
            writer.add_tensor(name, weight.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def expert_format(name):
    q8, q4 = gguf.GGMLQuantizationType.Q8_0, gguf.GGMLQuantizationType.Q4_1
    return {"ffn_gate_exps.weight": q8, "ffn_up_exps.weight": q8, "ffn_down_exps.weight": q4}.get(name.split(".", 2)[-1])


def round_experts(model):
    for name, weight in model.named_parameters():
        if ".experts." in name:
            kind = expert_format("blk.0.ffn_down_exps.weight" if "down" in name else "blk.0.ffn_up_exps.weight")
            data = gguf.quants.quantize(weight.data.numpy(), kind)
            weight.data = torch.from_numpy(gguf.quants.dequantize(data, kind).reshape(weight.shape).astype(np.float32))


def main():
    shutil.rmtree(HERE, ignore_errors=True)
    for seed, (name, (family, settings, storage)) in enumerate(MODELS.items()):
        folder = HERE / name
        folder.mkdir(parents=True)
        generator = torch.Generator().manual_seed(seed)
        config = getattr(transformers, f"{family}Config")(**{**COMMON, **settings})
        config._attn_implementation = "eager"
        config._experts_implementation = "eager"
        model = getattr(transformers, f"{family}ForCausalLM")(config).eval()
        randomise(model, generator)
        model.tie_weights()
        tokens = sequences(generator)
        write_reference(model, folder, tokens)
        write_gguf(model, folder / "model.gguf", legacy=name == "mixtral")
        if name == "mixtral":
            quantised = HERE / "mixtral-quantised"
            quantised.mkdir()
            write_gguf(model, quantised / "model.gguf", quantised=expert_format)
            before = {key: value.clone() for key, value in model.state_dict().items()}
            round_experts(model)
            write_reference(model, quantised, tokens)
            model.load_state_dict(before)
        dtype = storage.pop("dtype")
        model.to(dtype).save_pretrained(folder, **storage)
        (folder / "generation_config.json").unlink(missing_ok=True)


main()
