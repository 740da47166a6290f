#!/usr/bin/env python3
"""Tables of runs of `turns.py`, as Markdown on standard output.

  turns_report.py DIR.. [--reprise BINARY [--dense FILE.gguf] [--turnaround-us US]]

With --reprise each cell is simulated too, over the times of calls that it measured of its own devices: predictions.csv in the first folder.
--dense: the small model's, of which mixtures were measured too. --turnaround-us: from a sequence's last token to the next request, of runs that did not measure it.
"""

import argparse
import csv
import dataclasses
import math
import pathlib
import statistics
import sys

from predict import compare, general, is_adaptive, simulate_all, whole

# Adaptive is below the best where it is at less than this share of it.
GOAL = 0.98
# Beside sums of squares of about 1.
TINY = 1e-9
# Turns, as restless as usual, that count beside a sweep's own.
SUPPOSED = 8
# By which cells may differ: standard deviations of logarithms.
DEVIATIONS = [5e-4 * step for step in range(101)]
# Of a turn: so much of it is all of it.
WHOLE = 0.999
ORDER = ["lockstep", "lockstep+N", "pingpong", "roofline", "defrag"]


@dataclasses.dataclass
class Estimate:
    """Of a cell. Speeds in tokens per second, prompts' rows counted as so many tokens each, and over lock-step's with half of the 95 % interval; ratio of
    adaptive's to the best of the others."""

    speeds: dict
    over_lockstep: dict
    turns: dict
    prompt_row: float
    # Standard deviation of a turn, as a share.
    spread: float
    best: str
    ratio: float
    # Half of the 95 % interval: of what was measured of what adaptive did in its turns.
    doubt: float
    # Variance, of a logarithm, by which what it did in them differed in worth.
    restless: float

    def __str__(self):
        others = ", ".join(f"{name} {speed:,.0f}" for name, speed in self.speeds.items())
        return f"{self.ratio:.3f} ± {self.doubt:.3f} of {self.best}; {others}"


def work(turn, prompt_row):
    """The logarithm of a turn's speed; none: nothing came out."""
    seconds, tokens, prompt = (float(turn[field]) for field in ["seconds", "tokens", "prompt_rows"])
    done = tokens + prompt_row * prompt
    return math.log(done / seconds) if seconds > 0 and done > 0 else None


def did(turn, has_copies):
    """The schedule that does just what this turn did: an adaptive one's that kept to one mode adds to what is known of the schedule that is this mode. One
    that tried others is `adaptive`."""
    if not is_adaptive(turn["scheduler"]):
        return general(turn["scheduler"])
    of = {mode: float(turn[f"{mode}_share"]) for mode in ["pingpong", "free", "defrag"]}
    of["lockstep"] = 1 - sum(of.values())
    copies = float(turn["copies_share"]) if has_copies else 0
    mode = max(of, key=of.get)
    if of[mode] < WHOLE or WHOLE > copies > 1 - WHOLE:
        return "adaptive"
    return {"free": "roofline"}.get(mode, mode) + ("+N" if copies >= WHOLE else "")


def within(groups):
    """Squares of what values differ from the mean of their group."""
    return sum((value - statistics.fmean(of)) ** 2 for of in groups.values() for value in of)


def grouped(keys, values):
    groups = {}
    for key, value in zip(keys, values):
        groups.setdefault(key, []).append(value)
    return groups


def inverse(matrix):
    """Of a positive definite one, by Gauss and Jordan."""
    size = len(matrix)
    rows = [[*row, *(float(i == j) for j in range(size))] for i, row in enumerate(matrix)]
    for at in range(size):
        pivot = max(range(at, size), key=lambda i: abs(rows[i][at]))
        rows[at], rows[pivot] = rows[pivot], rows[at]
        rows[at] = [value / rows[at][at] for value in rows[at]]
        for i in range(size):
            if i != at and rows[i][at]:
                rows[i] = [value - rows[i][at] * own for value, own in zip(rows[i], rows[at])]
    return [row[size:] for row in rows]


def dot(one, other):
    return sum(a * b for a, b in zip(one, other))


def least_squares(rows, values):
    """Coefficients, the inverse of the normal equations' matrix, and the residuals. What turns do not tell, as the trend of a sweep of one turn, is 0."""
    columns = list(zip(*rows))
    inverted = inverse([[dot(one, other) + TINY * (i == j) for j, other in enumerate(columns)] for i, one in enumerate(columns)])
    right = [dot(column, values) for column in columns]
    found = [dot(row, right) for row in inverted]
    return found, inverted, [value - dot(row, found) for row, value in zip(rows, values)]


