"""What `turns_report` tells of turns whose speeds are known."""

import argparse
import math
import random

import pytest
from slices import Part
from turns_report import Estimate, estimate, together

# Turns of a sweep, adaptive's before each of another, and of a turn's logarithm the standard deviation.
TURNS = 22
NOISE = 0.04
GAIN = math.log(1.05)


def turn(scheduler, sweep, at, log, pingpong):
    shares = {"pingpong_share": pingpong, "free_share": 0, "defrag_share": 0, "copies_share": 1}
    return {"scheduler": scheduler, "sweep": sweep, "at_s": at, "seconds": 0.25, "tokens": 0.25 * math.exp(log), "prompt_rows": 0, **shares}


def cell(seed, pingpong, mixed, noise=(NOISE, NOISE)):
    """Turns, and what adaptive was worth of ping-pong, which is the best. `pingpong`: of adaptive's turns so many were in it, and `mixed` tried both. `noise`: of each
    sweep."""
    chance = random.Random(seed)
    turns, did = [], []
    for sweep, spread in enumerate(noise):
        level, trend = chance.gauss(9, 0.05), chance.gauss(0, 0.05)
        for index in range(TURNS):
            if index % 2 == 0:
                name, share = "adaptive", 0.4 if chance.random() < mixed else float(chance.random() < pingpong)
                did.append(GAIN * share)
            else:
                name = ["lockstep", "pingpong"][index // 2 % 2]
                share = float(name == "pingpong")
            log = level + trend * index / TURNS + GAIN * share + chance.gauss(0, spread)
            turns.append(turn(name, sweep, 0.35 * index, log, share))
    return turns, math.exp(sum(did) / len(did) - GAIN)


@pytest.mark.parametrize("pingpong", [0, 0.5, 0.9])
def test_the_interval_holds_what_adaptive_was_worth(pingpong):
    held, ratios = 0, []
    for seed in range(200):
        turns, true = cell(seed, pingpong, mixed=0.1)
        found = estimate(turns)
        held += abs(found.ratio - true) <= found.doubt
        ratios.append(found.ratio / true)
    assert held >= 184
    assert abs(sum(ratios) / len(ratios) - 1) < 0.005


def test_the_interval_over_lockstep_holds_what_a_schedule_gains():
    """Also of one that takes turns with lock-step alone, in a sweep of its own."""
    held = {"pingpong": 0, "defrag": 0}
    for seed in range(200):
        turns, _ = cell(seed, pingpong=0.5, mixed=0.1)
        chance = random.Random(1000 + seed)
        level = chance.gauss(9, 0.05)
        for index in range(6):
            name = ["lockstep", "defrag"][index % 2]
            turns.append(turn(name, "far", 0.35 * index, level - (name == "defrag") + chance.gauss(0, NOISE), 0))
        over = estimate(turns).over_lockstep
        for name, log in [("pingpong", GAIN), ("defrag", -1)]:
            ratio, doubt = over[name]
            held[name] += abs(ratio - math.exp(log)) <= doubt
    assert over.keys() == held.keys()
    # Of six turns, three of them of lock-step.
    assert held["pingpong"] >= 184 and held["defrag"] >= 180 and doubt < 0.1, held


def test_turns_of_a_restless_sweep_count_for_less():
    """The interval holds still, and is little wider than that of the calm sweeps alone; were all alike it would be three times as wide."""
    held, wider = 0, []
    for seed in range(200):
        turns, true = cell(seed, pingpong=0.5, mixed=0.1, noise=[0.02, 0.02, 0.12])
        found, calm = estimate(turns), estimate([turn for turn in turns if turn["sweep"] < 2])
        held += abs(found.ratio - true) <= found.doubt
        wider.append(found.doubt / calm.doubt)
    assert held >= 184
    assert sum(wider) / len(wider) < 1.5


def test_what_all_cells_tell_holds_what_each_is_worth():
    """Cells whose ratios differ by less than what is measured of each is off by: intervals of all together hold nearly as many as they say, and are far narrower."""
    held = own_width = width = mean_held = 0
    for seed in range(100):
        chance = random.Random(seed)
        found, true = [], []
        for _ in range(60):
            error = chance.uniform(0.004, 0.02)
            true.append(math.exp(chance.gauss(-0.01, 0.005)))
            ratio = true[-1] * math.exp(chance.gauss(0, error))
            found.append(Estimate({}, {}, {"adaptive": 10}, 0, 0, "lockstep", ratio, 1.96 * error * ratio, 0))
        (mean, doubt), _, cells = together(found)
        mean_held += abs(mean - math.exp(-0.01)) <= doubt
        for one, (ratio, interval), is_worth in zip(found, cells, true):
            held += abs(ratio - is_worth) <= interval
            own_width, width = own_width + one.doubt, width + interval
    # Of 95 in a hundred they hold 92: how much cells differ is not known.
    assert held >= 0.91 * 6000 and mean_held >= 88, (held, mean_held)
    assert width < 0.5 * own_width


def test_who_did_just_what_the_best_does_is_as_fast():
    turns, _ = cell(seed=3, pingpong=1, mixed=0)
    found = estimate(turns)
    assert (found.best, found.ratio, found.doubt) == ("pingpong", 1, 0)


def test_what_too_few_turns_tell_is_nothing():
    turns, _ = cell(seed=3, pingpong=1, mixed=0)
    assert estimate([]) is None
    assert estimate(turns[:2]) is None
    assert estimate([one for one in turns if one["scheduler"] != "adaptive"]) is None


def test_parts_are_all_cells_once():
    cells = list(range(7))
    assert sorted(Part.parse("0/2").of(cells) + Part.parse("1/2").of(cells)) == cells
    for wrong in ["2/2", "x/2", "1", "-1/2", ""]:
        with pytest.raises(argparse.ArgumentTypeError):
            Part.parse(wrong)
