"""Whose logits are nearer to exact arithmetic? Ours and llama.cpp's beside transformers, in f32 on the dequantised weights.

    python greedy.py ... --keep KEPT
    python dequantised.py KEPT/NAME.npy GGUF [--texts 10]

Needs torch, transformers, accelerate and gguf, and memory for the model in f32. Distances are those of greedy.py: root mean square over
steps and our eight candidates, each step's mean taken off. The interval is that of the mean over texts (95 %, bootstrap).
"""

import argparse
import pathlib

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from settings import SETTINGS


def main():
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("kept", type=pathlib.Path)
    parse.add_argument("gguf", type=pathlib.Path)
    parse.add_argument("--texts", type=int, default=10, help="evenly spaced")
    options = parse.parse_args()
    kept = np.load(options.kept, allow_pickle=True)
    kept = kept[:: max(1, len(kept) // options.texts)][: options.texts]
    model = AutoModelForCausalLM.from_pretrained(options.gguf.parent, gguf_file=options.gguf.name, dtype=torch.float32).eval()
    squares, same, steps = [], np.zeros(len(SETTINGS) + 1, int), 0
    for each in kept:
        with torch.inference_mode():
            logits = model(torch.tensor([each["text"]])).logits[0, each["first"] :].numpy()
        choice, candidates = logits.argmax(1), each["candidates"]
        exact = np.take_along_axis(logits, candidates, 1)
        apart = each["logits"] - exact
        apart = apart - apart.mean(2, keepdims=True)
        squares.append((apart**2).mean((1, 2)))
        ours = candidates[:, 0] == choice
        same += [ours.sum(), *(each["choices"] == choice).sum(1)]
        steps += len(choice)
    squares, draw = np.array(squares), np.random.default_rng(7)
    again = np.sqrt(squares[draw.integers(0, len(squares), (2000, len(squares)))].mean(1))
    print(f"{len(kept)} texts, {steps} steps\n\n| logits of | distance from f32 (95 %) | steps with its choice |\n|---|---|---|")
    for i, name in enumerate(["ours", *SETTINGS]):
        low, high = np.quantile(again[:, i], [0.025, 0.975])
        print(f"| {name} | {np.sqrt(squares[:, i].mean()):.3f} ({low:.3f} to {high:.3f}) | {same[i]} |")


if __name__ == "__main__":
    main()
