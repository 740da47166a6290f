#!/usr/bin/env python3
"""Counts wrong answers from the cache: of exact reuse, through the real gateway, and of what a likeness threshold would have done.

    wrong_reuse.py DATA REPRISE OUT [--per-kind N] [--seed S]

DATA is the folder of pairs and requests (JSONL), REPRISE the gateway's binary, OUT a folder that gets raw.csv and summary.md. Needs
the embedder (`reprise models pull all-minilm-l6-v2`) and Python alone.

The tier is an HTTP server of this script that answers each conversation with a hash of it, so that an answer tells whose it
is. Of each pair the first text is asked, under temperature 0, and its answer stored; then the second. A wrong reuse is an
answer from the cache that belongs to another conversation. Paraphrase pairs are those of DATA; hard pairs are made here from its
requests: one digit changed, a negation put in, an entity or a language swapped; and the same text is asked by another tenant.
The likeness is the cosine of the two texts under the gateway's own embedder, through /v1/embeddings.
"""

import argparse
import csv
import hashlib
import http.server
import json
import platform
import random
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

PAIRS = ("pairs_gptcache_mock", "pairs_instructions", "pairs_intent", "pairs_nl2bash", "pairs_paws")
THRESHOLDS = (0.70, 0.75, 0.80, 0.85, 0.90, 0.95, 0.97, 0.99)
ERRORS = (0.01, 0.05)
ENTITIES = (
    ("france", "germany", "spain", "italy", "china", "japan", "india", "brazil", "canada", "egypt", "russia", "mexico"),
    ("london", "paris", "chicago", "boston", "dallas", "berlin", "rome", "tokyo", "seattle", "denver", "atlanta", "miami"),
    ("january", "february", "march", "april", "june", "july", "august", "september", "october", "november", "december"),
    ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"),
)
LANGUAGES = ("English", "German", "French", "Spanish", "Italian", "Portuguese")
KEYS = {"ana": "key-of-ana", "bob": "key-of-bob"}
CLIENTS = 4


def own_answer(messages):
    """Letters alone: digits could be taken for personal data, and scrubbed."""
    digest = hashlib.sha256(json.dumps(messages, sort_keys=True).encode()).hexdigest()
    return "answer " + "".join(chr(ord("a") + int(digit, 16)) for digit in digest)


class Upstream(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        answer = {
            "id": "chatcmpl-1", "object": "chat.completion", "created": int(time.time()), "model": "hash",
            "choices": [{
                "index": 0, "finish_reason": "stop",
                "message": {"role": "assistant", "content": own_answer(body["messages"])},
            }],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
        }
        if body.get("stream"):
            delta = {"index": 0, "delta": {"role": "assistant", "content": answer["choices"][0]["message"]["content"]}}
            chunks = [
                answer | {"object": "chat.completion.chunk", "choices": [delta]},
                answer | {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
            ]
            payload = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"
            kind = "text/event-stream"
        else:
            payload, kind = json.dumps(answer), "application/json"
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(payload.encode())))
        self.end_headers()
        self.wfile.write(payload.encode())

    def do_GET(self):
        payload = json.dumps({"object": "list", "data": [{"id": "hash", "object": "model"}]}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *_):
        pass


def rows(path):
    with path.open() as lines:
        return [json.loads(line) for line in lines]


def given_pairs(data):
    for name in PAIRS:
        for row in rows(data / f"{name}.jsonl"):
            yield {"kind": name.removeprefix("pairs_"), "id": row["id"], "a": row["a"], "b": row["b"], "same": row["same"]}


