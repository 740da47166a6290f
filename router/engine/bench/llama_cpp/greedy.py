"""Greedy text of the engine beside llama.cpp's, on 50 prompts.

    cargo build --release -p reprise-engine --example greedy
    python greedy.py --ours target/release/examples/greedy --data DATA --out ../runs/DATE-MACHINE [--model NAME=GGUF]...

Ours writes a prompt's tokens (its own tokenizer and chat template), what it generates from them, and at each step the logits of
its eight likeliest tokens. llama.cpp reads the same tokens, the generated ones included, and says at each step which token it
would have taken. As long as both agree its greedy text is ours; so the first step where they differ is the first difference of
the two texts, and each step after it is compared as well, given our text so far.

What is a numerical tie? Both engines round activations to 8 bits, and which way a value is rounded depends on the last bits of
sums: on llama.cpp's own settings, which are all right. So each text is read under each of SETTINGS. How far the margin between
the two likeliest tokens (of the first setting) moves over the settings is the noise of the arithmetic. Where our choice differs
from that of the first setting, it is a tie if the margin between the two is, in both engines, within the 99th percentile of the
noise over all steps of the model; a rare tie if it is within its largest value; else a difference.

Whether our logits are one more such setting, or farther off, is a question of its own: the second table gives the distance of
each from each (root mean square over steps and our eight candidates, each step's mean taken off). Writes greedy.csv (every
step with another choice), prints both tables; --keep writes what dequantised.py needs.
"""

import argparse
import csv
import json
import pathlib
import subprocess

import numpy as np

import llama
from settings import SETTINGS
from speed import MODELS

SETS = {"clinc150": 20, "gsm8k_test": 10, "nl2bash": 10, "instruction_induction": 10}
FIELDS = ["model", "id", "step", "ours", "theirs", "gap_ours", "gap_theirs", "noise_here", "also_ours", "verdict"]


def prompts(folder: pathlib.Path) -> list[dict]:
    """Evenly spaced through each set; of at most 1,200 characters."""
    chosen = []
    for name, wanted in SETS.items():
        rows = [json.loads(line) for line in (folder / f"{name}.jsonl").open(encoding="utf-8")]
        rows = [row for row in rows if len(row["prompt"]) <= 1200]
        step = len(rows) // wanted
        chosen += [{"id": row["id"], "prompt": row["prompt"]} for row in rows[: step * wanted : step]]
    return chosen


def read(model: llama.Model, tokens: list[int], first: int, threads: int, single=False, **settings) -> np.ndarray:
    """Logits from the token `first` on; of one pass over all, or of one over the prompt and one for each token after it."""
    found = []
    with llama.Context(model, threads, len(tokens) + 1, **settings) as context:
        starts = [0, *range(first + 1, len(tokens))] if single else range(0, len(tokens), 512)
        for start, end in zip(starts, [*starts[1:], len(tokens)]):
            part = tokens[start:end]
            context.decode([(token, start + at, 0, start + at >= first) for at, token in enumerate(part)])
            found += [context.logits(at).copy() for at in range(len(part)) if start + at >= first]
    return np.stack(found)


def compare(model: llama.Model, name: str, answer: dict, threads: int) -> tuple[list[dict], dict]:
    """Steps with another choice; and what tables are made of, with an entry for each step."""
    tokens, generated = answer["prompt_tokens"], answer["generated"]
    text, first = tokens + [step[0][0] for step in generated][:-1], len(tokens) - 1
    read_all = np.stack([read(model, text, first, threads, **setting) for setting in SETTINGS.values()])
    steps = np.arange(len(generated))
    best, second = np.argsort(read_all[0], axis=1)[:, :-3:-1].T
    margins = read_all[:, steps, best] - read_all[:, steps, second]
    noise = margins.max(0) - margins.min(0)
    choices = read_all.argmax(2)
    candidates = np.array([[token for token, _ in step] for step in generated])
    logits = np.concatenate([
        [[[logit for _, logit in step] for step in generated]],
        np.take_along_axis(read_all, np.broadcast_to(candidates, (len(SETTINGS), *candidates.shape)), 2),
    ])
    found = []
    for step in steps[best != candidates[:, 0]]:
        ours, theirs = int(candidates[step, 0]), int(best[step])
        known = dict(generated[step])
        gap_ours = known[ours] - known.get(theirs, -np.inf)
        gaps = read_all[:, step, theirs] - read_all[:, step, ours]
        also = ";".join(s for s, choice in zip(SETTINGS, choices[:, step]) if choice == ours)
        row = [name, answer["id"], int(step), ours, theirs, gap_ours, float(gaps[0]), float(np.ptp(gaps)), also, ""]
        found.append(dict(zip(FIELDS, row)))
    kept = {"text": text, "first": first, "candidates": candidates, "logits": logits, "noise": noise,
            "choices": choices, "equal": choices == candidates[:, 0], "itself": (choices != choices[0]).any(0)}
    return found, kept


