"""Times the embedder beside ONNX Runtime and PyTorch on the same f32 weights, in turns.

    compare.py FOLDER BENCH_EMBED OUT [--rounds N]

FOLDER is the model's (`reprise models pull all-minilm-l6-v2`), BENCH_EMBED the example's binary, OUT a folder that gets
raw.csv, texts.txt and summary.md. The environment's ONNX may name the exported graph, to export it once. Needs torch, transformers, tokenizers, onnx, onnxruntime.

Each implementation and number of threads is a process of its own that waits for its turn; in every round each has one turn
for each case, in random order. What is timed:
    reprise      text -> unit vector through MiniLm's queue, tokenisation included
    onnxruntime  token ids -> unit vector, pooling in the graph; the graph is optimised with onnxruntime.transformers
    torch        token ids -> unit vector, eager, inference mode, scaled_dot_product_attention
"""

import argparse
import csv
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TOKENS, TEXTS = 32, 32
CASES = {"one": "one text of 32 tokens", "batch": "32 texts of 32 tokens"}
TURN = {"one": 20, "batch": 3}


def make_texts(folder):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    words = sorted(w for w in tokenizer.get_vocab() if w.isascii() and w.isalpha() and w.islower() and len(w) > 2)
    draw = random.Random(1)
    texts = [" ".join(draw.choice(words) for _ in range(TOKENS - 2)) for _ in range(TEXTS)]
    ids = [tokenizer.encode(text).ids for text in texts]
    assert all(len(row) == TOKENS for row in ids)
    return texts, ids


