#!/usr/bin/env python3
"""Fits the router's prior (`router/src/bandit/prior.rs`) to the answers of a run.

  prior_fit.py RUN/outcomes.csv.xz [--arm prior-5] [--pool references]

Least squares over the answers without examples and with those of one arm and pool, of the two tiers together:

    score = a + b r + (c + d r) z        r: 0 the small tier, 1 the large one; z = 2 similarity of the nearest - 1, 0 where none is shown

Prints the coefficients of each split, and the error of each split's answers under those of `train` and under what the code holds.
"""

import argparse
import csv
import lzma
import pathlib
import re

PRIOR = pathlib.Path(__file__).parents[2] / "router/src/bandit/prior.rs"


def rows(path, arm, pool):
    """Per split: (features, score)."""
    found = {}
    with lzma.open(path, "rt", newline="") as file:
        for row in csv.DictReader(file):
            shows = row["arm"] == arm and row["pool"] == pool
            if not shows and row["arm"] != "plain":
                continue
            r = float(row["tier"] == "large")
            z = 2 * float(row["nearest"]) - 1 if shows and int(row["shown"]) else 0.0
            found.setdefault(row["split"], []).append(((1.0, r, z, r * z), float(row["score"])))
    # A split that was never shown an example of this pool tells nothing of examples.
    return {split: of for split, of in found.items() if any(x[2] for x, _ in of)}


def least_squares(rows):
    """Gauss's elimination of the normal equations."""
    size = len(rows[0][0])
    table = [[sum(x[i] * x[j] for x, _ in rows) for j in range(size)] + [sum(x[i] * y for x, y in rows)] for i in range(size)]
    for at in range(size):
        pivot = max(range(at, size), key=lambda row: abs(table[row][at]))
        table[at], table[pivot] = table[pivot], table[at]
        for row in range(size):
            if row != at:
                factor = table[row][at] / table[at][at]
                table[row] = [a - factor * b for a, b in zip(table[row], table[at])]
    return [table[at][size] / table[at][at] for at in range(size)]


def error(rows, weights):
    squares = [(sum(w * v for w, v in zip(weights, x)) - y) ** 2 for x, y in rows]
    return (sum(squares) / len(squares)) ** 0.5


def in_the_code():
    text = PRIOR.read_text()
    names = ("BASE", "BASE_GAIN", "LIFT", "LIFT_GAIN")
    return [float(re.search(rf"^const {name}: f64 = ([-0-9.]+);", text, re.M)[1]) for name in names]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("outcomes", type=pathlib.Path)
    parser.add_argument("--arm", default="prior-5")
    parser.add_argument("--pool", default="references")
    args = parser.parse_args()
    splits = rows(args.outcomes, args.arm, args.pool)
    fits = {split: least_squares(found) for split, found in splits.items()}
    print("| split | answers | a, b, c, d | error, fitted to it | under train's | under the code's |")
    print("|---|---|---|---|---|---|")
    for split, found in splits.items():
        errors = [error(found, weights) for weights in (fits[split], fits.get("train", fits[split]), in_the_code())]
        numbers = ", ".join(f"{weight:.3f}" for weight in fits[split])
        print(f"| {split} | {len(found)} | {numbers} | " + " | ".join(f"{one:.4f}" for one in errors) + " |")


if __name__ == "__main__":
    main()
