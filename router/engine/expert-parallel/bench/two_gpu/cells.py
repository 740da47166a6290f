"""Which loads are measured on two GPUs, the most important first."""

# Layers that leave room for KV beside all experts on each GPU. Of OLMoE's shape all.
MIXTRAL_LAYERS = 8
# Loads of the experts: even, or falling by exp(-3) from the most to the least loaded, as was measured of random gates; both are drawn.
GATES = {"even": "--skew 0", "skewed": "--skew 3"}
LOADS = {"decode": "--workload decode --prefill-chunk 64", "mixed": "--workload medium --prefill-chunk 256"}
# Seconds: until the first sequences have ended contexts grow, and calls with them. Adaptive has looked at all others twice by then, and looks again.
MEASURED = "--seconds 1.25 --adaptive-seconds 2.5"
TIMES = {"": f"--warm-up-seconds 3 --adaptive-warm-up-seconds 5 {MEASURED}", "old": f"--warm-up-seconds 5 {MEASURED}"}
# Of schedules without a barrier on two GPUs, measured once; on one, all that there are.
FAR = "defrag,roofline"
ALL_FAR = "defrag,roofline,mtfs,flfs"
FAR_TIMES = "--warm-up-seconds 2.5 --seconds 1.25"
SMALL_TIMES = "--warm-up-seconds 0.5 --seconds 0.3"
WINDOW = "--control-window-seconds 0.05"
# Starting a run.
BESIDE = 0.2


def seconds(schedules, times):
    """That a call of the bench takes, loading left aside."""
    words = times.split()
    of = lambda flag, other: float(words[words.index(flag) + 1]) if flag in words else other
    others = of("--warm-up-seconds", 0), of("--seconds", 0)
    adaptive = of("--adaptive-warm-up-seconds", others[0]), of("--adaptive-seconds", others[1])
    return sum(BESIDE + sum(adaptive if name.startswith("adaptive") else others) for name in schedules.split(","))


def cell(name, model, gates, load, apart, sequences, devices, copies, picture=False):
    """`sequences` on all devices together. Copies of hot experts have a place only where both devices have experts, and a use where these are
    two processors."""
    one_gpu = len(set(devices.split(","))) == 1 and devices.startswith("cuda")
    roles = "--attention 1 " if apart else ""
    adaptive = "adaptive" if apart or one_gpu else f"adaptive+{copies}"
    near = f"lockstep,pingpong,{adaptive}" if apart else f"lockstep,lockstep+{copies},pingpong,{adaptive}"
    batch = sequences if apart else max(1, sequences // 2)
    flags = f"--model {model} --devices {devices} {roles}{gates} {load} --batch {batch} {WINDOW} --details --json"
    # Where a sequence lives for longer; of decode alone many are old from the first.
    is_decode = "--workload decode" in load
    times = TIMES["old" if one_gpu and not is_decode or sequences > 128 or "long" in load else ""]
    return {"name": name, "flags": " ".join(flags.split()), "near": near, "times": times, "far": ALL_FAR if one_gpu else FAR, "far_times": FAR_TIMES,
            "picture": picture, "sequences": sequences}


def of_model(name, model, devices, copies, loads=LOADS, gates=GATES, sequences=128, pictures=(), places=(False, True)):
    """`places`: with attention apart from the experts."""
    for load, load_flags in loads.items():
        for gate, gate_flags in gates.items():
            for apart in places:
                place = "1+1" if apart else "shared"
                whole = f"{name}-{place}-{gate}-{load}-{sequences}"
                yield cell(whole, model, gate_flags, load_flags, apart, sequences, devices, copies, (place, gate, load) in pictures)


def cells(devices, made, small=False):
    return small_cells(devices) if small else all_cells(devices, made)


def all_cells(devices, made):
    mixtral = f"random:mixtral-8x7b --layers {MIXTRAL_LAYERS}"
    olmoe = "random:olmoe-1b-7b"
    # Name, model, copies of hot experts.
    models = {
        "mixtral-top1": (f"{mixtral} --top-k 1", devices, 2), "mixtral-top2": (f"{mixtral} --top-k 2", devices, 2),
        "olmoe-top1": (f"{olmoe} --top-k 1", devices, 8), "olmoe-top2": (f"{olmoe} --top-k 2", devices, 8), "olmoe-top8": (olmoe, devices, 8),
    }
    pictures = {"mixtral-top1": {("shared", "skewed", "decode"), ("1+1", "skewed", "mixed")}, "olmoe-top1": {("shared", "skewed", "decode")}}
    first = devices.split(",")[0]
    decode, mixed = ({name: LOADS[name]} for name in ["decode", "mixed"])
    skewed, even = ({name: GATES[name]} for name in ["skewed", "even"])
    three = {name: f"--workload {name} --prefill-chunk 256" for name in ["short", "long"]}

    def of(name, **rest):
        return of_model(name, *models[name], pictures=pictures.get(name, ()), **rest)

    def on_one(name, model, copies, **rest):
        return of_model(f"one-gpu-{name}", model, f"{first},{first}", copies, **rest)

    # Coarse experts, one of them a token: what the paper is about. Its three workloads (mixed is its medium one).
    wanted = [*of("mixtral-top1", gates=skewed), *of("mixtral-top1", loads=decode, gates=even), *of("mixtral-top1", loads=three, gates=skewed)]
    # The real model; its own gates.
    for (experts, top_k), path in made.items():
        wanted += of_model(f"smollm2-{experts}x{top_k}", str(path), devices, 1, gates={"natural": ""}, sequences=64)
    for name in ["olmoe-top1", "mixtral-top2", "olmoe-top2"]:
        wanted += [*of(name, gates=skewed), *of(name, loads=decode, gates=even)]
    # Two streams of one GPU.
    for name in ["mixtral-top1", "olmoe-top1", "mixtral-top2", "olmoe-top2", "olmoe-top8"]:
        model, _, copies = models[name]
        gates = {"skewed": GATES["skewed"]} if name == "olmoe-top8" else {**GATES, "natural": ""}
        wanted += on_one(name, model, copies, gates=gates, places=[False])
        if name in ["mixtral-top1", "olmoe-top1", "olmoe-top8"]:
            wanted += on_one(name, model, copies, loads=decode, gates=skewed, places=[True])
    for (experts, top_k), path in made.items():
        wanted += on_one(f"smollm2-{experts}x{top_k}", str(path), 1, gates={"natural": ""}, sequences=64, places=[False])
    # Over load.
    for name in ["mixtral-top1", "olmoe-top1"]:
        for sequences in [16, 512]:
            wanted += of(name, loads=decode, gates=skewed, sequences=sequences)
    for name in ["olmoe-top2", "mixtral-top2"]:
        for sequences in [16, 512]:
            wanted += of(name, loads=decode, gates=skewed, sequences=sequences, places=[False])
    # The shape's own eight experts a token; what is left.
    wanted += of("olmoe-top8", loads=decode, gates={**GATES, "natural": ""})
    for name in models:
        wanted += of(name, loads=mixed, gates=even, places=[False])
    return wanted


def small_cells(devices):
    model = "random:olmoe-mini-8x1"
    found = list(of_model("mini-top1", model, devices, 2, gates={"skewed": GATES["skewed"]}, sequences=16,
                          pictures={("shared", "skewed", "decode")}))
    for one in found:
        one["times"] = one["far_times"] = SMALL_TIMES
    return found
