"""A result for people, as Markdown tables, and for machines, as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from .measure import Row, Spread

SCHEMA = 1
"""Of the JSON file: raised when a field changes its meaning."""

HEADINGS = {
    "stage": ["stage", "tokens", "time", "MB", "GFLOP", "GB/s", "GFLOP/s", "of the ceiling", ""],
    "prefill": ["prefill", "tokens/s", "time", "GFLOP/s", "of the ceiling", ""],
    "decode": ["decode", "tokens/s", "time", "GB a token", "GB/s", "of the ceiling", ""],
    "batch": ["decode of", "tokens/s", "time of a step", "GB a step", "GB/s", "of the ceiling", ""],
    "cancel": ["from close() to an idle engine", "time", "worst"],
    "start": ["from the start of the process to", "time", ""],
}


def write_json(path: Path, machine: dict[str, Any], rows: Sequence[Row]) -> None:
    result = {"schema": SCHEMA, "machine": machine, "rows": [row.to_dict() for row in rows]}
    path.write_text(json.dumps(result, indent=1) + "\n")


def read_json(path: Path) -> tuple[dict[str, Any], list[Row]]:
    result = json.loads(path.read_text())
    if result.get("schema") != SCHEMA:
        raise ValueError(f"{path}: expected a bench result of schema {SCHEMA}, found {result.get('schema')!r}")
    return result["machine"], [Row.from_dict(row) for row in result["rows"]]


def machine_list(machine: dict[str, Any]) -> str:
    return "\n".join(f"- {key}: {value}" for key, value in machine.items())


def rows_table(rows: Iterable[Row]) -> str:
    """One table for each run of rows of one kind that were measured alike."""
    parts = []
    for (bench, alike), group in groupby(rows, key=lambda row: (row.bench, _alike(row))):
        members = list(group)
        ceiling = _ceilings(members)
        heading = f"### {bench}: {alike}" + (f"\n\n{ceiling}" if ceiling else "")
        parts.append(f"{heading}\n\n{table(HEADINGS[bench], [_cells(row) for row in members])}")
    return "\n\n".join(parts)


def table(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    widths = [max(len(cell) for cell in column) for column in zip(headings, *lines, strict=True)]

    def line(cells: Sequence[str]) -> str:
        padded = [cell.ljust(width) if i == 0 else cell.rjust(width)
                  for i, (cell, width) in enumerate(zip(cells, widths, strict=True))]
        return "| " + " | ".join(padded) + " |"

    rule = "|" + "|".join("-" * (width + 1) + ("-" if i == 0 else ":") for i, width in enumerate(widths)) + "|"
    return "\n".join([line(headings), rule, *map(line, lines)])


def _alike(row: Row) -> str:
    return ", ".join(f"{key} {value}" for key, value in row.settings.items()
                     if key not in ("tokens", "context", "sequences"))


def _ceilings(rows: Sequence[Row]) -> str:
    found = [row.ceilings for row in rows if row.ceilings]
    if not found:
        return ""
    read, fma = sorted(c.read / 1e9 for c in found), sorted(c.fma / 1e9 for c in found)
    return (f"Ceilings measured in between: read {_range(read)} GB/s, f32 FMA {_range(fma)} GFLOP/s.")


def _range(values: Sequence[float]) -> str:
    low, high = f"{values[0]:.0f}", f"{values[-1]:.0f}"
    return low if low == high else f"{low}-{high}"


def _cells(row: Row) -> list[str]:
    seconds, cost = row.seconds.median, row.cost
    rate = {"GB/s": f"{cost.bytes / seconds / 1e9:.1f}", "GFLOP/s": f"{cost.flops / seconds / 1e9:.0f}"}
    share = [_percent(row.percent), row.nearer]
    if row.bench == "stage":
        return [row.name, str(row.settings["tokens"]), _time(row.seconds), f"{cost.bytes / 1e6:.1f}",
                f"{cost.flops / 1e9:.2f}", rate["GB/s"], rate["GFLOP/s"], *share]
    if row.bench == "prefill":
        return [row.name, f"{row.facts['tokens_per_second']:.1f}", _time(row.seconds), rate["GFLOP/s"], *share]
    if row.bench == "cancel":
        return [row.name, _time(row.seconds), f"{1000 * row.facts['worst_seconds']:.0f} ms"]
    if row.bench in ("decode", "batch"):
        return [row.name, f"{row.facts['tokens_per_second']:.2f}", _time(row.seconds), f"{cost.bytes / 1e9:.2f}",
                rate["GB/s"], *share]
    private = row.facts.get("private_bytes")
    return [row.name, _time(row.seconds), f"{private / 1e6:.0f} MB private memory" if private else ""]


def _percent(percent: Spread | None) -> str:
    return f"{percent.median:.0f} % ({percent.low:.0f}-{percent.high:.0f})" if percent else ""


def _time(seconds: Spread) -> str:
    """Median, and the quartiles behind it: 12.3 ms (11.9-13.0)."""
    scale, unit = next(((s, u) for s, u in ((1, "s"), (1e-3, "ms")) if seconds.median >= s), (1e-6, "us"))
    values = [value / scale for value in (seconds.median, seconds.low, seconds.high)]
    digits = 0 if values[0] >= 100 else 1 if values[0] >= 10 else 2
    middle, low, high = (f"{value:.{digits}f}" for value in values)
    return f"{middle} {unit} ({low}-{high})"