def hard_pairs(data, count, seed):
    draw = random.Random(seed)
    texts = []
    for name in ("gsm8k_train", "nq_open", "webquestions", "banking77", "clinc150", "hwu64", "nl2bash"):
        texts += [(row["id"], row.get("text") or row["prompt"]) for row in rows(data / f"{name}.jsonl")]
    draw.shuffle(texts)

    def digit(text):
        places = [at for at, char in enumerate(text) if char.isdigit()]
        if not places:
            return None
        at = draw.choice(places)
        return text[:at] + draw.choice([digit for digit in "123456789" if digit != text[at]]) + text[at + 1 :]

    def negation(text):
        changed = re.sub(r"\b(is|are|can|do|does|should|will|would|was|were)\b", r"\1 not", text, count=1)
        return changed if changed != text and " not" not in text else None

    def entity(text):
        for names in ENTITIES:
            for name in names:
                if re.search(rf"\b{name}\b", text, re.I):
                    other = draw.choice([other for other in names if other != name])
                    return re.sub(rf"\b{name}\b", other, text, count=1, flags=re.I)
        return None

    for kind, change in (("digit", digit), ("negation", negation), ("entity", entity)):
        made = 0
        for id, text in texts:
            changed = change(text) if made < count else None
            if changed and changed != text:
                made += 1
                yield {"kind": kind, "id": f"{kind}-{id}", "a": text, "b": changed, "same": False}
    for id, text in texts[:count]:
        one, other = draw.sample(LANGUAGES, 2)
        a, b = (f"{text}\nAnswer in {language}." for language in (one, other))
        yield {"kind": "language", "id": f"language-{id}", "a": a, "b": b, "same": False}
    for id, text in texts[count : 2 * count]:
        yield {"kind": "tenant", "id": f"tenant-{id}", "a": text, "b": text, "same": False, "other_tenant": True}


