"""The race: each peer is first compared with the oracle, and timed only where it is right."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any, Protocol

import torch

from gptoss_native.bench.measure import Ceilings, Spread
from gptoss_native.bench.report import table

from .clock import Turns
from .problems import WRONG, Problem, error


class Peer(Protocol):
    """group: of the problems that it takes; "" are all. timed: what is in its time."""

    name: str
    group: str
    timed: str

    def absent(self, device: torch.device) -> str:
        """Why it cannot be here; nothing where it is."""
        ...

    def version(self) -> str: ...
    def prepare(self, problem: Any) -> Turns: ...


INFINITELY = 1e30
"""For JSON, which has no infinity."""


class CardLost(RuntimeError):
    """A peer's kernels left the card unusable for this process."""


def present(peers: Iterable[Peer], device: torch.device) -> tuple[list[Peer], dict[str, dict[str, str]]]:
    """Those that are here, and what is to be said of all."""
    here, said = list[Peer](), dict[str, dict[str, str]]()
    for peer in peers:
        reason = peer.absent(device)
        said[peer.name] = {"absent": reason} if reason else {"version": peer.version(), "timed": peer.timed}
        if not reason:
            here.append(peer)
    return here, said


def race(problem: Problem, peers: Sequence[Peer], ceilings: Ceilings, rounds: int) -> dict[str, Any]:
    """A row: what each peer of its group did. The first one is ours: ratios are times relative to its time."""
    wants = {turn: problem.want(turn) for turn in sorted({0, turns_of(problem) - 1})}
    row: dict[str, Any] = {
        "group": problem.group,
        "sizes": problem.sizes,
        "facts": problem.facts,
        "turns": turns_of(problem),
        "cost": asdict(problem.cost),
        "ceilings": asdict(ceilings),
        "results": {},
    }
    for peer in peers:
        if peer.group in ("", problem.group):
            row["results"][peer.name] = outcome(peer, problem, wants, ceilings, rounds)
            clear(problem, peer)
    ours = row["results"][peers[0].name]
    for result in row["results"].values():
        if "seconds" in result and "seconds" in ours:
            result["ratio"] = result["seconds"]["median"] / ours["seconds"]["median"]
    return row


def turns_of(problem: Problem) -> int:
    return len(getattr(problem, "logits", None) or problem.kv)


def outcome(
    peer: Peer, problem: Problem, wants: dict[int, torch.Tensor], ceilings: Ceilings, rounds: int
) -> dict[str, Any]:
    try:
        turns = peer.prepare(problem)
        found = worst([error(problem.rows(turns.result(turn)), want) for turn, want in wants.items()])
        if is_wrong(found):
            return {"status": "wrong", "error": found}
        timing = turns.time(rounds)
        timed = worst([error(problem.rows(timing.results[turn]), want) for turn, want in wants.items()])
        if is_wrong(timed):
            return {"status": "wrong when it was timed", "error": timed}
    except Exception as problem_of_theirs:  # whatever a foreign library raises
        lines = str(problem_of_theirs).splitlines() or [""]
        return {"status": f"failed: {type(problem_of_theirs).__name__}: {lines[0][:300]}"}
    cost, seconds = problem.cost, Spread.of(timing.seconds)
    return {
        "status": "ok",
        "error": timed,
        "seconds": asdict(seconds),
        "how": timing.how,
        "bytes_per_second": cost.bytes / seconds.median,
        "flops_per_second": cost.flops / seconds.median,
        "percent_of_read": 100 * cost.bytes / seconds.median / ceilings.read,
        "percent_of_ceiling": 100 * ceilings.seconds(cost) / seconds.median,
        "ceiling": ceilings.nearer(cost),
    }


def worst(errors: Iterable[tuple[float, float]]) -> dict[str, float]:
    rms, largest = zip(*errors)
    return {"rms": min(max(rms), INFINITELY), "largest": min(max(largest), INFINITELY)}


