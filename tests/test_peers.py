"""The GGUF that other engines read holds what the checkpoint holds, and llama.cpp computes with it what we compute."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from checkpoint_layouts import write_hf
from make_checkpoint import hf_config, make_tensors
from number_formats import bf16_to_f32, mxfp4_dequantize

gguf = pytest.importorskip("gguf", reason="the package gguf is not installed")
sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.gguf_model import write_gguf  # noqa: E402

CONFIG = hf_config(num_hidden_layers=2, hidden_size=128, intermediate_size=96)


@pytest.fixture(scope="module")
def tensors() -> dict[str, Any]:
    return make_tensors(CONFIG, random_nibbles=True)


@pytest.fixture(scope="module")
def folder(tensors: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("peers")
    write_hf(path, CONFIG, tensors)
    return path


@pytest.fixture(scope="module", params=["bf16", "q8_0"])
def model(request: pytest.FixtureRequest, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    path = tmp_path_factory.mktemp("gguf") / "model.gguf"
    write_gguf(folder, path, request.param)
    return request.param, path


def expected(tensors: dict[str, Any], dense: str) -> dict[str, Any]:
    """Name in GGUF -> values, and how far from them it may be."""
    plain = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight",
             "output.weight": "lm_head.weight"}
    found: dict[str, Any] = {}
    for i in range(CONFIG["num_hidden_layers"]):
        layer = f"model.layers.{i}."
        plain |= {f"blk.{i}.{theirs}": layer + ours for theirs, ours in {
            "attn_norm.weight": "input_layernorm.weight", "post_attention_norm.weight": "post_attention_layernorm.weight",
            "attn_q.weight": "self_attn.q_proj.weight", "attn_q.bias": "self_attn.q_proj.bias",
            "attn_k.weight": "self_attn.k_proj.weight", "attn_k.bias": "self_attn.k_proj.bias",
            "attn_v.weight": "self_attn.v_proj.weight", "attn_v.bias": "self_attn.v_proj.bias",
            "attn_output.weight": "self_attn.o_proj.weight", "attn_output.bias": "self_attn.o_proj.bias",
            "attn_sinks.weight": "self_attn.sinks", "ffn_gate_inp.weight": "mlp.router.weight",
            "ffn_gate_inp.bias": "mlp.router.bias", "ffn_down_exps.bias": "mlp.experts.down_proj_bias"}.items()}
        up = mxfp4_dequantize(tensors[layer + "mlp.experts.gate_up_proj_blocks"], tensors[layer + "mlp.experts.gate_up_proj_scales"])
        up_bias = bf16_to_f32(tensors[layer + "mlp.experts.gate_up_proj_bias"])
        found |= {f"blk.{i}.ffn_gate_exps.weight": up[:, 0::2], f"blk.{i}.ffn_up_exps.weight": up[:, 1::2],
                  f"blk.{i}.ffn_gate_exps.bias": up_bias[:, 0::2], f"blk.{i}.ffn_up_exps.bias": up_bias[:, 1::2],
                  f"blk.{i}.ffn_down_exps.weight": mxfp4_dequantize(
                      tensors[layer + "mlp.experts.down_proj_blocks"], tensors[layer + "mlp.experts.down_proj_scales"])}
    return found | {theirs: bf16_to_f32(tensors[ours]) for theirs, ours in plain.items()}


def test_a_gguf_holds_the_values_of_the_checkpoint(tensors: dict[str, Any], model: tuple[str, Path]) -> None:
    dense, path = model
    read = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    values = expected(tensors, dense)
    assert read.keys() == values.keys()
    for name, wanted in values.items():
        kind = read[name].tensor_type
        got = gguf.quants.dequantize(read[name].data, kind).reshape(wanted.shape)
        if kind == gguf.GGMLQuantizationType.Q8_0:
            groups, errors = (array.reshape(-1, 32) for array in (wanted, got - wanted))
            step = np.abs(groups).max(axis=1, keepdims=True) / 127
            rounding = 0.5 + 127 * 2**-11  # half a step, and a scale that was rounded to float16
            assert (np.abs(errors) <= 1.001 * rounding * step).all(), name
        else:
            assert np.array_equal(got, wanted), name
    kinds = {read[name].tensor_type.name.lower() for name in ("output.weight", "token_embd.weight", "blk.1.attn_k.weight")}
    assert kinds == {dense}


def test_a_gguf_says_the_shape_of_the_model(model: tuple[str, Path]) -> None:
    fields = {name: field.contents() for name, field in gguf.GGUFReader(model[1]).fields.items()}
    assert fields["general.architecture"] == "gpt-oss"
    wanted = {"block_count": 2, "embedding_length": 128, "expert_count": 8, "expert_used_count": 4, "expert_feed_forward_length": 96,
              "attention.head_count": 8, "attention.head_count_kv": 2, "attention.key_length": 64, "attention.sliding_window": 16,
              "rope.scaling.type": "yarn", "rope.scaling.factor": 32.0, "rope.scaling.original_context_length": 4096,
              "rope.freq_base": 150000.0, "vocab_size": 512}  # fmt: skip
    assert {key: fields[f"gpt-oss.{key}"] for key in wanted} == wanted


def test_llama_cpp_computes_with_it_what_the_engine_computes(tmp_path: Path) -> None:
    """Up to what it rounds: activations to 8 bits, the cache to float16. The bias decides on experts, so that rounding
    does not choose others."""
    pytest.importorskip("llama_cpp", reason="the package llama-cpp-python is not installed")
    from bench.engines import LlamaCpp, Ours

    config = hf_config(num_hidden_layers=4, hidden_size=256, intermediate_size=256)
    write_hf(tmp_path, config, make_tensors(config, stable_routing=True, gain=1.0))
    write_gguf(tmp_path, tmp_path / "model.gguf")
    ids = np.random.default_rng(0).integers(0, config["vocab_size"], 40).astype(np.int32)  # more than the window
    ours = Ours(tmp_path, 1, 64, {"precision": "exact"}).logits(ids)
    theirs = LlamaCpp(tmp_path / "model.gguf", 1, 64, {}).logits(ids)
    assert np.corrcoef(ours, theirs)[0, 1] > 0.995


def test_layers_that_do_not_alternate_are_refused(tmp_path: Path) -> None:
    config = hf_config(num_hidden_layers=2, layer_types=["full_attention"] * 2)
    write_hf(tmp_path, config, make_tensors(config))
    with pytest.raises(ValueError, match="alternate"):
        write_gguf(tmp_path, tmp_path / "model.gguf")
