"""transformers as a second opinion: another implementation reads the same folders and must give the same logits."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import reference
import tolerances
from conftest import Case, CaseMaker
from engines import all_logits, open_engine
from reference_rope import rope_table
from shapes import DEFAULT, Shape, shape_named

torch = pytest.importorskip("torch", reason="transformers needs torch")
transformers = pytest.importorskip("transformers", minversion="5.0", reason="gpt-oss as of transformers 5")
pytestmark = pytest.mark.slow

SHAPES = [DEFAULT, *map(shape_named, ("released_window", "random_nibbles", "head_dim_128", "top_one_of_seven"))]


def load(case: Case) -> Any:
    """MXFP4 is dequantised, exactly; sinks need eager attention on a CPU, and eager experts fix the order of sums."""
    transformers.logging.set_verbosity_error()
    return transformers.AutoModelForCausalLM.from_pretrained(
        case.folder, dtype=torch.float32, attn_implementation="eager", experts_implementation="eager",
        quantization_config=transformers.Mxfp4Config(dequantize=True)).eval()


def logits_of(model: Any, tokens: npt.NDArray[np.int32], first_position: int = 0) -> npt.NDArray[np.float32]:
    ids = torch.tensor(tokens[None].astype(np.int64))
    positions = torch.arange(first_position, first_position + len(tokens))[None]
    with torch.no_grad():
        logits: npt.NDArray[np.float32] = model(input_ids=ids, position_ids=positions, use_cache=False).logits[0].numpy()
    return logits


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_three_implementations_agree(case_of: CaseMaker, shape: Shape) -> None:
    case = case_of(shape)
    theirs = logits_of(load(case), case.tokens)
    ours = all_logits(open_engine(case.folder), case.tokens)
    assert np.abs(theirs - case.trace.logits).max() <= tolerances.LOGITS
    assert np.abs(ours - case.trace.logits).max() <= tolerances.LOGITS
    assert np.abs(ours - theirs).max() <= 2 * tolerances.LOGITS


@pytest.mark.parametrize("first_position", [4090, 99_900])
def test_far_positions(case_of: CaseMaker, first_position: int) -> None:
    case = case_of(DEFAULT)
    tokens = case.tokens[:60]
    want = reference.forward(case.model, tokens, first_position=first_position).logits
    assert np.abs(logits_of(load(case), tokens, first_position) - want).max() <= tolerances.LOGITS


@pytest.mark.parametrize("head_dim", [16, 64, 128])
@pytest.mark.parametrize("change", [{}, {"truncate": True}, {"factor": 8.0}, {"beta_fast": 8.0, "beta_slow": 2.0}], ids=str)
def test_the_rotary_table_bit_for_bit(head_dim: int, change: dict[str, Any]) -> None:
    """torch takes its powers from SLEEF where it has vectors: the published table is of such a machine."""
    if "AVX512" not in torch.backends.cpu.get_cpu_capability():
        pytest.skip("torch uses AVX-512 for no power here: its table differs from the published one in the last bit")
    from make_checkpoint import hf_config, rope_parameters
    fields = rope_parameters(hf_config(head_dim=head_dim, rope_scaling=change))
    config = transformers.GptOssConfig(head_dim=head_dim, rope_parameters=fields["rope_parameters"],
                                       max_position_embeddings=131072)
    theirs, concentration = transformers.modeling_rope_utils.ROPE_INIT_FUNCTIONS["yarn"](config)
    ours = rope_table(hf_config(head_dim=head_dim, rope_scaling=change))
    assert np.array_equal(ours[0].view(np.int32), theirs.numpy().view(np.int32))
    assert ours[1] == pytest.approx(concentration, abs=1e-15)


def test_greedy_continuation(case_of: CaseMaker) -> None:
    """Twelve tokens through both caches, past the window."""
    case = case_of(DEFAULT)
    model, engine = load(case), open_engine(case.folder)
    theirs = case.tokens[:20]
    ours = case.tokens[:20]
    for _ in range(12):
        theirs = np.append(theirs, logits_of(model, theirs)[-1].argmax()).astype(np.int32)
        ours = np.append(ours, all_logits(engine, ours, [19, 1])[-1].argmax()).astype(np.int32)
    assert ours.tolist() == theirs.tolist()