def distances(kept: list[dict]) -> np.ndarray:
    """Of each from each; 0 is ours, the others are SETTINGS."""
    logits = np.concatenate([each["logits"] for each in kept], 1)
    logits = logits - logits.mean(2, keepdims=True)
    return np.sqrt(((logits[:, None] - logits[None]) ** 2).mean((2, 3)))


def summary(name: str, found: list[list[dict]], kept: list[dict]) -> str:
    """Gives each row its verdict."""
    noise = np.concatenate([each["noise"] for each in kept])
    usual, most = np.quantile(noise, 0.99), noise.max()
    rows = [row for each in found for row in each]
    for row in rows:
        gap = max(row["gap_ours"], row["gap_theirs"])
        row["verdict"] = "tie" if gap <= usual else "rare tie" if gap <= most else "difference"
    count = lambda verdict: sum(row["verdict"] == verdict for row in rows)
    to_ties = sum(all(row["verdict"] != "difference" for row in each) for each in found)
    texts = [sum(each["equal"][s].all() for each in kept) for s in range(len(SETTINGS))]
    apart = distances(kept)
    names = ["ours", *SETTINGS]
    return "\n".join([
        "| model | prompts | tokens | texts equal | equal up to ties | steps: ties | rare ties | differences "
        "| noise of llama.cpp: median, p99, largest | steps where its settings differ |", "|---" * 10 + "|",
        f"| {name} | {len(kept)} | {len(noise)} | {texts[0]} | {to_ties} | {count('tie')} | {count('rare tie')} | {count('difference')} "
        f"| {np.median(noise):.3f}, {usual:.2f}, {most:.2f} | {sum(each['itself'].sum() for each in kept)} |", "",
        "| distance of logits from | " + " | ".join(names) + " | texts equal to ours |", "|---" * (len(names) + 2) + "|",
        *(f"| {of} | " + " | ".join(f"{x:.3f}" for x in row) + f" | {'' if i == 0 else texts[i - 1]} |"
          for i, (of, row) in enumerate(zip(names, apart)))])


def main():
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--ours", required=True, help="the built example `greedy`")
    parse.add_argument("--data", type=pathlib.Path, required=True, help="folder with " + ", ".join(f"{name}.jsonl" for name in SETS))
    parse.add_argument("--model", action="append", default=[], metavar="NAME=GGUF", help="the two default models if left out")
    parse.add_argument("--oracle", metavar="GGUF", help="what llama.cpp loads instead: for a mixture with dense layers, its source")
    parse.add_argument("--models-dir", type=pathlib.Path, default=pathlib.Path.home() / ".cache/reprise/models")
    parse.add_argument("--threads", type=int, default=2)
    parse.add_argument("--generate", type=int, default=64)
    parse.add_argument("--kv", choices=["f32", "f16"], default="f32", help="of ours")
    parse.add_argument("--keep", type=pathlib.Path, metavar="FOLDER", help="gets NAME.npy for dequantised.py")
    parse.add_argument("--out", type=pathlib.Path, required=True, help="a folder; rows are added to its greedy.csv")
    options = parse.parse_args()
    models = dict(given.split("=", 1) for given in options.model)
    models = models or {name: options.models_dir / name / file for name, file in MODELS.items()}
    options.out.mkdir(parents=True, exist_ok=True)
    asked = "".join(json.dumps(prompt) + "\n" for prompt in prompts(options.data))
    failed, target = False, options.out / "greedy.csv"
    for name, path in models.items():
        command = [options.ours, str(path), "--generate", str(options.generate), "--threads", str(options.threads), "--kv", options.kv]
        ran = subprocess.run(command, input=asked, check=True, capture_output=True, text=True)
        answers = [json.loads(line) for line in ran.stdout.splitlines()]
        model = llama.Model(options.oracle or path)
        found, kept = zip(*(compare(model, name, answer, options.threads) for answer in answers))
        print(summary(name, found, kept), end="\n\n", flush=True)
        if options.keep:
            options.keep.mkdir(parents=True, exist_ok=True)
            np.save(options.keep / f"{name}.npy", np.array(kept, dtype=object), allow_pickle=True)
        rows = [row for each in found for row in each]
        failed |= any(row["verdict"] == "difference" for row in rows)
        fresh = not target.exists()
        with target.open("a", newline="") as out:
            writer = csv.DictWriter(out, FIELDS, lineterminator="\n")
            if fresh:
                writer.writeheader()
            writer.writerows(rows)
    raise SystemExit(int(failed))


if __name__ == "__main__":
    main()
