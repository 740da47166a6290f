"""What schedules are called in tables, and what the simulator predicts of a measured cell."""

import json
import subprocess
import sys


def general(scheduler):
    """Whatever the number of copies; adaptive may do without."""
    name, copies, _ = scheduler.partition("+")
    return f"{name}+N" if copies and not is_adaptive(name) else name


def is_adaptive(scheduler):
    return scheduler.startswith("adaptive")


def simulate(binary, report, folder, at):
    """Throughput by schedule; none: it cannot be simulated without the model."""
    flags = report["flags"].split()
    model = flags[flags.index("--model") + 1]
    if report["gates"] == "natural":
        return {}
    profile = folder / f"{at}.json"
    profile.write_text(json.dumps(report["profile"]))
    names = {"random:mixtral-8x7b": "mixtral-8x7b", "random:olmoe-1b-7b": "olmoe-1b-7b"}
    flags[flags.index("--model") + 1] = names.get(model, model)
    # Each is simulated alone.
    if "--turn-seconds" in flags:
        at = flags.index("--turn-seconds")
        del flags[at:at + 2]
    command = [binary, "bench", "expert-parallel", "--simulate", "--profile", str(profile), *flags]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        print(f"{report['cell']}: {done.stderr[-400:]}", file=sys.stderr)
        return {}
    return {general(run["scheduler"]): run["tokens_per_second"] for run in json.loads(done.stdout)["runs"]}
