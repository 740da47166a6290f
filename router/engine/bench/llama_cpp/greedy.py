"""Greedy text of the engine beside llama.cpp's, on 50 prompts.

    cargo build --release -p reprise-engine --example greedy
    python greedy.py --ours target/release/examples/greedy --data DATA --out ../runs/DATE-MACHINE [--model NAME=GGUF]...

Ours writes a prompt's tokens (its own tokenizer and chat template) and what it generates from them. llama.cpp reads the same
tokens, the generated ones included, in one pass, and says at each step which token it would have taken. As long as both agree
its greedy text is ours; so the first step where they differ is the first difference of the two texts, and each step after it
is compared as well, given our text so far.

What is a numerical tie? Both engines round activations to 8 bits, and what rounding does depends on the last bits of sums: on
llama.cpp's own settings, which are all right. So each text is read twice, with flash attention off and KV in f32, and with flash
attention on and KV in f16. The 99th percentile, over all steps, of how far the margin between its two best tokens moves from
one to the other is the noise of the arithmetic. A difference is a tie if the margin between the two candidates is within that
noise in both engines; else it is an error. How often llama.cpp differs from itself is shown beside. Writes greedy.csv (every
difference) and prints the summary.
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


def read(model: llama.Model, tokens: list[int], first: int, threads: int, **settings) -> np.ndarray:
    """Logits from the token `first` on, of one pass over all."""
    found = []
    with llama.Context(model, threads, len(tokens) + 1, **settings) as context:
        for start in range(0, len(tokens), 512):
            part = tokens[start : start + 512]
            context.decode([(token, start + at, 0, start + at >= first) for at, token in enumerate(part)])
            found += [context.logits(at).copy() for at in range(len(part)) if start + at >= first]
    return np.stack(found)


def compare(model: llama.Model, name: str, answer: dict, threads: int) -> tuple[list[dict], list[float], int]:
    """Differences, how far llama.cpp's margins move between its settings, and how often its choice does."""
    tokens, generated = answer["prompt_tokens"], answer["generated"]
    text, first = tokens + [step[0] for step in generated][:-1], len(tokens) - 1
    plain = read(model, text, first, threads, flash="off", f32=True)
    other = read(model, text, first, threads, flash="on")
    steps, order = np.arange(len(generated)), np.argsort(plain, axis=1)
    best, second = order[:, -1], order[:, -2]
    noise = np.abs((plain[steps, best] - plain[steps, second]) - (other[steps, best] - other[steps, second]))
    found = []
    for step, (ours, logit, next_best, next_logit) in enumerate(generated):
        theirs = int(best[step])
        if theirs != ours:
            # Their choice is our second, or lies below it: then ours is no tie.
            gap_ours = logit - next_logit if theirs == next_best else float("inf")
            gap_theirs = float(plain[step, theirs] - plain[step, ours])
            row = [name, answer["id"], step, ours, theirs, gap_ours, gap_theirs, float(plain[step].std()), ""]
            found.append(dict(zip(FIELDS, row)))
    return found, noise.tolist(), int((best != other.argmax(1)).sum())


def main():
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--ours", required=True, help="the built example `greedy`")
    parse.add_argument("--data", type=pathlib.Path, required=True, help="folder with " + ", ".join(f"{name}.jsonl" for name in SETS))
    parse.add_argument("--model", action="append", default=[], metavar="NAME=GGUF", help="the two default models if left out")
    parse.add_argument("--oracle", metavar="GGUF", help="what llama.cpp loads instead: for a mixture with dense layers, its source")
    parse.add_argument("--models-dir", type=pathlib.Path, default=pathlib.Path.home() / ".cache/reprise/models")
    parse.add_argument("--threads", type=int, default=2)
    parse.add_argument("--generate", type=int, default=64)
    parse.add_argument("--out", type=pathlib.Path, required=True)
    options = parse.parse_args()
    models = dict(given.split("=", 1) for given in options.model)
    models = models or {name: options.models_dir / name / file for name, file in MODELS.items()}
    options.out.mkdir(parents=True, exist_ok=True)
    asked = "".join(json.dumps(prompt) + "\n" for prompt in prompts(options.data))
    everything, failed = [], False
    print("| model | prompts | tokens | texts equal | equal up to ties | steps: ties | steps: differences | noise of llama.cpp (p99) "
          f"| llama.cpp differs from itself |\n{'|---' * 9}|")
    for name, path in models.items():
        command = [options.ours, str(path), "--generate", str(options.generate), "--threads", str(options.threads)]
        ran = subprocess.run(command, input=asked, check=True, capture_output=True, text=True)
        answers = [json.loads(line) for line in ran.stdout.splitlines()]
        model = llama.Model(options.oracle or path)
        each, moved, itself = [], [], 0
        for answer in answers:
            found, noise, changed = compare(model, name, answer, options.threads)
            each.append(found)
            moved += noise
            itself += changed
        tolerance = float(np.quantile(moved, 0.99))
        rows = [row for found in each for row in found]
        for row in rows:
            row["verdict"] = "tie" if max(row["gap_ours"], row["gap_theirs"]) <= tolerance else "difference"
        equal = sum(not found for found in each)
        to_ties = sum(all(row["verdict"] == "tie" for row in found) for found in each)
        ties = sum(row["verdict"] == "tie" for row in rows)
        print(f"| {name} | {len(answers)} | {len(moved)} | {equal} | {to_ties} | {ties} | {len(rows) - ties} | {tolerance:.2f} "
              f"| on {itself} steps |", flush=True)
        everything += rows
        failed |= ties != len(rows)
    with (options.out / "greedy.csv").open("w", newline="") as out:
        writer = csv.DictWriter(out, FIELDS)
        writer.writeheader()
        writer.writerows(everything)
    raise SystemExit(int(failed))


if __name__ == "__main__":
    main()
