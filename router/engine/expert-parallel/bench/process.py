"""A process that measures cells, the models that it is given, the machine, and a log of all."""

import json
import os
import pathlib
import platform
import queue
import shutil
import subprocess
import sys
import threading
import time

# Seconds until an answer, loading a model and compiling kernels included.
FIRST_CELL = 120
CELL = 60


def environment():
    found = dict(os.environ)
    # Where images with CUDA keep NVRTC.
    for folder in sorted(pathlib.Path("/usr/local").glob("cuda*/targets/x86_64-linux/lib"), reverse=True):
        found["LD_LIBRARY_PATH"] = ":".join(filter(None, [found.get("LD_LIBRARY_PATH"), str(folder)]))
    found.setdefault("HOME", "/tmp")
    return found


class Log:
    """What goes to the screen goes to machine.txt too."""

    def __init__(self, path):
        self.file = path.open("w")
        self.begun = time.monotonic()

    def __call__(self, text):
        line = f"{time.monotonic() - self.begun:6.1f} s  {text}"
        print(line, flush=True)
        print(line, file=self.file, flush=True)

    def raw(self, text):
        print(text.rstrip(), file=self.file, flush=True)


def describe(log, reprise):
    log.raw(f"{time.strftime('%Y-%m-%d')}: {' '.join(sys.argv)}")
    log.raw(f"{platform.platform()}, {os.cpu_count()} cores")
    for command in [["nvidia-smi", "-L"], ["nvidia-smi", "topo", "-m"],
                    ["nvidia-smi", "--query-gpu=name,driver_version,memory.total,clocks.sm,clocks.max.sm,power.limit", "--format=csv"],
                    [reprise, "--version"]]:
        if shutil.which(command[0]):
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment())
            log.raw(f"$ {' '.join(command)}\n{done.stdout}{done.stderr}")


class Bench:
    """A process that measures cell after cell, and keeps the model of the last."""

    def __init__(self, reprise, cell=CELL):
        """`cell`: seconds that it may take for one after the first."""
        self.cell = cell
        self.command = [reprise, "bench", "expert-parallel", "--cells"]
        self.process = None

    def start(self, errors):
        self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment())
        self.answers = queue.Queue()
        threading.Thread(target=self.read, args=(self.process.stdout, self.answers), daemon=True).start()

    @staticmethod
    def read(stream, answers):
        for line in stream:
            answers.put(line)
        answers.put(None)

    def measure(self, line, seconds, errors):
        """The report; one with an `error` if it has none."""
        first = self.process is None
        if first:
            self.start(errors)
        try:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
            answer = self.answers.get(timeout=max(5, min(seconds, FIRST_CELL if first else self.cell)))
        except queue.Empty:
            self.stop()
            return {"error": "no answer in time"}
        except OSError as error:
            answer = None
            print(error, file=sys.stderr)
        if answer is None:
            code = self.process.wait()
            self.process = None
            return {"error": f"the process ended with {code}"}
        try:
            return json.loads(answer)
        except ValueError:
            self.stop()
            return {"error": f"not JSON: {answer[:200]}"}

    def stop(self):
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None


def upcycle(reprise, dense, folder):
    """Mixtures of experts with the small model's function, by experts and top-k."""
    made = {}
    for experts, top_k in [(4, 1), (4, 2)]:
        path = folder / f"smollm2-{experts}x{top_k}.gguf"
        command = [reprise, "models", "upcycle", "--from", str(dense), "--out", str(path), "--layers", "all",
                   "--experts", str(experts), "--top-k", str(top_k)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment())
        made[experts, top_k] = path
    return made
