#!/usr/bin/env python3
"""Greedy text of two devices side by side: two outputs of the engine's example `greedy` over the same prompts.

    compare_greedy.py CPU.jsonl GPU.jsonl [--tie 0.5] > differences.csv

After the first token that differs two texts are different texts, so only that step is judged: it is a tie where each device's first choice
is the other's second and both margins are below --tie (logits; what 8-bit activations move on a CPU). Prints each difference, then a summary.
"""

import argparse
import json
import sys


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("cpu")
    parser.add_argument("gpu")
    parser.add_argument("--tie", type=float, default=0.5)
    options = parser.parse_args()
    read = lambda path: {row["id"]: row for row in map(json.loads, open(path, encoding="utf-8"))}
    cpu, gpu = read(options.cpu), read(options.gpu)
    assert cpu.keys() == gpu.keys() and cpu
    equal = ties = other = 0
    print("id,step,cpu_token,cpu_margin,gpu_token,gpu_margin,verdict")
    for name, ours in cpu.items():
        theirs = gpu[name]
        assert ours["prompt_tokens"] == theirs["prompt_tokens"], name
        pairs = list(zip(ours["generated"], theirs["generated"]))
        step = next((i for i, (a, b) in enumerate(pairs) if a[0] != b[0]), None)
        if step is None:
            equal += 1
            continue
        (a, a_logit, a_next, a_second), (b, b_logit, b_next, b_second) = pairs[step]
        margins = a_logit - a_second, b_logit - b_second
        tie = a_next == b and b_next == a and max(margins) < options.tie
        ties, other = ties + tie, other + (not tie)
        print(f"{name},{step},{a},{margins[0]:.4f},{b},{margins[1]:.4f},{'tie' if tie else 'different'}")
    print(f"# {len(cpu)} prompts: {equal} texts equal, {ties} differ first at a tie, {other} otherwise", file=sys.stderr)
    sys.exit(other > 0)


if __name__ == "__main__":
    main()