def is_wrong(found: dict[str, float]) -> bool:
    return not (found["rms"] <= WRONG.rms and found["largest"] <= WRONG.largest)


def clear(problem: Problem, peer: Peer) -> None:
    gc.collect()
    if torch.cuda.is_available():
        try:
            torch.cuda.synchronize()
            torch.cuda.empty_cache()
        except RuntimeError as lost:
            raise CardLost(
                f"{peer.name} left the card unusable in {problem.group} {problem.sizes}: {lost}. Without it: --without"
            ) from lost


def races(
    problems: Iterable[Problem], peers: Sequence[Peer], ceilings: Any, rounds: int, seconds: float
) -> Iterator[dict[str, Any]]:
    """Rows; of problems that would begin later than that only what they are."""
    begun = time.monotonic()
    for problem in problems:
        if time.monotonic() - begun > seconds:
            yield {"group": problem.group, "sizes": problem.sizes, "left out": "no time"}
        else:
            yield race(problem, peers, ceilings(), rounds)
        del problem  # its memory, before the next one takes its own


# ---- tables


def text_of(said: dict[str, dict[str, str]], rows: Sequence[dict[str, Any]], lost: str = "") -> str:
    """Markdown: a table for each group, who is absent, and what was timed."""
    blocks, ours = [], next(iter(said))
    for group in dict.fromkeys(row["group"] for row in rows):
        of_group = [row for row in rows if row["group"] == group]
        names = list(dict.fromkeys(name for row in of_group for name in row.get("results", {})))
        sizes = list(dict.fromkeys(size for row in of_group for size in row["sizes"]))
        headings = [
            *sizes,
            "MB",
            *(f"{name}, us" for name in names),
            "GB/s",
            "of the read",
            "of the ceiling",
            "best of theirs",
        ]
        blocks += [f"### {group}", table(headings, [cells(row, sizes, names, ours) for row in of_group])]
    blocks += [
        f"- {name} ({facts['version']}): {facts['timed']}"
        for name, facts in said.items()
        if "absent" not in facts
    ]
    blocks += [f"- {name}: absent, {facts['absent']}" for name, facts in said.items() if "absent" in facts]
    notes = {
        f"- {name}: {result['how']}"
        for row in rows
        for name, result in row.get("results", {}).items()
        if result.get("how")
    }
    failed = {
        f"- {name}: {result['status']}"
        for row in rows
        for name, result in row.get("results", {}).items()
        if result["status"].startswith("failed")
    }
    return "\n\n".join([*blocks, *sorted(notes), *sorted(failed), *([lost] if lost else [])])


def cells(row: dict[str, Any], sizes: Sequence[str], names: Sequence[str], ours: str) -> list[str]:
    found = [str(row["sizes"].get(size, "")) for size in sizes]
    if "left out" in row:
        return [*found, row["left out"], *[""] * (len(names) + 4)]
    results = row["results"]
    found += [f"{row['cost']['bytes'] / 1e6:.2f}", *(cell(results.get(name), name != ours) for name in names)]
    own = results.get(ours, {})
    if "seconds" not in own:
        return [*found, "", "", "", ""]
    theirs = min(
        ((result["ratio"], name) for name, result in results.items() if name != ours and "ratio" in result),
        default=None,
    )
    return [
        *found,
        f"{own['bytes_per_second'] / 1e9:.0f}",
        f"{own['percent_of_read']:.0f} %",
        f"{own['percent_of_ceiling']:.0f} % {own['ceiling']}",
        f"{theirs[0]:.2f}x {theirs[1]}" if theirs else "",
    ]


def cell(result: dict[str, Any] | None, with_ratio: bool) -> str:
    if result is None:
        return ""
    if "seconds" in result:
        return f"{1e6 * result['seconds']['median']:.1f}" + (
            f" ({result['ratio']:.2f}x)" if with_ratio and "ratio" in result else ""
        )
    return (
        f"{result['status']} ({result['error']['rms']:.2g})"
        if "error" in result
        else result["status"].partition(":")[0]
    )
