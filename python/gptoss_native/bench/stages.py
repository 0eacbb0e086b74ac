"""Each stage of a layer by itself, over steps of several sizes.

The stages run in the order of a step, layer after layer, so that no weights are found in a cache which a real
step would not find there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from time import perf_counter
from typing import Any

import numpy as np

from gptoss_native.bench.costs import LAYER_STAGES, Cost, Model
from gptoss_native.bench.measure import Ceilings, Probe, Row, compare
from gptoss_native.bench.setup import Setup
from gptoss_native.native import _core

LAYERS = 8
"""How many layers take turns, at most."""
MAX_ROWS = 64
"""Rows of logits that unembed is asked for, at most."""


def bench_stages(setup: Setup, *, tokens: Sequence[int], rounds: int, probe: Probe) -> Iterator[Row]:
    engine = setup.open_native(max_context=max(tokens), max_sequences=1, max_tokens=max(tokens),
                               max_outputs=min(MAX_ROWS, max(tokens)))
    for count in tokens:
        settings = {"tokens": count} | setup.settings
        yield from Stages(engine, setup.model(), count).rows(settings, rounds, probe)
    engine.close()


class Stages:
    """Steps of `tokens` random tokens at an empty cache, stage by stage."""

    def __init__(self, engine: _core.Engine, model: Model, tokens: int) -> None:
        self.engine, self.model, self.tokens = engine, model, tokens
        self.logit_rows = min(tokens, MAX_ROWS)
        config = model.config
        count = config.num_hidden_layers
        self.layers: list[int] = np.linspace(0, count - 1, min(LAYERS, count)).astype(int).tolist()
        ids = np.random.default_rng(tokens).integers(0, config.vocab_size, tokens).astype(np.int32)
        self.session = engine.session()
        self.whole = _core.Work(self.session, ids, rows=np.arange(self.logit_rows, dtype=np.int32))
        self.drawing = _core.Work(self.session, ids, sampling=_core.Sampling(temperature=1, top_p=0.95, seed=0))

    def rows(self, settings: dict[str, Any], rounds: int, probe: Probe) -> Iterator[Row]:
        self.round()  # touches weights and memory for the first time
        times: list[dict[str, float]] = []
        ceilings: list[Ceilings] = []
        for _ in range(rounds):
            ceilings.append(probe())
            times.append(self.round())
        costs = self.costs()
        for stage, cost in costs.items():
            yield compare("stage", stage, settings, cost, [time[stage] for time in times], ceilings)

    def round(self) -> dict[str, float]:
        """Seconds of each stage; those of a layer are the mean over the layers."""
        seconds: dict[str, float] = {}
        for layer in self.layers:
            for stage in LAYER_STAGES:
                seconds[stage] = seconds.get(stage, 0) + self.seconds(stage, layer) / len(self.layers)
        seconds["unembed"] = self.seconds("unembed")
        if self.tokens == 1:
            seconds["sample"] = self.seconds("sample", work=self.drawing)
        return seconds

    def seconds(self, stage: str, layer: int = 0, work: _core.Work | None = None) -> float:
        """Of one run of the stage; what the call costs without it is subtracted."""
        work = work or self.whole
        start = perf_counter()
        self.engine.run_stages([], layer, [work], {}, [])
        between = perf_counter()
        self.engine.run_stages([stage], layer, [work], {}, [])
        return max(perf_counter() - between - (between - start), 1e-9)

    def costs(self) -> dict[str, Cost]:
        """Of each stage, the mean over the layers; the experts are those that the tokens chose."""
        layer_costs: dict[str, list[Cost]] = {stage: [] for stage in LAYER_STAGES}
        for layer in self.layers:
            routed = self.engine.run_stages(["moe_route"], layer, [self.whole], {}, ["router_choice"])
            experts = len(np.unique(routed["router_choice"]))
            for stage in LAYER_STAGES:
                layer_costs[stage].append(self.model.stage(stage, self.tokens, layer=layer, experts=experts))
        costs = {stage: _mean(layer_costs[stage]) for stage in LAYER_STAGES}
        costs["unembed"] = self.model.stage("unembed", self.tokens, rows=self.logit_rows)
        if self.tokens == 1:
            costs["sample"] = self.model.stage("sample", 1)
        return costs


def _mean(costs: Sequence[Cost]) -> Cost:
    return Cost(sum(c.bytes for c in costs) // len(costs), sum(c.flops for c in costs) // len(costs))
