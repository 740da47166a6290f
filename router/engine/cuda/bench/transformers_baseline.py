#!/usr/bin/env python3
"""transformers on the shapes that `reprise bench engine --model random:NAME` measures: decode and prefill, tokens a second.

    transformers_baseline.py [--shapes olmoe-1b-7b,qwen3-30b-a3b] [--batches 1,8,32,64,128] [--context 1024] [--steps 16] [--seconds 240]

Random weights in bf16, experts as grouped_mm, attention as sdpa, a KV cache that is filled by a real prefill. One CSV line for each
measurement. What does not fit or fails is a line with the error's name. Ends after --seconds, so that a lease is kept.
"""

import argparse
import time

import torch
import transformers
from transformers import OlmoeConfig, OlmoeForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM

SHAPES = {
    "olmoe-1b-7b": (OlmoeForCausalLM, OlmoeConfig(
        hidden_size=2048, intermediate_size=1024, num_hidden_layers=16, num_attention_heads=16, num_key_value_heads=16,
        num_experts=64, num_experts_per_tok=8, vocab_size=50304, max_position_embeddings=4096, tie_word_embeddings=False)),
    "qwen3-30b-a3b": (Qwen3MoeForCausalLM, Qwen3MoeConfig(
        hidden_size=2048, moe_intermediate_size=768, intermediate_size=6144, num_hidden_layers=48, num_attention_heads=32,
        num_key_value_heads=4, head_dim=128, num_experts=128, num_experts_per_tok=8, norm_topk_prob=True, vocab_size=151936,
        max_position_embeddings=40960, tie_word_embeddings=False)),
}


def build(name):
    kind, config = SHAPES[name]
    config._attn_implementation = "sdpa"
    config._experts_implementation = "grouped_mm"
    torch.set_default_dtype(torch.bfloat16)
    # Their own initialisation of 30 billion numbers takes minutes.
    with torch.device("cuda"), transformers.initialization.no_init_weights():
        model = kind(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.fill_(1.0)
            else:
                parameter.uniform_(-1.0, 1.0).mul_((3.0 / parameter.shape[-1]) ** 0.5)
    return model.eval()


def report(name, what, batch, tokens, value):
    print(f"{name},transformers {transformers.__version__} torch {torch.__version__},{what},{batch},{tokens},{value}", flush=True)


@torch.inference_mode()
def prefill(model, batch, tokens, chunk=8):
    """A cache of `tokens` for `batch` sequences, filled a few sequences at a time where one call would need too much."""
    ids = torch.randint(0, model.config.vocab_size, (batch, tokens), device="cuda")
    torch.cuda.synchronize()
    begun = time.perf_counter()
    out = model(ids, use_cache=True, logits_to_keep=1)
    torch.cuda.synchronize()
    return out.past_key_values, time.perf_counter() - begun


@torch.inference_mode()
def measure(name, model, batches, context, steps, deadline):
    for what, batch, tokens in [("prefill", 1, 2048)]:
        for _ in range(2):
            _, seconds = prefill(model, batch, tokens)
        report(name, what, batch, tokens, f"{batch * tokens / seconds:.1f}")
    for batch in batches:
        if time.perf_counter() > deadline:
            report(name, "decode", batch, context, "out of time")
            continue
        try:
            cache, seconds = prefill(model, batch, context)
            report(name, "prefill", batch, context, f"{batch * context / seconds:.1f}")
            token = torch.randint(0, model.config.vocab_size, (batch, 1), device="cuda")
            for step in range(steps + 3):
                if step == 3:
                    torch.cuda.synchronize()
                    begun = time.perf_counter()
                logits = model(token, past_key_values=cache, use_cache=True).logits
                token = logits[:, -1].argmax(-1, keepdim=True)
                token = (token + torch.arange(batch, device="cuda")[:, None] * 31 + step) % model.config.vocab_size
            torch.cuda.synchronize()
            report(name, "decode", batch, context, f"{batch * steps / (time.perf_counter() - begun):.1f}")
        except Exception as error:
            report(name, "decode", batch, context, type(error).__name__)
        finally:
            cache = None
            torch.cuda.empty_cache()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--shapes", default="olmoe-1b-7b,qwen3-30b-a3b")
    parser.add_argument("--batches", default="1,8,32,64,128")
    parser.add_argument("--context", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=240)
    arguments = parser.parse_args()
    deadline = time.perf_counter() + arguments.seconds
    print("shape,versions,what,batch,tokens,tokens_per_second")
    for name in arguments.shapes.split(","):
        model = build(name)
        measure(name, model, [int(b) for b in arguments.batches.split(",")], arguments.context, arguments.steps, deadline)
        del model
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
