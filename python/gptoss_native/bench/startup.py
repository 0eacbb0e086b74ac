"""From the start of a process to its first tokens, with the files in the page cache."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import CLOCK_MONOTONIC, clock_gettime

from gptoss_native.bench.costs import Cost
from gptoss_native.bench.measure import Row, Spread
from gptoss_native.bench.setup import Setup

CHILD = """
import json, sys
from time import CLOCK_MONOTONIC, clock_gettime
times = {}
def at(phase):
    times[phase] = clock_gettime(CLOCK_MONOTONIC)
at("python")
import gptoss_native
at("import")
folder, prompt, options = json.loads(sys.argv[1])
engine = gptoss_native.load(folder, **options)
at("load")
if isinstance(prompt, str):
    prompt = engine.tokenizer.encode(prompt)
    at("tokenizer")
tokens = iter(engine.stream(prompt, gptoss_native.SamplingParams(temperature=0, max_tokens=2)))
next(tokens)
at("first token")
next(tokens, None)
at("second token")
anonymous = [line.split()[1] for line in open("/proc/self/status") if line.startswith("RssAnon")]
print(json.dumps([times, 1024 * int(anonymous[0]) if anonymous else None]))
"""
PROMPT = "Why is the sky blue?"


def bench_startup(setup: Setup, *, rounds: int) -> Iterator[Row]:
    """A row for every phase, counted from the start of the process."""
    checkpoint = setup.checkpoint()
    read_files(checkpoint.files)
    prompt = PROMPT if checkpoint.tokenizer_path else list(range(6))
    argument = json.dumps([str(setup.folder), prompt, setup.options])
    runs = [run_child(argument) for _ in range(rounds)]
    private = [memory for _, memory in runs if memory is not None]
    for phase in runs[0][0]:
        facts = {"private_bytes": max(private)} if phase == "second token" and private else {}
        seconds = Spread.of([times[phase] for times, _ in runs])
        yield Row("start", phase, setup.settings, seconds, Cost(), "", None, None, facts)


def run_child(argument: str) -> tuple[dict[str, float], int | None]:
    """Seconds from the start of a process to the end of each phase, and its private bytes at the end."""
    start = clock_gettime(CLOCK_MONOTONIC)
    done = subprocess.run([sys.executable, "-c", CHILD, argument], stdout=subprocess.PIPE, text=True, check=True)
    times, private = json.loads(done.stdout)
    return {phase: at - start for phase, at in times.items()}, private


def read_files(files: tuple[Path, ...]) -> None:
    """Bring them into the page cache."""
    block = bytearray(16 << 20)
    for path in files:
        with path.open("rb", buffering=0) as file:
            while file.readinto(block):
                pass
