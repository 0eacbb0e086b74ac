"""Two results, row by row: what became slower, or faster, by more than the spread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from gptoss_native.bench.measure import Row, Spread

TOLERANCE = 0.05
"""A median may be so much worse, whatever the spread: quartiles of a few rounds can lie too close together."""


@dataclass(frozen=True)
class Change:
    before: Row
    after: Row
    verdict: Literal["slower", "faster", ""]

    @property
    def ratio(self) -> float:
        """Of the times: 1.1 is a tenth more time than before."""
        return self.after.seconds.median / self.before.seconds.median


@dataclass(frozen=True)
class Comparison:
    """only_before, only_after: how many rows the other result does not have."""

    changes: Sequence[Change]
    only_before: int
    only_after: int

    @property
    def regressions(self) -> list[Change]:
        return [change for change in self.changes if change.verdict == "slower"]


def compare_results(before: Sequence[Row], after: Sequence[Row], tolerance: float = TOLERANCE) -> Comparison:
    """Rows are matched by what identifies them. ValueError where none matches."""
    old = {identity(row): row for row in before}
    new = {identity(row): row for row in after}
    both = [key for key in old if key in new]
    if not both:
        raise ValueError("the two results have no row in common: compare runs of the same parts, with the same number "
                         "of threads, precision and formats")
    changes = [Change(old[key], new[key], verdict(old[key], new[key], tolerance)) for key in both]
    return Comparison(changes, len(old) - len(both), len(new) - len(both))


def identity(row: Row) -> tuple[str, ...]:
    """The instruction set is not part of it: a faster one is a change like others. Results from before there was a
    choice of dense weights do not say it."""
    settings = {"dense": "bf16"} | row.settings
    settings.pop("isa", None)
    return (row.bench, row.name, *(f"{key}={settings[key]}" for key in sorted(settings)))


def verdict(before: Row, after: Row, tolerance: float) -> Literal["slower", "faster", ""]:
    """slower: its time grew, and its percentage of the ceiling fell, both by more than `tolerance` and with quartiles
    that do not overlap. A machine that is slower itself today lowers its ceilings too, and is no regression. Rows
    without a ceiling, or with another one than before, are judged by their time alone."""
    if _worse(before, after, tolerance):
        return "slower"
    return "faster" if _worse(after, before, tolerance) else ""


def _worse(before: Row, after: Row, tolerance: float) -> bool:
    if not _above(after.seconds, before.seconds, tolerance):
        return False
    if before.percent is None or after.percent is None or before.nearer != after.nearer:
        return True
    return _above(before.percent, after.percent, tolerance)


def _above(high: Spread, low: Spread, tolerance: float) -> bool:
    return high.low > low.high and high.median > low.median * (1 + tolerance)
