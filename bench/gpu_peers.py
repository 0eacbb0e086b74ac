"""Others' kernels beside ours, on one card, in one process: python -m bench.gpu_peers [--json FILE] > peers.md

Experts (gate_up, SwiGLU, down, weighted sum, in MXFP4) and attention of decode steps with sinks, at the shapes of the
20b and the 120b: the same weights, the same routing, accuracy first. Needs torch; of the peers whoever can be imported
takes part, and whoever cannot is named. bench/README.md says what is compared. It has not run on a card yet.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch

from gptoss_native.bench.kernels import device_ceilings
from gptoss_native.bench.machine import machine_facts
from gptoss_native.bench.measure import Ceilings
from gptoss_native.cli.lists import positives

from .card_peers.flash import flash_peers
from .card_peers.humming_experts import HummingExperts
from .card_peers.marlin import MarlinExperts
from .card_peers.ours import Ours
from .card_peers.problems import Shape, Sizes, problems
from .card_peers.race import CardLost, Peer, present, races, text_of
from .card_peers.torch_peers import torch_peers
from .card_peers.triton_experts import TritonExperts

SCHEMA = 1


def measure(
    device: str,
    shape: Shape,
    sizes: Sizes,
    rounds: int,
    seconds: float,
    *,
    peers: Sequence[Peer] | None = None,
    ceilings: Callable[[], Ceilings] | None = None,
    without: Sequence[str] = (),
    save: Callable[[dict[str, Any]], None] = lambda result: None,
) -> dict[str, Any]:
    """The result, which `save` gets after each row, too. The first peer is ours."""
    ours = Ours(device)
    at = torch.device(device)
    entered = [ours, *(everybody() if peers is None else peers)]
    here, said = present([peer for peer in entered if peer.name not in without], at)
    said |= {name: {"absent": "left out by --without"} for name in without}
    result: dict[str, Any] = {
        "schema": SCHEMA,
        "machine": machine_facts()
        | {"command": "python -m bench.gpu_peers", "device": ours.lab.detail, "torch": str(torch.__version__)},
        "peers": said,
        "rows": [],
        "lost": "",
    }
    try:
        for row in races(
            problems(shape, sizes, device),
            here,
            ceilings or cache(lambda: device_ceilings(ours.lab)),
            rounds,
            seconds,
        ):
            result["rows"].append(row)
            save(result | {"text": text_of(said, result["rows"])})
    except CardLost as lost:
        result["lost"] = str(lost)
    result["text"] = text_of(said, result["rows"], result["lost"])
    save(result)
    return result


def everybody() -> list[Peer]:
    """Whoever is more likely to leave a card unusable comes later."""
    return [*torch_peers(), TritonExperts(), MarlinExperts(), HummingExperts(), *flash_peers()]


def write(path: Path, result: dict[str, Any]) -> None:
    new = path.with_name(f"{path.name}.new")
    new.write_text(json.dumps(result, indent=1) + "\n")
    new.replace(path)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.gpu_peers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    usual = Sizes()
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--json", type=Path, metavar="FILE", help="written again after each row")
    parser.add_argument("--tokens", type=positives, default=usual.tokens, metavar="LIST", help="of the experts")
    parser.add_argument("--experts", type=positives, default=usual.experts, metavar="LIST")
    parser.add_argument("--contexts", type=positives, default=usual.contexts, metavar="LIST")
    parser.add_argument(
        "--batches", type=positives, default=usual.batches, metavar="LIST", help="of attention, beside 1"
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=600, help="no row begins later than this")
    parser.add_argument("--without", nargs="*", default=[], metavar="PEER")
    options = parser.parse_args()
    sizes = Sizes(
        tuple(options.tokens), tuple(options.experts), tuple(options.contexts), tuple(options.batches)
    )
    result = measure(
        options.device,
        Shape(),
        sizes,
        options.rounds,
        options.seconds,
        without=options.without,
        save=lambda found: write(options.json, found) if options.json else None,
    )
    print(result["text"])
    return (
        1
        if result["lost"]
        or any(row["results"][Ours.name]["status"] != "ok" for row in result["rows"] if "results" in row)
        else 0
    )


if __name__ == "__main__":
    raise SystemExit(main())
