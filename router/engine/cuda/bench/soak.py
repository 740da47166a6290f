#!/usr/bin/env python3
"""A tier under random arrivals, cancels, long and short prompts: does it leak, and does load change what it says?

    soak.py --url http://127.0.0.1:8080 --model small --prompts prompts.jsonl --metrics http://127.0.0.1:8080/metrics [--seconds 480] [--rate 60]
            [--samples samples.jsonl] [--pid PID]

Open loop: requests arrive at --rate a second, greedy; a fifth is cancelled after a random time. Of those that end, some are kept and asked again
alone afterwards: the text must be the same; --samples keeps their prompts, for a replay on the CPU (`greedy`, `compare_greedy.py`). GPU memory
(nvidia-smi: of the process --pid every half minute, or of the GPU before and after) and the tier's share of KV are read.
"""

import argparse
import asyncio
import json
import random
import shutil
import subprocess
import time

import aiohttp


def gpu_memory(pid):
    """MiB of the process, or of the GPU."""
    if not shutil.which("nvidia-smi"):
        return None
    of_gpu, of_all = "--query-gpu=memory.used", "--query-compute-apps=pid,used_memory"
    out = subprocess.run(["nvidia-smi", of_all if pid else of_gpu, "--format=csv,noheader,nounits"], capture_output=True, text=True)
    rows = [line.split(", ") for line in out.stdout.splitlines()]
    return next((row[-1] for row in rows if not pid or row[0] == str(pid)), None)


async def watch_memory(pid, series):
    while True:
        series.append(await asyncio.to_thread(gpu_memory, pid))
        await asyncio.sleep(30)


async def kv_used(session, url):
    async with session.get(url) as response:
        lines = (await response.text()).splitlines()
    return [line for line in lines if not line.startswith("#") and ("kv" in line or "running" in line or "waiting" in line)][:8]


async def ask(session, options, content, tokens, cancel_after=None):
    body = {"model": options.model, "stream": True, "max_tokens": tokens, "temperature": 0, "messages": [{"role": "user", "content": content}]}
    text, begun = [], time.perf_counter()
    async with session.post(f"{options.url}/v1/chat/completions", json=body) as response:
        if response.status != 200:
            return response.status
        async for line in response.content:
            if cancel_after is not None and time.perf_counter() - begun > cancel_after:
                return None
            if line.startswith(b"data: {"):
                text += [choice["delta"].get("content") or "" for choice in json.loads(line[6:])["choices"]]
    return "".join(text)


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", default="http://127.0.0.1:8080")
    parser.add_argument("--metrics", default="http://127.0.0.1:8080/metrics")
    parser.add_argument("--model", default="small")
    parser.add_argument("--prompts", required=True)
    parser.add_argument("--seconds", type=float, default=480)
    parser.add_argument("--rate", type=float, default=60)
    parser.add_argument("--replay", type=int, default=50)
    parser.add_argument("--samples")
    parser.add_argument("--pid", type=int)
    options = parser.parse_args()
    prompts = [json.loads(line)["prompt"] for line in open(options.prompts, encoding="utf-8")]
    chance = random.Random(7)
    counts, kept, running = {"ended": 0, "cancelled": 0, "refused": 0, "failed": 0}, [], set()

    async def one(session):
        content = " ".join(chance.choice(prompts) for _ in range(chance.choice([1, 1, 1, 2, 4, 8, 32])))
        tokens = chance.choice([4, 16, 64, 200])
        cancel = chance.uniform(0.0, 0.5) if chance.random() < 0.2 else None
        try:
            answer = await ask(session, options, content, tokens, cancel)
        except (aiohttp.ClientError, asyncio.TimeoutError):
            counts["failed"] += 1
            return
        if isinstance(answer, str):
            counts["ended"] += 1
            if chance.random() < 0.2:
                kept.append((content, tokens, answer))
        else:
            counts["cancelled" if answer is None else "refused"] += 1

    connector, timeout = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout(total=120)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        await ask(session, options, prompts[0], 16)
        memory, begun = [], time.perf_counter()
        watch = asyncio.create_task(watch_memory(options.pid, memory))
        while time.perf_counter() - begun < options.seconds:
            task = asyncio.create_task(one(session))
            running.add(task)
            task.add_done_callback(running.discard)
            await asyncio.sleep(chance.expovariate(options.rate))
        await asyncio.gather(*running)
        await asyncio.sleep(1)
        watch.cancel()
        memory.append(gpu_memory(options.pid))
        state = await kv_used(session, options.metrics)
        different = 0
        replayed = kept[:: max(1, len(kept) // options.replay)][: options.replay]
        for content, tokens, answer in replayed:
            different += await ask(session, options, content, tokens) != answer
    if options.samples:
        with open(options.samples, "w", encoding="utf-8") as file:
            for i, (content, tokens, answer) in enumerate(replayed):
                file.write(json.dumps({"id": f"soak-{i}", "prompt": content, "tokens": tokens, "answer": answer}) + "\n")
    print(json.dumps({"seconds": options.seconds, "rate": options.rate, **counts, "gpu_mib": memory,
                      "metrics_after": state, "replayed_alone": len(replayed), "different": different}))


asyncio.run(main())
