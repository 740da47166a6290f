"""Greedy text of the engine beside llama.cpp's, on 50 prompts.

    cargo build --release -p reprise-engine --example greedy
    python greedy.py --ours target/release/examples/greedy --data DATA --out ../runs/DATE-MACHINE [--model NAME=GGUF]...

Ours writes a prompt's tokens (its own tokenizer and chat template) and what it generates from them. llama.cpp reads the same
tokens, the generated ones included, in one pass with f32 KV, and says at each step which token it would have taken. As long as
both agree its greedy text is ours; so the first step where they differ is the first difference of the two texts, and each step
after it is compared as well, given our text so far.

A difference is a tie if both engines see the two candidates within --tolerance of each other, relative to the spread (standard
deviation) of the logits of that step; else it is an error. Writes greedy.csv (every difference) and prints the summary.
"""

import argparse
import csv
import json
import pathlib
import subprocess

import numpy as np

import llama
from speed import MODELS

SETS = {"clinc150": 20, "gsm8k_test": 10, "nl2bash": 10, "instruction_induction": 10}
FIELDS = ["model", "id", "step", "ours", "theirs", "gap_ours", "gap_theirs", "spread", "verdict"]


def prompts(folder: pathlib.Path) -> list[dict]:
    """Evenly spaced through each set; of at most 1,200 characters."""
    chosen = []
    for name, wanted in SETS.items():
        rows = [json.loads(line) for line in (folder / f"{name}.jsonl").open(encoding="utf-8")]
        rows = [row for row in rows if len(row["prompt"]) <= 1200]
        step = len(rows) // wanted
        chosen += [{"id": row["id"], "prompt": row["prompt"]} for row in rows[: step * wanted : step]]
    return chosen


def compare(model: llama.Model, name: str, answer: dict, threads: int, tolerance: float) -> list[dict]:
    tokens, generated = answer["prompt_tokens"], answer["generated"]
    text = tokens + [step[0] for step in generated][:-1]
    first = len(tokens) - 1
    found = []
    with llama.Context(model, threads, len(text) + 1, f32=True) as context:
        for start in range(0, len(text), 512):
            part = text[start : start + 512]
            context.decode([(token, start + at, 0, start + at >= first) for at, token in enumerate(part)])
            for at in range(len(part)):
                step = start + at - first
                if step < 0:
                    continue
                logits = context.logits(at)
                ours, logit, second, second_logit = generated[step]
                theirs = int(np.argmax(logits))
                if theirs == ours:
                    continue
                spread = float(logits.std())
                gap_theirs = float(logits[theirs] - logits[ours])
                # Their choice is our second, or lies below it.
                gap_ours = logit - second_logit
                tie = theirs == second and max(gap_ours, gap_theirs) <= tolerance * spread
                row = [name, answer["id"], step, ours, theirs, gap_ours, gap_theirs, spread, "tie" if tie else "difference"]
                found.append(dict(zip(FIELDS, row)))
    return found


def main():
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--ours", required=True, help="the built example `greedy`")
    parse.add_argument("--data", type=pathlib.Path, required=True, help="folder with " + ", ".join(f"{name}.jsonl" for name in SETS))
    parse.add_argument("--model", action="append", default=[], metavar="NAME=GGUF", help="the two default models if left out")
    parse.add_argument("--oracle", metavar="GGUF", help="what llama.cpp loads instead: for a mixture with dense layers, its source")
    parse.add_argument("--models-dir", type=pathlib.Path, default=pathlib.Path.home() / ".cache/reprise/models")
    parse.add_argument("--threads", type=int, default=2)
    parse.add_argument("--generate", type=int, default=64)
    parse.add_argument("--tolerance", type=float, default=0.02)
    parse.add_argument("--out", type=pathlib.Path, required=True)
    options = parse.parse_args()
    models = dict(given.split("=", 1) for given in options.model)
    models = models or {name: options.models_dir / name / file for name, file in MODELS.items()}
    options.out.mkdir(parents=True, exist_ok=True)
    asked = "".join(json.dumps(prompt) + "\n" for prompt in prompts(options.data))
    everything, failed = [], False
    print(f"| model | prompts | tokens | texts equal | equal up to ties | ties (first) | differences (first) | tolerance |\n{'|---' * 8}|")
    for name, path in models.items():
        command = [options.ours, str(path), "--generate", str(options.generate), "--threads", str(options.threads)]
        ran = subprocess.run(command, input=asked, check=True, capture_output=True, text=True)
        answers = [json.loads(line) for line in ran.stdout.splitlines()]
        model = llama.Model(options.oracle or path)
        each = [compare(model, name, answer, options.threads, options.tolerance) for answer in answers]
        rows = [row for found in each for row in found]
        equal = sum(not found for found in each)
        to_ties = sum(all(row["verdict"] == "tie" for row in found) for found in each)
        firsts = [found[0]["verdict"] for found in each if found]
        ties = sum(row["verdict"] == "tie" for row in rows)
        tokens = sum(len(answer["generated"]) for answer in answers)
        print(f"| {name} | {len(answers)} | {tokens} | {equal} | {to_ties} | {ties} ({firsts.count('tie')}) "
              f"| {len(rows) - ties} ({firsts.count('difference')}) | {options.tolerance} of the spread |")
        everything += rows
        failed |= ties != len(rows)
    with (options.out / "greedy.csv").open("w", newline="") as out:
        writer = csv.DictWriter(out, FIELDS)
        writer.writeheader()
        writer.writerows(everything)
    raise SystemExit(int(failed))


if __name__ == "__main__":
    main()
