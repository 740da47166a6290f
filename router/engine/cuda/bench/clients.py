#!/usr/bin/env python3
"""Time to first token and inter-token latency of streamed chat completions at several numbers of concurrent clients.

    clients.py --url http://127.0.0.1:8080 --model small --prompts prompts.jsonl [--clients 1,16,64,256] [--seconds 15] [--tokens 64] [--salt TEXT]

Closed loop: each client sends its next request when the last has ended. `prompts.jsonl`: {"prompt"}. No two requests of a run are the same; --salt
sets those of several runs apart, so that none is answered from the cache. One CSV line for each number of clients; times in milliseconds.
"""

import argparse
import asyncio
import json
import time

import aiohttp


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(share * len(values)))] if values else float("nan")


async def client(session, options, prompts, start, until, found):
    at = start
    while time.perf_counter() < until:
        body = {"model": options.model, "stream": True, "max_tokens": options.tokens, "temperature": options.temperature,
                "messages": [{"role": "user", "content": f"{prompts[at % len(prompts)]} ({options.salt}{found['asked']})"}]}
        at, found["asked"] = at + 1009, found["asked"] + 1
        begun, last = time.perf_counter(), None
        try:
            async with session.post(f"{options.url}/v1/chat/completions", json=body) as response:
                if response.status != 200:
                    found["errors"][response.status] = found["errors"].get(response.status, 0) + 1
                    await asyncio.sleep(0.05)
                    continue
                async for line in response.content:
                    if not line.startswith(b"data: {"):
                        continue
                    if not any(choice["delta"].get("content") for choice in json.loads(line[6:])["choices"]):
                        continue
                    now = time.perf_counter()
                    (found["first"] if last is None else found["between"]).append(1e3 * (now - (last or begun)))
                    last = now
                    found["tokens"] += 1
        except aiohttp.ClientError as error:
            name = type(error).__name__
            found["errors"][name] = found["errors"].get(name, 0) + 1
        found["requests"] += 1


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", default="http://127.0.0.1:8080")
    parser.add_argument("--model", default="small")
    parser.add_argument("--prompts", required=True)
    parser.add_argument("--clients", default="1,16,64,256")
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--temperature", type=float, default=0.0)
    parser.add_argument("--salt", default="")
    options = parser.parse_args()
    prompts = [json.loads(line)["prompt"] for line in open(options.prompts, encoding="utf-8")]
    print("model,clients,requests,tokens_per_second,first_p50_ms,first_p99_ms,between_p50_ms,between_p99_ms,errors")
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=120)) as session:
        asked = 0
        for clients in map(int, options.clients.split(",")):
            found = {"first": [], "between": [], "tokens": 0, "requests": 0, "errors": {}, "asked": asked}
            begun = time.perf_counter()
            until = begun + options.seconds
            await asyncio.gather(*(client(session, options, prompts, 31 * i, until, found) for i in range(clients)))
            seconds, asked = time.perf_counter() - begun, found["asked"]
            numbers = [percentile(found["first"], 0.5), percentile(found["first"], 0.99), percentile(found["between"], 0.5),
                       percentile(found["between"], 0.99)]
            print(f"{options.model},{clients},{found['requests']},{found['tokens'] / seconds:.0f},"
                  + ",".join(f"{x:.2f}" for x in numbers) + f",{json.dumps(found['errors']).replace(',', ';')}", flush=True)


asyncio.run(main())
