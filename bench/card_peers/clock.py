"""How long a turn of torch's takes: on a card by its own clock, around one graph of all turns; on the CPU by
a stop watch."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

Run = Callable[[], torch.Tensor]


@dataclass(frozen=True)
class Timing:
    """seconds: of one turn, in each round. how: where not in a graph. results: of the timed turns."""

    seconds: list[float]
    how: str
    results: list[torch.Tensor]


class Turns(Protocol):
    """A peer, ready for a problem."""

    def result(self, turn: int) -> torch.Tensor: ...
    def time(self, rounds: int) -> Timing: ...


class TorchTurns:
    """Of whatever runs in torch's current stream: one function for each turn, which may be called again and
    again."""

    def __init__(self, runs: Sequence[Run], device: torch.device) -> None:
        self.runs, self.device = runs, device

    def result(self, turn: int) -> torch.Tensor:
        return self.runs[turn]()

    def time(self, rounds: int) -> Timing:
        return (
            time_on_a_card(self.runs, rounds)
            if self.device.type == "cuda"
            else time_on_the_host(self.runs, rounds)
        )


def time_on_the_host(runs: Sequence[Run], rounds: int) -> Timing:
    seconds, results = [], [run() for run in runs]
    for _ in range(rounds):
        begun = time.perf_counter()
        results = [run() for run in runs]
        seconds.append((time.perf_counter() - begun) / len(runs))
    return Timing(seconds, "", results)


def time_on_a_card(runs: Sequence[Run], rounds: int) -> Timing:
    """A launch from the host can take longer than a kernel, hence the graph; what cannot be captured is
    launched and says so."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        results = [run() for run in runs]  # compiles, allocates, looks for its best configuration
    torch.cuda.synchronize()
    graph, how = torch.cuda.CUDAGraph(), ""
    try:
        with torch.cuda.graph(graph, stream=stream):
            results = [run() for run in runs]
    except RuntimeError as error:
        torch.cuda.synchronize()
        how = f"launched one by one, because it cannot be captured: {str(error).splitlines()[0][:120]}"
    seconds = []
    with torch.cuda.stream(stream):
        for number in range(rounds + 1):  # the first replay also uploads the graph
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            if how:
                results = [run() for run in runs]
            else:
                graph.replay()
            end.record()
            end.synchronize()
            if number > 0:
                seconds.append(start.elapsed_time(end) * 1e-3 / len(runs))
    torch.cuda.synchronize()
    return Timing(seconds, how, [result.clone() for result in results])
