#!/usr/bin/env python3
"""Greedy text of two devices side by side: two outputs of the engine's example `greedy` over the same prompts.

    compare_greedy.py CPU.jsonl GPU.jsonl [--tie 0.5] > differences.csv

After the first token that differs two texts are different texts, so only that step is judged: it is a tie where on each device the other's
choice stands behind its own by less than --tie (logits; what 8-bit activations move on a CPU). Prints each difference, then a summary.
"""

import argparse
import json
import sys


def candidates(step):
    """{token: logit}, the likeliest first; runs up to 2026-11-25 wrote the first two in a row."""
    if not isinstance(step[0], list):
        step = [step[:2], step[2:]]
    return {token: logit for token, logit in step}


def margin(step, other):
    """How far the other's choice stands behind the first; None if it is no candidate."""
    return max(step.values()) - step[other] if other in step else None


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
        steps = [tuple(map(candidates, pair)) for pair in zip(ours["generated"], theirs["generated"])]
        step = next((i for i, (a, b) in enumerate(steps) if next(iter(a)) != next(iter(b))), None)
        if step is None:
            equal += 1
            continue
        a, b = (next(iter(side)) for side in steps[step])
        margins = margin(steps[step][0], b), margin(steps[step][1], a)
        tie = None not in margins and max(margins) < options.tie
        ties, other = ties + tie, other + (not tie)
        shown = ["" if value is None else f"{value:.4f}" for value in margins]
        print(f"{name},{step},{a},{shown[0]},{b},{shown[1]},{'tie' if tie else 'different'}")
    print(f"# {len(cpu)} prompts: {equal} texts equal, {ties} differ first at a tie, {other} otherwise", file=sys.stderr)
    sys.exit(other > 0)


if __name__ == "__main__":
    main()
