"""Speed of `reprise bench engine` beside llama.cpp: same file, same threads, taken in turns.

    python speed.py --ours target/release/reprise --out ../runs/DATE-MACHINE [--model NAME=GGUF]... [--pairs 5]

Cases: decode at batch 1 and at batch 8 (128 tokens after a prompt of 64), prefill of 200 tokens. Each pair runs ours and
llama.cpp one after the other, in alternating order. llama.cpp runs each pair with flash attention off and on; the setting with
the better median counts. Without --ours only llama.cpp is measured. Adds every run to speed.csv after each pair, and prints the
summary of all that stands there as Markdown: pairs may be measured in several calls. Times are of a warm model: loading is not
in them.
"""

import argparse
import csv
import json
import pathlib
import random
import statistics
import subprocess

import llama

MODELS = {
    "smollm2-135m-instruct-q4_1": "SmolLM2-135M-Instruct.Q4_1.gguf",
    "qwen2.5-coder-1.5b-instruct-q4_k_m": "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
}
# name, batch, prompt, generate, which speed
CASES = [
    ("decode batch 1", 1, 64, 128, "decode_tokens_per_second"),
    ("decode batch 8", 8, 64, 128, "decode_tokens_per_second"),
    ("prefill 200", 1, 200, 1, "prefill_tokens_per_second"),
]
FIELDS = ["model", "case", "pair", "engine", "setting", "tokens_per_second"]


def ours(binary: str, path: pathlib.Path, threads: int, batch: int, prompt: int, generate: int) -> dict:
    command = [binary, "bench", "engine", "--model", str(path), "--threads", str(threads), "--batch", str(batch),
               "--prompt", str(prompt), "--generate", str(generate), "--json"]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measure(options, name: str, path: pathlib.Path, model: llama.Model, pair: int) -> list[dict]:
    """One pair of each case."""
    rows = []
    for case, batch, prompt, generate, speed in CASES:
        if options.case and case not in options.case:
            continue

        def take(engine: str, setting: str, result: dict):
            rows.append(dict(zip(FIELDS, [name, case, pair, engine, setting, round(result[speed], 2)])))

        def theirs():
            for flash in llama.FLASH:
                take("llama.cpp", f"flash {flash}", llama.speeds(model, options.threads, flash, batch, prompt, generate))

        def mine():
            if options.ours:
                take("reprise", "", ours(options.ours, path, options.threads, batch, prompt, generate))

        for run in (mine, theirs) if pair % 2 == 0 else (theirs, mine):
            run()
    return rows


def interval(ratios: list[float]) -> tuple[float, float]:
    """95 % of the median of pairs, by bootstrap; a fixed seed."""
    draw = random.Random(7)
    medians = sorted(statistics.median(draw.choices(ratios, k=len(ratios))) for _ in range(2000))
    return medians[50], medians[1949]


def summary(rows: list[dict]) -> str:
    lines = ["| model | case | llama.cpp, tokens/s | setting | reprise, tokens/s | ratio (95 % of the median of pairs) |",
             "|---|---|---|---|---|---|"]
    for model, case in dict.fromkeys((row["model"], row["case"]) for row in rows):
        def of(engine, setting):
            return [float(r["tokens_per_second"]) for r in rows
                    if (r["model"], r["case"], r["engine"], r["setting"]) == (model, case, engine, setting)]
        best = max((f"flash {flash}" for flash in llama.FLASH), key=lambda s: statistics.median(of("llama.cpp", s)))
        theirs, mine = of("llama.cpp", best), of("reprise", "")
        cells = [model, case, f"{statistics.median(theirs):.1f}", best]
        if mine:
            ratios = [a / b for a, b in zip(mine, theirs)]
            low, high = interval(ratios)
            cells += [f"{statistics.median(mine):.1f}", f"{statistics.median(ratios):.2f} ({low:.2f} to {high:.2f})"]
        else:
            cells += ["not measured", ""]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main():
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--ours", help="the binary `reprise`")
    parse.add_argument("--model", action="append", default=[], metavar="NAME=GGUF", help="the two default models if left out")
    parse.add_argument("--case", action="append", choices=[case[0] for case in CASES], help="all if left out")
    parse.add_argument("--models-dir", type=pathlib.Path, default=pathlib.Path.home() / ".cache/reprise/models")
    parse.add_argument("--threads", type=int, default=2)
    parse.add_argument("--pairs", type=int, default=5)
    parse.add_argument("--out", type=pathlib.Path, required=True, help="a folder; rows are added to its speed.csv")
    options = parse.parse_args()
    models = dict(given.split("=", 1) for given in options.model)
    models = models or {name: options.models_dir / name / file for name, file in MODELS.items()}
    options.out.mkdir(parents=True, exist_ok=True)
    target = options.out / "speed.csv"
    for name, path in models.items():
        model = llama.Model(path)
        measured = [int(row["pair"]) for row in read(target) if row["model"] == name]
        begin = max(measured, default=-1) + 1
        for pair in range(begin, begin + options.pairs):
            write(target, measure(options, name, pathlib.Path(path), model, pair))
    print(summary(read(target)))


def read(target: pathlib.Path) -> list[dict]:
    if not target.exists():
        return []
    with target.open(newline="") as file:
        return list(csv.DictReader(file))


def write(target: pathlib.Path, rows: list[dict]):
    fresh = not target.exists()
    with target.open("a", newline="") as out:
        writer = csv.DictWriter(out, FIELDS, lineterminator="\n")
        if fresh:
            writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
