"""config.json -> Config: what is read, which defaults hold, and what is refused by name."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from gptoss_native.config.config import Config, RopeScaling
from gptoss_native.errors import CheckpointError
from make_checkpoint import PRESETS, hf_config, original_config, rope_parameters


def without(data: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in data.items() if key not in keys}


@pytest.mark.parametrize(("shape", "layers", "experts"), [("20b", 24, 32), ("120b", 36, 128)])
def test_released_config(shape: str, layers: int, experts: int) -> None:
    config = Config.from_hf(hf_config(**PRESETS[shape]), "config.json")
    assert config == Config(
        num_hidden_layers=layers, num_local_experts=experts, num_experts_per_tok=4, hidden_size=2880,
        intermediate_size=2880, head_dim=64, num_attention_heads=64, num_key_value_heads=8, vocab_size=201088,
        layer_types=("sliding_attention", "full_attention") * (layers // 2), sliding_window=128,
        max_position_embeddings=131072, initial_context_length=4096, rope_theta=150000.0,
        rope_scaling=RopeScaling("yarn", 32.0, 32.0, 1.0, 4096, truncate=False), rms_norm_eps=1e-5,
        swiglu_limit=7.0, swiglu_alpha=1.702, eos_token_id=(200002,), pad_token_id=199999)


def test_both_spellings_of_rope_agree() -> None:
    data = hf_config(rope_scaling={"factor": 8.0}, rope_theta=10000.5)
    old, new = Config.from_hf(data, "old"), Config.from_hf(rope_parameters(data), "new")
    assert old == new
    assert (new.rope_theta, new.rope_scaling.factor) == (10000.5, 8.0)
    assert Config.from_hf(data | rope_parameters(data), "both") == old


def test_original_config_maps_to_the_same_fields() -> None:
    data = hf_config(**PRESETS["20b"])
    original = Config.from_original(original_config(data), "original/config.json")
    assert without(original.to_dict(), "eos_token_id") == without(
        Config.from_hf(data, "config.json").to_dict(), "eos_token_id")
    assert original.eos_token_id == (200002, 199999, 200012)


def test_original_config_of_another_vocabulary_knows_no_token_ids() -> None:
    config = Config.from_original(original_config(hf_config(num_hidden_layers=5)), "original/config.json")
    assert (config.eos_token_id, config.pad_token_id) == ((), None)
    assert config.layer_types == ("sliding_attention", "full_attention", "sliding_attention", "full_attention",
                                  "sliding_attention")
    assert config.max_position_embeddings == 4096 * 32


def test_to_dict_is_plain_python() -> None:
    config = Config.from_hf(hf_config(), "config.json")
    fields = config.to_dict()
    assert json.loads(json.dumps(fields)) == fields
    assert fields["rope_scaling"] == {"rope_type": "yarn", "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0,
                                      "original_max_position_embeddings": 4096, "truncate": False}
    assert set(fields) == set(Config.__dataclass_fields__)


def test_fields_that_may_be_absent() -> None:
    data = without(hf_config(), "swiglu_limit", "layer_types", "initial_context_length", "eos_token_id",
                   "pad_token_id", "hidden_act", "attention_bias", "tie_word_embeddings", "quantization_config",
                   "model_type", "architectures", "experts_per_token")
    config = Config.from_hf(data, "config.json")
    assert (config.swiglu_limit, config.swiglu_alpha, config.initial_context_length) == (7.0, 1.702, 4096)
    assert (config.eos_token_id, config.pad_token_id) == ((), None)
    assert config.layer_types == ("sliding_attention", "full_attention") * 2


def test_top_k_under_its_other_name() -> None:
    data = without(hf_config(num_experts_per_tok=3), "num_experts_per_tok")
    assert Config.from_hf(data, "config.json").num_experts_per_tok == 3


def test_any_layer_types_and_several_eos_ids() -> None:
    types = ["full_attention", "full_attention", "sliding_attention", "full_attention"]
    config = Config.from_hf(hf_config(layer_types=types, eos_token_id=[7, 9]), "config.json")
    assert config.layer_types == tuple(types)
    assert config.eos_token_id == (7, 9)


def test_truncate_absent_means_true_as_in_transformers() -> None:
    data = hf_config()
    data["rope_scaling"] = without(data["rope_scaling"], "truncate", "beta_fast", "beta_slow")
    assert Config.from_hf(data, "config.json").rope_scaling == RopeScaling("yarn", 32.0, 32.0, 1.0, 4096, True)


@pytest.mark.parametrize("rope", [None, {"rope_type": "default"}], ids=["null", "default"])
def test_plain_rope_when_it_is_asked_for(rope: dict[str, Any] | None) -> None:
    config = Config.from_hf(hf_config() | {"rope_scaling": rope}, "config.json")
    assert config.rope_scaling == RopeScaling("default", 1.0, 32.0, 1.0, 4096, False)


def test_alpha_and_attention_factor_when_given() -> None:
    data = hf_config(swiglu_alpha=1.5, rope_scaling={"attention_factor": 0.1 * math.log(32) + 1})
    assert Config.from_hf(data, "config.json").swiglu_alpha == 1.5


REQUIRED = ["num_hidden_layers", "num_local_experts", "num_experts_per_tok", "hidden_size", "intermediate_size",
            "head_dim", "num_attention_heads", "num_key_value_heads", "vocab_size", "sliding_window",
            "max_position_embeddings", "rope_theta", "rope_scaling", "rms_norm_eps"]
NUMBERS = ["rope_theta", "rms_norm_eps", "swiglu_limit", "swiglu_alpha"]
INTEGERS = [key for key in REQUIRED if key not in (*NUMBERS, "rope_scaling")] + ["initial_context_length"]


@pytest.mark.parametrize("key", REQUIRED)
def test_missing_field_is_named(key: str) -> None:
    with pytest.raises(CheckpointError, match=f"config.json: {key}.* is missing"):
        Config.from_hf(without(hf_config(), key, "experts_per_token"), "config.json")


@pytest.mark.parametrize("key", list(original_config(hf_config())))
def test_missing_field_of_original_is_named(key: str) -> None:
    with pytest.raises(CheckpointError, match=f"original: {key} is missing"):
        Config.from_original(without(original_config(hf_config()), key), "original")


@pytest.mark.parametrize("value", [True, 4.0, "4", None, [4], {}, -1, 0, 2**31, 10**400], ids=str)
@pytest.mark.parametrize("key", INTEGERS)
def test_not_an_integer_in_range(key: str, value: object) -> None:
    data = without(hf_config(), "experts_per_token") | {key: value}
    with pytest.raises(CheckpointError, match=f"config.json: {key} should be an integer from 1 to "):
        Config.from_hf(data, "config.json")


@pytest.mark.parametrize("value", [True, "1", None, [1.0], 0, -1.0, 1e31, 10**400, float("inf"), float("nan")], ids=str)
@pytest.mark.parametrize("key", NUMBERS)
def test_not_a_number_in_range(key: str, value: object) -> None:
    with pytest.raises(CheckpointError, match=f"config.json: {key} should be a finite number above"):
        Config.from_hf(hf_config() | {key: value}, "config.json")


@pytest.mark.parametrize(("field", "message"), [
    ({"model_type": "llama"}, "model_type should be 'gpt_oss'"),
    ({"hidden_act": "gelu"}, "hidden_act should be 'silu'"),
    ({"attention_bias": False}, "attention_bias should be True"),
    ({"tie_word_embeddings": True}, "tie_word_embeddings should be False"),
    ({"quantization_config": {"quant_method": "gptq"}}, "quant_method should be 'mxfp4'.*'gptq'"),
    ({"quantization_config": "mxfp4 "}, "quant_method should be 'mxfp4'"),
    ({"experts_per_token": 5}, "experts_per_token should be the same as num_experts_per_tok, but is 5"),
    ({"num_experts_per_tok": 9, "experts_per_token": 9}, "num_experts_per_tok should be at most num_local_experts = 8"),
    ({"num_attention_heads": 7}, "num_attention_heads should be a multiple of num_key_value_heads = 2"),
    ({"num_key_value_heads": 16}, "num_attention_heads should be a multiple of num_key_value_heads = 16"),
    ({"hidden_size": 65}, "hidden_size should be a multiple of 32"),
    ({"intermediate_size": 48}, "intermediate_size should be a multiple of 32"),
    ({"head_dim": 17}, "head_dim should be an even number from 16 to 128"),
    ({"head_dim": 14}, "head_dim should be an even number from 16 to 128"),
    ({"head_dim": 130}, "head_dim should be an even number from 16 to 128"),
    ({"num_hidden_layers": 100_000}, "num_hidden_layers should be an integer from 1 to 65536"),
    ({"layer_types": ["sliding_attention"]}, "layer_types should have num_hidden_layers = 4 entries, but has 1"),
    ({"layer_types": ["full_attention"] * 3 + ["chunked"]}, "layer_types should be a list of 'sliding_attention'"),
    ({"layer_types": "full_attention"}, "layer_types should be a list"),
    ({"layer_types": [["full_attention"]] * 4}, "layer_types should be a list"),
    ({"eos_token_id": 512}, "eos_token_id should be an integer from 0 to 511, but is 512"),
    ({"eos_token_id": [1, True]}, "eos_token_id should be an integer"),
    ({"pad_token_id": -1}, "pad_token_id should be an integer from 0 to 511"),
    ({"pad_token_id": [1]}, "pad_token_id should be an integer from 0 to 511"),
    ({"rope_theta": 1}, "rope_theta should be a finite number above 1"),
    ({"rope_scaling": 5}, "rope_scaling should be an object"),
    ({"rope_scaling": {}}, "rope_scaling.rope_type should be 'yarn' or 'default', but is None"),
    ({"rope_scaling": {"factor": 32.0}}, "rope_scaling.rope_type should be 'yarn' or 'default', but is None"),
    ({"rope_scaling": {"rope_type": "llama3"}}, "rope_scaling.rope_type should be 'yarn'"),
    ({"rope_scaling": {"rope_type": "yarn", "factor": 32}}, "rope_scaling: original_max_position_embeddings is miss"),
    ({"rope_parameters": {"rope_type": "yarn", "factor": 8}}, "rope_scaling should be the same as rope_parameters"),
], ids=lambda value: json.dumps(value)[:50] if isinstance(value, dict) else None)
def test_contradictions_and_foreign_models(field: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=f"config.json: .*{message}"):
        Config.from_hf(hf_config() | field, "config.json")


@pytest.mark.parametrize(("key", "value"), [
    ("factor", 0.5), ("factor", "32"), ("beta_fast", 0), ("beta_fast", 1), ("beta_slow", None), ("truncate", 0),
    ("original_max_position_embeddings", 4096.0), ("attention_factor", 1.0), ("mscale", 2),
    ("partial_rotary_factor", 0.5)])
@pytest.mark.parametrize("spelling", ["rope_scaling", "rope_parameters"])
def test_rope_fields_are_named(key: str, value: object, spelling: str) -> None:
    data = hf_config(rope_scaling={key: value})
    data = rope_parameters(data) if spelling == "rope_parameters" else data
    with pytest.raises(CheckpointError, match=f"config.json: .*{key} should be"):
        Config.from_hf(data, "config.json")


def test_two_thetas_that_differ() -> None:
    data = rope_parameters(hf_config()) | {"rope_theta": 10000}
    with pytest.raises(CheckpointError, match="rope_theta should be 150000, as in rope_parameters, but is 10000"):
        Config.from_hf(data, "config.json")
