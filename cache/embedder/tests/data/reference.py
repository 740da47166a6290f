"""Writes reference.json: embeddings of a few texts by all-MiniLM-L6-v2, computed with numpy alone (float64), so that the
Rust implementation is held to something that shares no code with it.

    pip install numpy==2.2.6 safetensors==0.6.2 tokenizers==0.22.1
    python cache/embedder/tests/data/reference.py MODEL_FOLDER > cache/embedder/tests/data/reference.json
"""

import json
import math
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file
from tokenizers import Tokenizer

TEXTS = [
    "What is the capital of France?",
    "how do i say 'hotel' in finnish",
    "I am still waiting on my card?",
    "Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May.",
    "find . -name '*.rs' | xargs wc -l",
    "Ein Satz auf Deutsch, mit Umlauten: äöüß.",
    "日本語のテキスト",
    "emoji 🙂 and CAPITALS and   many   spaces",
    "a",
    "word " * 120,
]

erf = np.vectorize(math.erf)


def norm(x, weights, name):
    mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(var + 1e-12) * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def linear(x, weights, name):
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def embed(ids, weights, config):
    heads = config["num_attention_heads"]
    size = config["hidden_size"] // heads
    x = weights["embeddings.word_embeddings.weight"][ids]
    x = x + weights["embeddings.position_embeddings.weight"][: len(ids)]
    x = x + weights["embeddings.token_type_embeddings.weight"][0]
    x = norm(x, weights, "embeddings.LayerNorm")
    for layer in range(config["num_hidden_layers"]):
        at = f"encoder.layer.{layer}"
        q, k, v = (
            linear(x, weights, f"{at}.attention.self.{part}").reshape(-1, heads, size).swapaxes(0, 1)
            for part in ("query", "key", "value")
        )
        scores = q @ k.swapaxes(1, 2) / math.sqrt(size)
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = (scores / scores.sum(-1, keepdims=True) @ v).swapaxes(0, 1).reshape(len(ids), -1)
        x = norm(x + linear(mixed, weights, f"{at}.attention.output.dense"), weights, f"{at}.attention.output.LayerNorm")
        hidden = linear(x, weights, f"{at}.intermediate.dense")
        hidden = hidden * 0.5 * (1 + erf(hidden / math.sqrt(2)))
        x = norm(x + linear(hidden, weights, f"{at}.output.dense"), weights, f"{at}.output.LayerNorm")
    mean = x.mean(0)
    return mean / np.linalg.norm(mean)


def main():
    folder = Path(sys.argv[1])
    weights = {name: value.astype(np.float64) for name, value in load_file(folder / "model.safetensors").items() if value.dtype.kind == "f"}
    config = json.loads((folder / "config.json").read_text())
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    rows = []
    for text in TEXTS:
        vector = embed(tokenizer.encode(text).ids, weights, config)
        rows.append({"text": text, "embedding": [round(float(value), 7) for value in vector]})
    print("[\n" + ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n]")


main()
