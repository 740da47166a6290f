"""Runs a bench's cells and keeps a row of each run in DIR/raw.csv: in slices, if there is no time for all at once."""

import argparse
import concurrent.futures
import csv
import dataclasses
import queue
import sys
import time

from report import FIELDS


@dataclasses.dataclass(frozen=True)
class Part:
    """Of so many parts of all cells one, from 0."""

    index: int
    count: int

    @classmethod
    def parse(cls, text):
        index, _, count = text.partition("/")
        if not (index.isdecimal() and count.isdecimal() and int(index) < int(count)):
            raise argparse.ArgumentTypeError(f"{text!r} is not I/N with I below N")
        return cls(int(index), int(count))

    def of(self, cells):
        return cells[self.index::self.count]


def add_part(parser):
    parser.add_argument("--part", type=Part.parse, default=Part(0, 1), metavar="I/N", help="of N parts of the cells the I-th, from 0")


def add_arguments(parser):
    parser.add_argument("--only", default="", help="cells whose names hold this text")
    parser.add_argument("--time-limit", type=float, metavar="SECONDS", help="begin no cell after that; the same command goes on where this one ended")


def known(path):
    """Names of the cells that the file has rows of."""
    if not path.exists():
        return set()
    with path.open(newline="") as file:
        return {row["cell"] for row in csv.DictReader(file)}


def run(args, cells, places, measure, rows_of=lambda cell: [cell[0]]):
    """Measures each cell (its name first) that the file lacks: `measure(cell, place)` gives its rows. One cell at a time on each place.
    `rows_of`: the names that a cell's rows have. Returns how many there were, and how many failed."""
    begun = time.monotonic()
    path = args.out / "raw.csv"
    there = known(path)
    wanted = [cell for cell in cells if args.only in cell[0] and not there.issuperset(rows_of(cell))]
    free = queue.Queue()
    for place in places:
        free.put(place)
    failed = left = 0

    def one(cell):
        place = free.get()
        try:
            if args.time_limit is not None and time.monotonic() - begun > args.time_limit:
                return None
            return measure(cell, place)
        finally:
            free.put(place)

    with path.open("a", newline="") as file, concurrent.futures.ThreadPoolExecutor(len(places)) as pool:
        writer = csv.DictWriter(file, FIELDS)
        if not file.tell():
            writer.writeheader()
        futures = {pool.submit(one, cell): cell[0] for cell in wanted}
        for future in concurrent.futures.as_completed(futures):
            name = futures[future]
            try:
                found = future.result()
                if found is None:
                    left += 1
                    continue
                writer.writerows(found)
                print(f"{time.monotonic() - begun:4.0f} s {name}", file=sys.stderr)
            except (RuntimeError, ValueError, KeyError) as error:
                failed += 1
                print(f"{name} failed: {error}", file=sys.stderr)
            file.flush()
    if left:
        print(f"{left} cells are left for another time", file=sys.stderr)
    return len(wanted) - left, failed