def calm(sweeps, residuals):
    """Of each turn the inverse of its sweep's spread, over that of a usual one: hosts and hours differ in how much turns do."""
    squares = grouped(sweeps, [residual**2 for residual in residuals])
    usual = math.exp(statistics.fmean(math.log(max(statistics.fmean(own), TINY**2)) for own in squares.values()))
    of = {sweep: (sum(own) + SUPPOSED * usual) / (len(own) + SUPPOSED) for sweep, own in squares.items()}
    return [(usual / of[sweep]) ** 0.5 for sweep in sweeps]


def design(turns, doing, names):
    """Of each turn what it did, but for the first of the names, whose is in the levels; and of its sweep a level and a trend: what the machine does for longer than
    a turn is in these."""
    sweeps = {}
    for turn in turns:
        sweeps.setdefault(turn["sweep"], []).append(float(turn["at_s"]))
    centre = {sweep: (statistics.fmean(at), max(at) - min(at) or 1) for sweep, at in sweeps.items()}
    rows = []
    for turn, one in zip(turns, doing):
        middle, long = centre[turn["sweep"]]
        own = [float(turn["sweep"] == sweep) for sweep in sweeps]
        trend = [is_own * (float(turn["at_s"]) - middle) / long for is_own in own]
        rows.append([float(one == name) for name in names[1:]] + own + trend)
    return rows


def estimate(turns):
    """None: it cannot be told. A row of a prompt counts as that share of a token by which turns that did the same differ least: what comes of prompts by
    chance must not count as speed."""
    turns = [turn for turn in turns if work(turn, 1) is not None and work(turn, 0) is not None]
    has_copies = any("+" in turn["scheduler"] for turn in turns)
    doing = [did(turn, has_copies) for turn in turns]
    of_share = lambda share: [work(turn, share) for turn in turns]
    prompt_row = min((step / 20 for step in range(21)), key=lambda share: within(grouped(doing, of_share(share))))
    values = of_share(prompt_row)
    by_schedule = grouped((general(turn["scheduler"]) for turn in turns), values)
    others = [name for name in by_schedule if not is_adaptive(name)]
    if not others or len(others) == len(by_schedule):
        return None
    names = sorted({*doing}, key=lambda name: (name not in others, name))
    rows = design(turns, doing, names)
    if len(rows) <= len(rows[0]):
        return None
    freedom = len(rows) - len(rows[0])
    spread_of = lambda residuals: (dot(residuals, residuals) / freedom) ** 0.5
    *_, residuals = least_squares(rows, values)
    weights = calm([turn["sweep"] for turn in turns], residuals)
    weighted = [[weight * value for value in row] for weight, row in zip(weights, rows)]
    found, inverted, weighted_residuals = least_squares(weighted, [weight * value for weight, value in zip(weights, values)])
    effects = dict(zip(names, [0.0, *found]))
    best = max(others, key=effects.get)
    # Student's t at 95 %, to a hundredth from five degrees of freedom on.
    student = 1.96 + 2.8 / freedom

    def ratio_of(contrast):
        """Of such a sum of effects, and half of its interval."""
        padded = [*contrast[1:], *([0.0] * (len(found) - len(names) + 1))]
        variance = max(0.0, dot(padded, [dot(row, padded) for row in inverted]))
        ratio = math.exp(dot(contrast, effects.values()))
        return ratio, ratio * student * spread_of(weighted_residuals) * variance**0.5

    # What adaptive did, over the best.
    own = [one for turn, one in zip(turns, doing) if is_adaptive(turn["scheduler"])]
    restless = statistics.pvariance([effects[one] for one in own])
    ratio, doubt = ratio_of([own.count(name) / len(own) - (name == best) for name in names])
    over = {name: ratio_of([(of == name) - (of == "lockstep") for of in names]) for name in others if "lockstep" in others and name != "lockstep"}
    # Without those that had no turns with lock-step, nor with anyone who had.
    over = {name: (ratio, doubt) for name, (ratio, doubt) in over.items() if doubt < ratio}
    speeds = {name: math.exp(statistics.fmean(of)) for name, of in by_schedule.items()}
    return Estimate(speeds, over, {name: len(of) for name, of in by_schedule.items()}, prompt_row, spread_of(residuals), best, ratio, doubt, restless)