def module(folder, attention="sdpa"):
    import torch
    from transformers import AutoModel

    class Unit(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.bert = AutoModel.from_pretrained(folder, add_pooling_layer=False, attn_implementation=attention)

        def forward(self, input_ids, attention_mask):
            states = self.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
            mask = attention_mask.unsqueeze(-1).to(states.dtype)
            mean = (states * mask).sum(1) / mask.sum(1)
            return torch.nn.functional.normalize(mean, dim=1)

    return Unit().eval()


def export(folder, ids, path):
    import torch
    from onnxruntime.transformers import optimizer

    example = torch.tensor(ids[:2])
    axes = {0: "texts", 1: "tokens"}
    torch.onnx.export(
        # The optimiser knows this form of attention.
        module(folder, "eager"),
        (example, torch.ones_like(example)),
        str(path),
        input_names=["input_ids", "attention_mask"],
        output_names=["vector"],
        dynamic_axes={"input_ids": axes, "attention_mask": axes, "vector": {0: "texts"}},
        dynamo=False,
        opset_version=17,
    )
    optimised = optimizer.optimize_model(str(path), model_type="bert", num_heads=12, hidden_size=384)
    optimised.save_model_to_file(str(path))
    print("fused:", optimised.get_fused_operator_statistics(), file=sys.stderr)


def worker(kind, folder, threads, ids, onnx_path):
    """Answers `one N`, `batch N` and `vector` as bench_embed does."""
    import numpy

    if kind == "torch":
        import torch

        torch.set_num_threads(threads)
        torch.set_num_interop_threads(1)
        model = module(folder)
        inputs = {name: torch.tensor(rows) for name, rows in (("one", ids[:1]), ("batch", ids))}
        inputs = {name: (rows, torch.ones_like(rows)) for name, rows in inputs.items()}

        def run(case):
            with torch.inference_mode():
                return model(*inputs[case]).numpy()

    else:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(str(onnx_path), options, providers=["CPUExecutionProvider"])
        inputs = {name: numpy.array(rows, dtype=numpy.int64) for name, rows in (("one", ids[:1]), ("batch", ids))}
        inputs = {n: {"input_ids": r, "attention_mask": numpy.ones_like(r)} for n, r in inputs.items()}

        def run(case):
            return session.run(None, inputs[case])[0]

    print("ready", flush=True)
    for line in sys.stdin:
        command, *count = line.split()
        if command == "vector":
            print(*run("one")[0].tolist(), flush=True)
            continue
        times = []
        for _ in range(int(count[0])):
            begin = time.perf_counter_ns()
            run(command)
            times.append((time.perf_counter_ns() - begin) // 1000)
        print(*times, flush=True)


class Turn:
    def __init__(self, command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        while self.process.stdout.readline().strip() != "ready":
            assert self.process.poll() is None, command

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return [float(word) for word in self.process.stdout.readline().split()]


def quartiles(values):
    return statistics.quantiles(values, n=4, method="inclusive")


def interval(ratios):
    """95 % bootstrap interval of the median of the rounds' ratios."""
    draw = random.Random(2)
    medians = sorted(statistics.median(draw.choices(ratios, k=len(ratios))) for _ in range(2000))
    return medians[50], medians[1949]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("bench_embed", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    folder, out = arguments.folder, arguments.out
    texts, ids = make_texts(folder)
    if arguments.worker:
        kind, threads, onnx_path = arguments.worker
        return worker(kind, folder, int(threads), ids, Path(onnx_path))

    out.mkdir(parents=True, exist_ok=True)
    (out / "texts.txt").write_text("\n".join(texts) + "\n")
    onnx_path = Path(os.environ.get("ONNX", Path(tempfile.mkdtemp()) / "model.onnx"))
    if not onnx_path.exists():
        export(folder, ids, onnx_path)
    turns = {}
    for threads in (1, 2):
        turns["reprise", threads] = Turn([arguments.bench_embed, folder, str(threads), out / "texts.txt"])
        for kind in ("onnxruntime", "torch"):
            command = [sys.executable, __file__, folder, arguments.bench_embed, out]
            turns[kind, threads] = Turn(command + ["--worker", kind, str(threads), onnx_path])
    expected = turns["torch", 1].ask("vector")
    for (kind, threads), turn in turns.items():
        cosine = sum(a * b for a, b in zip(expected, turn.ask("vector"), strict=True))
        assert cosine > 1 - 1e-5, (kind, threads, cosine)
        for case in CASES:
            turn.ask(f"{case} {TURN[case]}")

    draw, rows = random.Random(3), []
    for number in range(arguments.rounds):
        for case in CASES:
            for kind, threads in draw.sample(sorted(turns), len(turns)):
                time.sleep(0.02)  # Threads of the previous turn stop spinning.
                for micros in turns[kind, threads].ask(f"{case} {TURN[case]}"):
                    rows.append((number, case, threads, kind, int(micros)))
    with open(out / "raw.csv", "w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([("round", "case", "threads", "implementation", "micros"), *rows])
    summarise(rows, out, arguments.rounds)


def summarise(rows, out, rounds):
    import onnxruntime
    import torch

    model = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    lines = [
        "# all-MiniLM-L6-v2 in f32 beside ONNX Runtime and PyTorch",
        "",
        f"{model}, {os.cpu_count()} cores, {platform.system()}; onnxruntime {onnxruntime.__version__}, "
        f"torch {torch.__version__}. {rounds} rounds; in a round each has a turn of {TURN['one']} single texts and "
        f"{TURN['batch']} batches, in random order. Reprise's times include tokenisation and the hop to its thread; "
        "the others start from token ids.",
        "",
        "Milliseconds: median (quartiles). Ratio: median over rounds of Reprise's median by the better other's of the same "
        "round, with its 95 % bootstrap interval.",
        "",
        "| case | threads | reprise | onnxruntime | torch | ratio to the better |",
        "|---|---|---|---|---|---|",
    ]
    kinds = ("reprise", "onnxruntime", "torch")
    for case, name in CASES.items():
        for threads in (1, 2):
            times = {k: [r[4] / 1000 for r in rows if r[1:4] == (case, threads, k)] for k in kinds}
            better = min(kinds[1:], key=lambda kind: statistics.median(times[kind]))

            def of_round(kind, number):
                return statistics.median(r[4] for r in rows if r[:4] == (number, case, threads, kind))

            ratios = [of_round("reprise", n) / of_round(better, n) for n in range(rounds)]
            low, high = interval(ratios)
            cells = []
            for kind in kinds:
                first, middle, third = quartiles(times[kind])
                cells.append(f"{middle:.2f} ({first:.2f} to {third:.2f})")
            ratio = f"{statistics.median(ratios):.2f} ({low:.2f} to {high:.2f}), {better}"
            lines.append(f"| {name} | {threads} | {' | '.join(cells)} | {ratio} |")
    (out / "summary.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
