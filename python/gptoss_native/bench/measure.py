"""How things are measured: in rounds, the ceilings in between, medians over the rounds.

Machines are shared, and their clocks and their memory drift by tens of percent within seconds. So every round
measures the ceilings and then the thing itself, right after, and a percentage is taken round by round.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median, quantiles
from typing import Any

from gptoss_native.bench.costs import Cost
from gptoss_native.native import _core


@dataclass(frozen=True)
class Spread:
    """Of several rounds: the median and the quartiles around it."""

    median: float
    low: float
    high: float
    rounds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        low, _, high = quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
        return cls(median(values), low, high, len(values))


@dataclass(frozen=True)
class Ceilings:
    """What the machine does at best: bytes per second of a plain read, float32 FLOP per second of its FMA, and bf16
    FLOP per second of products of bf16 or integers, where the instruction set in use multiplies them."""

    read: float
    fma: float
    matrix: float | None = None

    def seconds(self, cost: Cost) -> float:
        """The time below which `cost` cannot be: that of the nearer ceiling."""
        return max(cost.bytes / self.read, cost.flops / self.compute)

    def nearer(self, cost: Cost) -> str:
        if cost.bytes / self.read >= cost.flops / self.compute:
            return "read"
        return "fma" if self.matrix is None else "matrix"

    @property
    def compute(self) -> float:
        """FLOP per second of the faster unit."""
        return max(self.fma, self.matrix or 0)


@dataclass(frozen=True)
class Probe:
    """How the ceilings are measured: with as many threads as what is compared with them."""

    threads: int
    megabytes: int = 256
    seconds: float = 0.1
    precision: str = "fast"

    def __call__(self) -> Ceilings:
        return Ceilings(_core.measure_read_bandwidth(self.threads, self.megabytes, self.seconds),
                        _core.measure_fma_rate(self.threads, self.seconds),
                        _core.measure_matrix_rate(self.threads, self.seconds, self.precision == "exact"))


@dataclass(frozen=True)
class Row:
    """One line of a result. `bench`, `name` and `settings`, but for the instruction set, identify it, also between two
    results."""

    bench: str
    name: str
    settings: dict[str, Any]
    seconds: Spread
    cost: Cost
    nearer: str
    """The ceiling that `percent` is a percentage of: "read", "fma" or "matrix"; "" where none was measured."""
    percent: Spread | None
    ceilings: Ceilings | None
    facts: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Row:
        percent, ceilings = data["percent"], data["ceilings"]
        return cls(**data | {
            "seconds": Spread(**data["seconds"]), "cost": Cost(**data["cost"]),
            "percent": Spread(**percent) if percent else None, "ceilings": Ceilings(**ceilings) if ceilings else None})


def compare(bench: str, name: str, settings: dict[str, Any], cost: Cost, seconds: Sequence[float],
            ceilings: Sequence[Ceilings], **facts: Any) -> Row:
    """A row from what each round measured: `seconds` of the thing, and the ceilings just before it."""
    matrix = [c.matrix for c in ceilings if c.matrix is not None]
    middle = Ceilings(median(c.read for c in ceilings), median(c.fma for c in ceilings),
                      median(matrix) if matrix else None)
    percents = [100 * c.seconds(cost) / s for c, s in zip(ceilings, seconds, strict=True)]
    return Row(bench, name, settings, Spread.of(seconds), cost, middle.nearer(cost), Spread.of(percents), middle, facts)


def alternate(probe: Probe, thing: Callable[[], float], rounds: int) -> tuple[list[float], list[Ceilings]]:
    """`thing` returns its own seconds: called once per round, after the probe."""
    seconds, ceilings = [], []
    for _ in range(rounds):
        ceilings.append(probe())
        seconds.append(thing())
    return seconds, ceilings