def together(found):
    """What all cells tell of each, as of effects from one normal distribution, of which nothing is known before (Gelman et al., Bayesian Data Analysis, 5.4): the mean ratio
    and half of its interval, by how much cells differ (standard deviation, as a share), and each cell's ratio and half of its interval. What is by chance in a
    cell counts for less the more there is of it."""
    restless = statistics.fmean(of.restless for of in found)
    logs = [math.log(of.ratio) for of in found]
    # In other turns it would have done otherwise.
    squares = [(of.doubt / of.ratio / 1.96) ** 2 + restless / of.turns["adaptive"] + TINY for of in found]
    given = [given_deviation(deviation, logs, squares) for deviation in DEVIATIONS]
    most = max(likely for likely, _ in given)
    likely = [math.exp(one - most) for one, _ in given]
    total = sum(likely)

    def mixed(moments):
        """Mean and variance over all deviations."""
        mean = dot(likely, [mean for mean, _ in moments]) / total
        return mean, dot(likely, [variance + (one - mean) ** 2 for one, variance in moments]) / total

    def interval(moments):
        mean, variance = mixed(moments)
        return math.exp(mean), math.exp(mean) * 1.96 * variance**0.5

    # The distribution's mean, and then each cell's.
    mean, *cells = [interval(moments) for moments in zip(*(moments for _, moments in given))]
    return mean, dot(likely, DEVIATIONS) / total, cells


def given_deviation(deviation, logs, squares):
    """If cells differ by so much: the logarithm of how likely what was measured is, and mean and variance of the distribution's mean and of each cell."""
    weights = [1 / (square + deviation**2) for square in squares]
    mean, of_mean = dot(weights, logs) / sum(weights), 1 / sum(weights)
    likely = 0.5 * (math.log(of_mean) + sum(math.log(weight) - weight * (log - mean) ** 2 for weight, log in zip(weights, logs)))
    moments = [(mean, of_mean)]
    for log, square in zip(logs, squares):
        own = deviation**2 / (deviation**2 + square)
        moments.append((own * log + (1 - own) * mean, own * square + (1 - own) ** 2 * of_mean))
    return likely, moments


def read(folders):
    """Turns by cell."""
    cells = {}
    for folder in folders:
        with (folder / "turns.csv").open() as file:
            for row in csv.DictReader(file):
                # Each folder's sweeps are its own.
                cells.setdefault(row["cell"], []).append({**row, "sweep": f"{folder} {row['sweep']}"})
    return cells


def shares(turns):
    """What adaptive did, in percent of its time."""
    own = [turn for turn in turns if is_adaptive(turn["scheduler"])]
    mean = lambda field: 100 * statistics.fmean(float(turn[field]) for turn in own)
    of = {"ping-pong": mean("pingpong_share"), "roofline": mean("free_share"), "defrag": mean("defrag_share")}
    of = {"lock-step": 100 - sum(of.values()), **of}
    if any("+" in turn["scheduler"] for turn in own):
        of["with copies"] = mean("copies_share")
    return ", ".join(f"{name} {share:.0f}" for name, share in of.items() if share >= 0.5)


