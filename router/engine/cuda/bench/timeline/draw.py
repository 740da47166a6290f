#!/usr/bin/env python3
"""A picture of decode steps on the GPU, and how much of the time the GPU stood idle, from what `trace.c` wrote.

    draw.py trace.csv OUT.svg [--steps 10] [--gap-ms 50]

A step begins with the kernel `embed`. The steps drawn are those in the middle of the longest stretch of work without a pause of --gap-ms; the idle share is of
that whole stretch: time in which no kernel and no copy ran. Prints one line of JSON.
"""

import argparse
import csv
import json
from collections import defaultdict

KINDS = [
    ("products", "#4269d0", ("gemm", "gated")),
    ("attention", "#efb118", ("attention",)),
    ("rows", "#3ca951", ("rms_norm", "rotate", "join", "embed", "silu", "move_rows")),
    ("routing", "#ff725c", ("top_k", "group_parts", "route_few")),
    ("choice", "#a463f2", ("argmax", "choose", "sample")),
    ("copies", "#9498a0", ("copy", "mem")),
]


def kind(name):
    return next((i for i, (_, _, names) in enumerate(KINDS) if any(n in name for n in names)), len(KINDS) - 1)


def stretches(rows, gap):
    begin, end = 0, rows[0][2]
    for i, (_, start, stop) in enumerate(rows):
        if start - end > gap:
            yield begin, i
            begin = i
        end = max(end, stop)
    yield begin, len(rows)


def busy(rows):
    total, end = 0, rows[0][1]
    for _, start, stop in rows:
        total += max(0, stop - max(start, end))
        end = max(end, stop)
    return total, end - rows[0][1]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trace")
    parser.add_argument("svg")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--gap-ms", type=float, default=50)
    options = parser.parse_args()
    with open(options.trace, encoding="utf-8") as file:
        rows = sorted(((row["name"], int(row["start"]), int(row["end"])) for row in csv.DictReader(file) if row["end"]), key=lambda row: row[1])
    begin, end = max(stretches(rows, options.gap_ms * 1e6), key=lambda pair: rows[pair[1] - 1][2] - rows[pair[0]][1])
    rows = rows[begin:end]
    worked, wall = busy(rows)
    starts = [i for i, row in enumerate(rows) if row[0].startswith("embed")]
    middle = len(starts) // 2
    first, last = starts[middle], starts[min(middle + options.steps, len(starts) - 1)]
    drawn = rows[first:last]
    origin, width = drawn[0][1], drawn[-1][2] - drawn[0][1]
    by_kind = defaultdict(int)
    for name, start, stop in drawn:
        by_kind[KINDS[kind(name)][0]] += stop - start
    worked_here, _ = busy(drawn)
    left, lane, top, scale = 130, 30, 46, 1160 / width
    height = top + lane * len(KINDS) + 34
    svg = [f'<svg xmlns="http://www.w3.org/2000/svg" width="1320" height="{height}" viewBox="0 0 1320 {height}" font-family="system-ui, sans-serif" font-size="12">',
           '<rect width="100%" height="100%" fill="#fff"/>',
           f'<text x="{left}" y="20" font-size="14" font-weight="600">{options.steps} steps, {width / 1e6:.2f} ms; the GPU idle for {100 * (1 - worked_here / width):.1f} % of them</text>']
    for i, (label, color, _) in enumerate(KINDS):
        y = top + i * lane
        svg.append(f'<rect x="{left}" y="{y}" width="1160" height="{lane - 4}" fill="#f3f4f6"/><text x="8" y="{y + 17}">{label}</text>'
                   f'<text x="{left - 6}" y="{y + 17}" text-anchor="end" fill="#666">{by_kind[label] / 1e6:.2f} ms</text>')
    for name, start, stop in drawn:
        i = kind(name)
        svg.append(f'<rect x="{left + (start - origin) * scale:.2f}" y="{top + i * lane}" width="{max((stop - start) * scale, 0.15):.2f}" '
                   f'height="{lane - 4}" fill="{KINDS[i][1]}"><title>{name} {(stop - start) / 1e3:.1f} us</title></rect>')
    for i in starts[middle:middle + options.steps]:
        x = left + (rows[i][1] - origin) * scale
        svg.append(f'<path d="M{x:.2f} {top - 6}V{top + lane * len(KINDS)}" stroke="#111" stroke-width="0.6" stroke-dasharray="2 2"/>')
    for tick in range(6):
        x = left + 1160 * tick / 5
        svg.append(f'<text x="{x:.0f}" y="{height - 12}" text-anchor="middle" fill="#666">{width * tick / 5 / 1e6:.2f} ms</text>')
    svg.append("</svg>")
    with open(options.svg, "w", encoding="utf-8") as file:
        file.write("\n".join(svg))
    print(json.dumps({"seconds": wall / 1e9, "steps": len(starts), "idle_share": round(1 - worked / wall, 4), "drawn_ms": width / 1e6,
                      "idle_share_of_drawn": round(1 - worked_here / width, 4), "ms_by_kind": {k: round(v / 1e6, 3) for k, v in by_kind.items()}}))


main()
