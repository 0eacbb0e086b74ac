"""The lint of Metal's programs (tests/metal_lint): silent on ours, and not on errors that are planted in them.

A plant is a change of one place in one file, such as an honest mistake; the lint has to name the file and say why.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest

from emulated_metal import needs_clang
from native_build import ROOT

sys.path.insert(0, str(ROOT / "tests/metal_lint"))

from lint import lint  # noqa: E402

PLANTED = [  # where, what was there, what stands there instead, what is said
    # Address spaces
    ("linear.metal", "device float* y = a.y", "float* y = a.y", "says in no way which memory"),
    ("linear.metal", "device float* y = a.y", "threadgroup float* y = a.y", "changes address space|cannot initialize"),
    ("norm.metal", "device const float* x = a.x", "constant float* x = a.x", "changes address space|cannot initialize"),
    ("norm.metal", "constant NormArgs& a [[buffer(0)]]", "NormArgs& a [[buffer(0)]]", "is in no address space"),
    ("attention.metal", "int page, threadgroup float* weights", "int page, device float* weights", "no matching function|changes address"),
    ("attention.metal", "threadgroup float* shared [[threadgroup(0)]]", "device float* shared [[threadgroup(0)]]", "not in threadgroup memory"),
    ("block.h", "threadgroup T* slots", "T* slots", "says in no way which memory"),
    ("sample.metal", "thread U64& key", "U64& key", "says in no way which memory"),
    ("matrix.metal", "threadgroup float* x_tile = shared", "device float* x_tile = reinterpret_cast<device float*>(shared)", "casts away|not allowed|changes address"),
    ("kv.h", "reinterpret_cast<device Kv*>", "reinterpret_cast<threadgroup Kv*>", "cannot initialize|not allowed|changes address"),
    ("load.h", "*to = value; }\ninline", "to = value; }\ninline", "assigning to|incompatible"),
    ("args.h", "GPTOSS_MEMORY float* residual;", "float* residual;", "says in no way which memory"),
    ("attention.metal", "constant constexpr int kLaneDims", "constexpr int kLaneDims", "a variable of the program"),
    ("pair_exp.h", "constant constexpr float kInverseFactorial", "static const float kInverseFactorial", "a variable of the program"),
    # What the language does not have
    ("norm.metal", "float squares = 0;", "double squares = 0;", "no double"),
    ("attention.metal", "= expf(m - highest)", "= std::exp(m - highest)", "no standard library"),
    ("load.h", "if (kCount == 2)", "if constexpr (kCount == 2)", "C\\+\\+14"),
    ("args.h", "GPTOSS_CONSTANT int kTileTokens", "inline constexpr int kTileTokens", "C\\+\\+14"),
    ("mxfp4.h", "namespace gptoss {", "namespace gptoss::simt {", "C\\+\\+14"),
    ("routing.h", "  U64 taken = 0;", "  const auto later = [](U64 key) { return key; };\n  U64 taken = 0;", "no lambdas"),
    ("embed.metal", "precise::cos(angle)", "cos(angle)", "use precise"),
    ("swiglu.h", "expf(-alpha * gate)", "fast::exp(-alpha * gate)", "precise"),
    ("port.h", "shuffle_xor(static_cast<uint>(value), mask)", "simd_shuffle_xor(value, mask)", "deleted"),
    ("sample.metal", "reinterpret_cast<threadgroup atomic_uint*>(bin)", "reinterpret_cast<device atomic_uint*>(bin)", "not allowed|casts away|changes address"),
    ("sample.metal", "reinterpret_cast<threadgroup atomic_uint*>(bin)", "bin", "no matching function"),
    ("sample.metal", "U64 sum = 0, key = 0;", "unsigned long long sum = 0, key = 0;", "no long long"),
    ("moe.metal", "float gate[kTileTokens]", "static float gate[kTileTokens]", "a static variable"),
    ("block.h", "T result = slots[0];", "threadgroup T copies[4];\n  T result = slots[0];", "a kernel's parameter"),
    ("attention.metal", "const float sink = a.sinks[query.head];", "const float sinks[1] = {a.sinks[query.head]};\n  const auto& [sink] = sinks;", "C\\+\\+17"),
    ("routing.h", "    if (lane == 0) choice", "    if (const int e = expert; lane == 0) choice", "C\\+\\+17"),
    ("moe.metal", "static_cast<int>(block.y) >= *a.tile_count || row", "min(block.y, 9) >= *a.tile_count || row", "ambiguous"),
    ("routing.h", "ExpertTile{e, from,", "ExpertTile{e, 1u * from,", "narrow"),
    ("sample.metal", "return by_mass ? mass : 1;", "if (by_mass) return mass;", "does not return"),
    # Names, types, numbers of arguments
    ("moe.metal", "a.experts.k;", "a.experts.depth;", "no member named"),
    ("linear.metal", "const int count =", "const int half =", "expected unqualified-id|cannot combine|half"),
    ("moe.metal", "dot(row_of(e,", "dot(row_off(e,", "undeclared"),
    ("linear.metal", "a.k, x, count, sums, lane", "a.k, x, count, sums", "no matching function"),
    ("load.h", "const float4 v = *reinterpret_cast<device const float4*>(from + i);", "const float2 v = *reinterpret_cast<device const float4*>(from + i);", "cannot convert|cannot initialize|no viable|vector"),
    ("route.metal", "const int token = global_warp", "const int token = 0.5f + global_warp", "conversion"),
    # Barriers and matrices
    ("attention.metal", "sync_warp();  // all weights", "simdgroup_barrier(mem_flags::mem_none);  // all weights", "sync_warp"),
    ("matrix.metal", "sync_block();  // both operands", "threadgroup_barrier(mem_flags::mem_device);  // both operands", "sync_block"),
    ("matrix.metal", "simdgroup_load(left[i], x_tile", "left[i].thread_elements()[0] = x_tile[0];\n        simdgroup_load(left[i], x_tile", "not specified"),
    ("matrix.metal", "simdgroup_matrix<float, 8, 8> right;", "simdgroup_matrix<float, 16, 8> right;", "8 by 8|no matching"),
    # Attributes
    ("norm.metal", "constant RoundArgs& a [[buffer(0)]]", "constant RoundArgs& a", "has no attribute"),
    ("port.h", "[[thread_index_in_simdgroup]]", "[[thread_index_in_warp]]", "is unknown"),
    ("route.metal", "constant GroupArgs& a [[buffer(0)]]", "constant GroupArgs& a [[buffer(31)]]", "0 to 30"),
    ("attention.metal", 'template [[host_name("attn_bf16")]]', 'template [[host_name("attn_f32")]]', "same name"),
    ("qkv.metal", "kernel RotateAppend rotate_append<uint16_t>;", "kernel RotateAppend append_rotate<uint16_t>;", "which is no kernel"),
    ("sample.metal", "[[max_total_threads_per_threadgroup(512)]]", "[[max_threads(512)]]", "is unknown"),
    ("embed.metal", "kernel void embed", "namespace gptoss {\nkernel void embed", "in a namespace"),
]


@pytest.fixture(scope="module")
def compiler() -> list[str]:
    return needs_clang()


def program_in(folder: Path) -> Path:
    """A copy of the program and of all that it includes."""
    for path in [*(ROOT / "metal").glob("*.metal"), *(ROOT / "metal").glob("*.h")]:
        shutil.copy(path, folder)
    for name in ("args.h", "language.h", "numeric.h", "pair.h", "sampling.h", "swiglu.h"):
        shutil.copy(ROOT / "csrc" / name, folder)
    return folder / "gptoss.metal"


def test_nothing_is_said_of_our_program(compiler: list[str]) -> None:
    assert lint(ROOT / "metal/gptoss.metal", [ROOT / "csrc"], compiler) == ""


@pytest.mark.parametrize(("file", "old", "new", "words"), PLANTED,
                         ids=[f"{file}-{number}" for number, (file, *_) in enumerate(PLANTED)])
def test_a_planted_error_is_named(compiler: list[str], tmp_path: Path, file: str, old: str, new: str, words: str) -> None:
    program = program_in(tmp_path)
    text = (tmp_path / file).read_text()
    assert old in text, "the plant's place is gone: choose another"
    (tmp_path / file).write_text(text.replace(old, new, 1))
    complaints = lint(program, [], compiler)
    assert re.search(words, complaints), complaints or "nothing was said"
