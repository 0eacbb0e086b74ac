"""The rotary embedding's part of a Hugging Face config.json, in the spellings of transformers 4 and 5."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gptoss_native.config.fields import integer, number, wrong
from gptoss_native.errors import CheckpointError


@dataclass(frozen=True)
class RopeScaling:
    """"default" is plain RoPE; "yarn" stretches positions by `factor` (YaRN, arXiv:2309.00071).

    `truncate` rounds YaRN's correction range outwards to integers; the released models do not.
    """

    rope_type: str
    factor: float
    beta_fast: float
    beta_slow: float
    original_max_position_embeddings: int
    truncate: bool


def read_rope(data: Mapping[str, Any], source: str) -> tuple[float, RopeScaling]:
    """rope_theta, and `rope_scaling` or `rope_parameters`: both may be there only where they agree.

    As in transformers, null is plain RoPE; an object has to name its rope_type."""
    key, rope = _spelling(data, source)
    theta = number(rope if "rope_theta" in rope else data, "rope_theta", source, above=1)
    if data.get("rope_theta", theta) != theta:
        raise wrong(source, "rope_theta", f"{theta:g}, as in {key}", data["rope_theta"])
    scaling = {name: value for name, value in rope.items() if name != "rope_theta"}
    kind = scaling.get("rope_type", scaling.get("type"))
    if kind == "default":
        context = integer(data, "max_position_embeddings", source)
        context = integer(data, "initial_context_length", source, default=context)
        return theta, RopeScaling("default", 1.0, 32.0, 1.0, context, truncate=False)
    if kind != "yarn":
        raise wrong(source, f"{key}.rope_type", "'yarn' or 'default'", kind)
    return theta, _yarn(scaling, f"{source}: {key}")


def _spelling(data: Mapping[str, Any], source: str) -> tuple[str, dict[str, Any]]:
    spellings = [key for key in ("rope_scaling", "rope_parameters") if key in data]
    if not spellings:
        raise CheckpointError(f"{source}: rope_scaling (in transformers 5 rope_parameters) is missing; every "
                              "gpt-oss config has it, and positions would be wrong without.")
    found = {key: {"rope_type": "default"} if data[key] is None else data[key] for key in spellings}
    for key, rope in found.items():
        if not isinstance(rope, dict):
            raise wrong(source, key, "an object", rope)
    plain = [{name: value for name, value in rope.items() if name != "rope_theta"} for rope in found.values()]
    if plain[0] != plain[-1]:
        raise wrong(source, "rope_scaling", "the same as rope_parameters", data["rope_scaling"])
    return spellings[-1], found[spellings[-1]]


def _yarn(rope: Mapping[str, Any], source: str) -> RopeScaling:
    factor = number(rope, "factor", source, at_least=1)
    concentration = 0.1 * math.log(factor) + 1
    for name, only in (("attention_factor", concentration), ("mscale", 1.0), ("mscale_all_dim", 0.0),
                       ("partial_rotary_factor", 1.0)):  # variants of YaRN that no gpt-oss model uses
        if rope.get(name) is not None and abs(number(rope, name, source) - only) > 1e-6:
            raise wrong(source, name, f"{only:.9g} or absent, as in every gpt-oss model", rope[name])
    truncate = rope.get("truncate", True)  # the default of transformers; the released configs say false
    if type(truncate) is not bool:
        raise wrong(source, "truncate", "true or false", truncate)
    return RopeScaling(
        rope_type="yarn", factor=factor,
        beta_fast=number(rope, "beta_fast", source, above=0, default=32.0),
        beta_slow=number(rope, "beta_slow", source, above=0, default=1.0),
        original_max_position_embeddings=integer(rope, "original_max_position_embeddings", source),
        truncate=truncate)