def throughput(cells):
    found = {cell: estimate(turns) for cell, turns in cells.items()}
    print("| cell | lockstep, tokens/s | " + " | ".join(ORDER[1:]) + " | adaptive / best | turns | a turn's spread | a prompt's row | adaptive's time, % |")
    print("|---|---|" + "---|" * (len(ORDER) + 4))
    for cell, of in found.items():
        if of is None:
            continue
        base = of.speeds.get("lockstep")
        ratios = ["{:.3f} ± {:.3f}".format(*of.over_lockstep[name]) if name in of.over_lockstep else "" for name in ORDER[1:]]
        speed = f"{base:,.0f}" if base else ""
        print(f"| {cell} | {speed} | " + " | ".join(ratios) + f" | {of.ratio:.3f} ± {of.doubt:.3f}, {of.best} | {of.turns['adaptive']} + "
              f"{of.turns[of.best]} | {100 * of.spread:.1f} % | {of.prompt_row:.2f} | {shares(cells[cell])} |")
    told = [of for of in found.values() if of]
    if not told:
        sys.exit("no cell can be told")
    at_least = [of for of in told if of.ratio - of.doubt >= GOAL]
    below = [of for of in told if of.ratio + of.doubt < GOAL]
    by_point = [of for of in told if of.ratio < GOAL]
    logs = [math.log(of.ratio) for of in told]
    mean = 1.96 * statistics.stdev(logs) / len(logs) ** 0.5 if len(logs) > 1 else float("nan")
    print(f"\nColumns between: ratio to lockstep. Turns: of adaptive and of the best. A prompt's row counts as that share of a token. "
          "By least squares over all turns of a cell, each by its sweep's spread, of what each did, with a level and a trend for each sweep; one of adaptive's that kept to one mode counts "
          f"as one of the schedule that is this mode. Intervals: 95 %.\n\nAdaptive over the best of the others in {len(told)} cells: at least {GOAL} beyond its interval in "
          f"{len(at_least)}, below it beyond its interval in {len(below)}, by its point estimate in {len(by_point)}; least {min(of.ratio for of in told):.3f}, "
          f"median {statistics.median(of.ratio for of in told):.3f}, geometric mean {math.exp(statistics.fmean(logs)):.3f} ± {mean:.3f}.\n")
    (mean, doubt), between, of_all = together(told)
    least, names = min(of_all), [cell for cell, of in found.items() if of]
    sure = sum(ratio - doubt >= GOAL for ratio, doubt in of_all)
    print(f"All cells together, as effects from one distribution, so that chance counts for less: mean {mean:.3f} ± {doubt:.3f}, from which cells differ by "
          f"{100 * between:.1f} % (a standard deviation). By that {sure} of {len(told)} are at {GOAL} and more beyond their intervals; the least is "
          f"{names[of_all.index(least)]} at {least[0]:.3f} ± {least[1]:.3f}.\n")


def latency(reports):
    """Of a schedule's turns of all sweeps together, each by how many there were."""
    sums = {}
    for report in reports:
        turns = [turn["scheduler"] for turn in report["turns"]]
        for scheduler, of in report["inter_token_ms"].items():
            for field in ["p50", "p99"]:
                add(sums.setdefault(report["cell"], {}), (general(scheduler), field), of[field] * turns.count(scheduler), turns.count(scheduler))
    names = [name for name in [*ORDER, "adaptive"] if any((name, "p50") in of for of in sums.values())]
    print("Milliseconds between two tokens of a sequence, p50 (p99).\n\n| cell | " + " | ".join(names) + " |\n|---|" + "---|" * len(names))
    for cell, of in means(sums).items():
        row = [f"{of[name, 'p50']:.2f} ({of[name, 'p99']:.1f})" if (name, "p50") in of else "" for name in names]
        print(f"| {cell} | " + " | ".join(row) + " |")
    print()


def add(sums, name, tokens, seconds):
    of = sums.setdefault(name, [0, 0])
    of[0] += tokens
    of[1] += seconds


def means(sums):
    """Tokens per second by cell and schedule."""
    return {cell: {name: tokens / seconds for name, (tokens, seconds) in of.items() if seconds} for cell, of in sums.items()}


def measured(cells):
    """Tokens per second by cell and schedule, of all turns together."""
    sums = {}
    for cell, turns in cells.items():
        of = sums.setdefault(cell, {})
        for turn in turns:
            add(of, general(turn["scheduler"]), float(turn["tokens"]), float(turn["seconds"]))
    return means(sums)


def predictions(binary, dense, folders, reports, cells):
    """Of each sweep over the times of calls that it measured itself; a cell's is the mean of its sweeps', as what was measured is."""
    # By cell and schedule: tokens, and seconds of its turns.
    sums = {}
    for report, speeds in zip(reports, simulate_all(binary, reports, dense)):
        of = sums.setdefault(report["cell"], {})
        for turn in report["turns"]:
            name = general(turn["scheduler"])
            if name in speeds:
                add(of, name, speeds[name] * turn["seconds"], turn["seconds"])
    compare(folders[0] / "predictions.csv", means(sums), measured(cells), [*ORDER, "adaptive"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=pathlib.Path, nargs="+")
    parser.add_argument("--reprise")
    parser.add_argument("--dense", type=pathlib.Path)
    parser.add_argument("--turnaround-us", type=float, default=0, metavar="US")
    args = parser.parse_args()
    cells = read(args.run)
    reports = whole(args.run)
    for report in reports:
        report["profile"].setdefault("turnaround_us", args.turnaround_us)
    throughput(cells)
    latency(reports)
    if args.reprise:
        predictions(args.reprise, args.dense, args.run, reports, cells)


if __name__ == "__main__":
    main()