class Gateway:
    def __init__(self, binary, home, upstream):
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self.port = listener.getsockname()[1]
        keys = "".join(
            f'[[auth.keys]]\nname = "{tenant}"\ntenant = "{tenant}"\nkey_sha256 = "{hashlib.sha256(key.encode()).hexdigest()}"\n'
            for tenant, key in KEYS.items()
        )
        (home / "reprise.toml").write_text(
            f'listen = "127.0.0.1:{self.port}"\ndata_dir = "{home / "data"}"\n'
            f'[[tiers]]\nname = "hash"\nbase_url = "http://127.0.0.1:{upstream}/v1"\nmodel = "hash"\ncost = 1.0\n'
            f'context_length = 100000\n[auth]\n{keys}[router]\npolicy = "large-plain"\n'
        )
        self.log = (home / "log").open("wb")
        self.process = subprocess.Popen([binary, "serve", "--config", home / "reprise.toml"], stdout=self.log, stderr=self.log)
        until = time.monotonic() + 120
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=5) as answer:
                    if json.load(answer)["cache"] == "ready":
                        return
            except OSError:
                pass
            if self.process.poll() is not None or time.monotonic() > until:
                sys.exit(f"the gateway is not up: {(home / 'log').read_text()[-2000:]}")
            time.sleep(0.1)

    def post(self, path, body, tenant="ana"):
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", json.dumps(body).encode(),
            {"content-type": "application/json", "authorization": f"Bearer {KEYS[tenant]}"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.headers, json.load(answer)

    def ask(self, text, tenant="ana"):
        messages = [{"role": "user", "content": text}]
        body = {"model": "auto", "messages": messages, "temperature": 0}
        headers, answer = self.post("/v1/chat/completions", body, tenant)
        return headers["x-reprise-cache"] == "HIT", answer["choices"][0]["message"]["content"] == own_answer(messages)

    def likeness(self, a, b):
        _, answer = self.post("/v1/embeddings", {"model": "all-minilm-l6-v2", "input": [a, b]})
        one, other = (item["embedding"] for item in answer["data"])
        return sum(x * y for x, y in zip(one, other))

    def stop(self):
        self.process.terminate()
        self.process.wait(60)


def play(gateway, pair):
    if gateway.ask(pair["a"]) == (True, False):
        pair["first_wrong"] = True
    pair["hit"], right = gateway.ask(pair["b"], "bob" if pair.get("other_tenant") else "ana")
    pair["wrong"] = int(not right)
    pair["likeness"] = gateway.likeness(pair["a"], pair["b"])
    return pair


def share(part, whole):
    return f"{100 * part / whole:.1f} %" if whole else "–"


def summary(pairs, command, seconds):
    kinds = list(dict.fromkeys(pair["kind"] for pair in pairs))
    lines = [
        "# Wrong answers from the cache", "",
        f"{platform.machine()}, {seconds:.0f} s, {CLIENTS} clients. The first text of each pair is asked and its answer stored, then the second.", "",
        f"    {command}", "",
        "## Exact reuse, through the gateway", "",
        "| pairs | number | answered from the cache | wrong answers |", "|---|---|---|---|",
    ]
    for kind in kinds:
        own = [pair for pair in pairs if pair["kind"] == kind]
        wrong = sum(pair["wrong"] for pair in own) + sum(pair.get("first_wrong", False) for pair in own)
        lines.append(f"| {kind} | {len(own)} | {sum(pair['hit'] for pair in own)} | {wrong} |")
    lines += [
        "", "What was answered from the cache is text that had been asked before, letter by letter: pairs share members.", "",
        "## What a likeness threshold would have done", "",
        "Share of pairs with another answer that it would have reused all the same:", "",
        "| pairs | number | " + " | ".join(f"{threshold:.2f}" for threshold in THRESHOLDS) + " |",
        "|---" * (len(THRESHOLDS) + 2) + "|",
    ]
    for kind in kinds:
        own = [pair["likeness"] for pair in pairs if pair["kind"] == kind and not pair["same"]]
        cells = [share(sum(likeness >= threshold for likeness in own), len(own)) for threshold in THRESHOLDS]
        lines.append(f"| {kind} | {len(own)} | " + " | ".join(cells) + " |")
    lines += ["", "Share of paraphrases (same answer) that it would have answered:", "",
              "| pairs | number | " + " | ".join(f"{threshold:.2f}" for threshold in THRESHOLDS) + " |",
              "|---" * (len(THRESHOLDS) + 2) + "|"]
    for kind in kinds:
        own = [pair["likeness"] for pair in pairs if pair["kind"] == kind and pair["same"]]
        if own:
            cells = [share(sum(likeness >= threshold for likeness in own), len(own)) for threshold in THRESHOLDS]
            lines.append(f"| {kind} | {len(own)} | " + " | ".join(cells) + " |")
    lines += ["", "The most paraphrases that a threshold can answer, where of all that it answers no more than so many are wrong:", "",
              "| pairs | " + " | ".join(f"wrong <= {error:.0%}: threshold, answered" for error in ERRORS) + " |", "|---" * (len(ERRORS) + 1) + "|"]
    for kind in kinds:
        own = sorted((pair for pair in pairs if pair["kind"] == kind), key=lambda pair: -pair["likeness"])
        same = sum(pair["same"] for pair in own)
        if not same:
            continue
        cells = []
        for error in ERRORS:
            best, right = None, 0
            for at, pair in enumerate(own, 1):
                right += pair["same"]
                tied = at < len(own) and own[at]["likeness"] == pair["likeness"]
                if not tied and (at - right) / at <= error:
                    best = (pair["likeness"], right)
            cells.append(f"{best[0]:.3f}, {share(best[1], same)}" if best else "none")
        lines.append(f"| {kind} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("reprise", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--per-kind", type=int, default=500, help="hard pairs of each kind, at most")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    pairs = [*given_pairs(args.data), *hard_pairs(args.data, args.per_kind, args.seed)]
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as home:
        gateway = Gateway(args.reprise, Path(home), server.server_address[1])
        try:
            with ThreadPoolExecutor(CLIENTS) as clients:
                pairs = list(clients.map(lambda pair: play(gateway, pair), pairs))
        finally:
            gateway.stop()
    args.out.mkdir(parents=True, exist_ok=True)
    with (args.out / "raw.csv").open("w") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("kind", "id", "same", "likeness", "hit", "wrong"))
        for pair in pairs:
            wrong = pair["wrong"] + pair.get("first_wrong", False)
            writer.writerow((pair["kind"], pair["id"], int(pair["same"]), f"{pair['likeness']:.4f}", int(pair["hit"]), wrong))
    command = f"cache/bench/wrong_reuse.py DATA REPRISE OUT --per-kind {args.per_kind} --seed {args.seed}"
    text = summary(pairs, command, time.monotonic() - begun)
    (args.out / "summary.md").write_text(text)
    print(text)
    sys.exit(any(pair["wrong"] or pair.get("first_wrong") for pair in pairs))


if __name__ == "__main__":
    main()
