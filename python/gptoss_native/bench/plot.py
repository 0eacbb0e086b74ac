"""A result as a picture: a roofline, and how much of the nearer ceiling each row reached."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from gptoss_native.bench.measure import Row
from gptoss_native.bench.report import row_label, setup_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {"stage": "tab:blue", "prefill": "tab:red", "decode": "tab:green", "batch": "tab:orange",
           "kernel": "tab:purple"}
INCHES_A_ROW = 0.22


def need_matplotlib() -> None:
    """Before anything is measured that could not be drawn then."""
    try:
        import matplotlib  # noqa: F401  # an extra
    except ImportError:
        raise ImportError("plots need the package matplotlib: pip install 'gptoss-native[bench]'") from None


def write_plot(path: Path, machine: Mapping[str, Any], rows: Sequence[Row]) -> None:
    """The ending of `path` says the format: .png, .svg or .pdf. ValueError where no row has a ceiling."""
    draw(machine, rows).savefig(path, dpi=120)


def draw(machine: Mapping[str, Any], rows: Sequence[Row]) -> Figure:
    from matplotlib.figure import Figure

    drawn = [row for row in rows if row.percent is not None and row.ceilings is not None]
    if not drawn:
        raise ValueError("there is nothing to draw: no row of this result has a ceiling")
    figure = Figure(figsize=(15, max(6, 1.5 + INCHES_A_ROW * len(drawn))), layout="constrained")
    roofline, bars = figure.subplots(1, 2, width_ratios=(1, 1))
    _roofline(roofline, drawn)
    _percentages(bars, drawn)
    figure.suptitle(f"gptoss_native {machine.get('gptoss_native', '')} on {machine.get('cpu', 'an unknown machine')}\n"
                    f"{machine.get('model', '')}", fontsize="medium")
    return figure


def _roofline(axes: Axes, rows: Sequence[Row]) -> None:
    """Where a row lies under what memory and arithmetic allow; lines are medians of all ceilings of the result."""
    ceilings = [row.ceilings for row in rows if row.ceilings]
    read = median(c.read for c in ceilings)
    rates = {"f32 multiply-add": median(c.fma for c in ceilings)}
    matrix = [c.matrix for c in ceilings if c.matrix is not None]
    if matrix:
        rates["bf16 or integer products"] = median(matrix)
    points = [(row, row.cost.flops / row.cost.bytes, row.cost.flops / row.seconds.median) for row in rows
              if row.cost.flops]
    lowest = min([intensity for _, intensity, _ in points], default=1) / 2
    highest = 4 * max([intensity for _, intensity, _ in points] + [rate / read for rate in rates.values()])
    for (name, rate), dashes in zip(rates.items(), ("-", "--")):
        axes.plot([lowest, rate / read, highest], [lowest * read / 1e9, rate / 1e9, rate / 1e9], "k" + dashes,
                  label=f"{name}: {rate / 1e9:.0f} GFLOP/s; read: {read / 1e9:.1f} GB/s")
    for bench, colour in COLOURS.items():
        mine = [(intensity, rate / 1e9) for row, intensity, rate in points if row.bench == bench]
        if mine:
            axes.plot(*zip(*mine), "o", color=colour, label=bench, alpha=0.7)
    axes.set(xscale="log", yscale="log", xlabel="FLOP per byte that must be read", ylabel="GFLOP/s", title="roofline")
    axes.legend(fontsize="small")
    axes.grid(alpha=0.3)


def _percentages(axes: Axes, rows: Sequence[Row]) -> None:
    several = len({setup_label(row) for row in rows}) > 1
    labels = [f"{row_label(row)}{f' ({setup_label(row)})' if several else ''}, {row.nearer}" for row in rows]
    spreads = [row.percent for row in rows if row.percent]
    errors = [[s.median - s.low for s in spreads], [s.high - s.median for s in spreads]]
    axes.barh(range(len(rows)), [s.median for s in spreads], xerr=errors, color=[COLOURS[row.bench] for row in rows],
              error_kw={"elinewidth": 1})
    axes.set_yticks(range(len(rows)), labels, fontsize="x-small")
    axes.axvline(100, color="black", linewidth=1)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(0, max(105, min(160, 1.05 * max(s.high for s in spreads))))
    axes.set(xlabel="% of the nearer ceiling, quartiles", title=setup_label(rows[0]) if not several else "")
