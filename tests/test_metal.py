"""The Metal device, end to end without a Mac: its host code over a fake of Metal's runtime, its kernels in the emulator.

The tests of operations and of GPU devices, with this device in their place; and what is Metal's own. Each passes only if
neither the fake, which has the rules of Metal's validation, nor the emulator had anything to report.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tolerances
from conftest import CaseMaker
from emulated_metal import register_emulated_metal
from engines import all_logits, ids
from gptoss_native import _core, ops
from gptoss_native.ops import reference as oracle
from make_checkpoint import hf_config, make_tensors, write_bf16
from shapes import FULL, SLIDING, Shape
from test_device_plugin import open_on
from test_gpu_device import DEFAULT, EXACT, silent, small  # noqa: F401
from test_gpu_device import test_a_window_of_128, test_draws_from_the_same_logits  # noqa: F401
from test_ops import (  # noqa: F401
    Lab,
    test_attention,
    test_attention_of_a_token_alone_is_that_of_the_token_in_a_prefill,
    test_draws_are_those_of_the_oracle,
    test_every_code_under_every_scale,
    test_experts_up_and_down,
    test_linear,
    test_masks_and_edits_of_a_draw,
    test_mxfp4_grouped,
    test_mxfp4_linear,
    test_rope,
    test_route,
    test_rows,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> str:
    return register_emulated_metal(tmp_path_factory)


@pytest.fixture(scope="module")
def lab(device: str) -> Lab:
    return Lab(device, small=True)
