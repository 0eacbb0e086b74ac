"""A result for people, as Markdown tables, and for machines, as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from gptoss_native.bench.measure import Row, Spread
from gptoss_native.bench.regressions import Change, Comparison

SIZES = ("tokens", "experts", "context", "sequences", "rows")
"""Settings that say how large the measured thing was, not how the model was run."""

SCHEMA = 1
"""Of the JSON file: raised when a field changes its meaning."""

HEADINGS = {
    "stage": ["stage", "tokens", "time", "MB", "GFLOP", "GB/s", "GFLOP/s", "of the ceiling", ""],
    "prefill": ["prefill", "tokens/s", "time", "GB/s", "GFLOP/s", "of the ceiling", ""],
    "decode": ["decode", "tokens/s", "time", "GB a token", "GB/s", "GFLOP/s", "of the ceiling", ""],
    "batch": ["decode of", "experts a layer", "tokens/s", "time of a step", "GB a step", "GB/s", "GFLOP/s",
              "of the ceiling", ""],
    "kernel": ["kernel", "tokens", "experts", "context", "time", "MB", "GFLOP", "GB/s", "GFLOP/s", "of the ceiling",
               ""],
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


def join(results: Sequence[tuple[dict[str, Any], list[Row]]]) -> tuple[dict[str, Any], list[Row]]:
    """Parts of one result that were measured one after the other. ValueError where they are not of one machine, build
    and model."""
    machine = dict(results[0][0])
    for key in ("cpu", "usable_cores", "cpu_isa", "commit", "gptoss_native", "model"):
        found = {str(other.get(key)) for other, _ in results}
        if len(found) > 1:
            raise ValueError(f"these results are not parts of one: they differ in {key} ({', '.join(sorted(found))})")
    machine["command"] = ", and ".join(other["command"] for other, _ in results)
    return machine, [row for _, rows in results for row in rows]


def machine_list(machine: dict[str, Any]) -> str:
    return "\n".join(f"- {key}: {value}" for key, value in machine.items())


def rows_table(rows: Iterable[Row]) -> str:
    """One table for each run of rows of one kind that were measured alike."""
    parts = []
    for (bench, alike), group in groupby(rows, key=lambda row: (row.bench, setup_label(row))):
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


def setup_label(row: Row) -> str:
    """How the model was run: threads 2, isa avx512, and so on."""
    return ", ".join(f"{key} {value}" for key, value in row.settings.items() if key not in SIZES)


def row_label(row: Row) -> str:
    """What was measured: moe_up of 64 tokens."""
    if row.bench == "stage":
        return f"{row.name} of {row.settings['tokens']}"
    if row.bench == "kernel":
        sizes = ", ".join(f"{row.settings[key]} {key}" for key in SIZES if key in row.settings)
        return f"{row.name} of {sizes}"
    return {"batch": f"decode of {row.name}", "cancel": f"cancel {row.name}", "start": f"start to {row.name}"}.get(
        row.bench, row.name)


def comparison_table(comparison: Comparison) -> str:
    """Every row that both results have, the changed ones marked."""
    groups = groupby(comparison.changes, key=lambda change: setup_label(change.after))
    headings = ["", "before", "after", "time", "of the ceiling before", "after", ""]
    return "\n\n".join(f"### {alike}\n\n{table(headings, [_change_cells(change) for change in group])}"
                       for alike, group in groups)


def _change_cells(change: Change) -> list[str]:
    before, after = change.before, change.after
    return [row_label(after), _time(before.seconds), _time(after.seconds), f"{100 * (change.ratio - 1):+.0f} %",
            _percent(before.percent), _percent(after.percent), change.verdict]


def _ceilings(rows: Sequence[Row]) -> str:
    found = [row.ceilings for row in rows if row.ceilings]
    if not found:
        return ""
    matrix = [c.matrix for c in found if c.matrix is not None]
    return (f"Ceilings measured in between: read {_range(c.read for c in found)} GB/s, "
            f"f32 multiply-add {_range(c.fma for c in found)} GFLOP/s"
            + (f", bf16 or integer products {_range(matrix)} GFLOP/s." if matrix else "."))


def _range(values: Iterable[float]) -> str:
    found = [value / 1e9 for value in values]
    low, high = f"{min(found):.0f}", f"{max(found):.0f}"
    return low if low == high else f"{low}-{high}"


def _cells(row: Row) -> list[str]:
    seconds, cost = row.seconds.median, row.cost
    rate = [f"{cost.bytes / seconds / 1e9:.1f}", f"{cost.flops / seconds / 1e9:.0f}"]
    share = [_percent(row.percent), row.nearer]
    if row.bench == "stage":
        return [row.name, str(row.settings["tokens"]), _time(row.seconds), f"{cost.bytes / 1e6:.1f}",
                f"{cost.flops / 1e9:.2f}", *rate, *share]
    if row.bench == "kernel":
        sizes = [str(row.settings.get(key, "")) for key in ("tokens", "experts", "context")]
        return [row.name, sizes[0] or f"{row.settings['rows']} rows", *sizes[1:], _time(row.seconds),
                f"{cost.bytes / 1e6:.2f}", f"{cost.flops / 1e9:.2f}", *rate, *share]
    if row.bench == "prefill":
        return [row.name, f"{row.facts['tokens_per_second']:.1f}", _time(row.seconds), *rate, *share]
    if row.bench == "cancel":
        return [row.name, _time(row.seconds), f"{1000 * row.facts['worst_seconds']:.0f} ms"]
    if row.bench in ("decode", "batch"):
        experts = [f"{row.facts['experts']:.1f}" if "experts" in row.facts else ""] if row.bench == "batch" else []
        return [row.name, *experts, f"{row.facts['tokens_per_second']:.2f}", _time(row.seconds),
                f"{cost.bytes / 1e9:.2f}", *rate, *share]
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
