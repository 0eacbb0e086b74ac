"""The demonstration model: its data, its checkpoint, and what it says."""

from __future__ import annotations

import json
import os
import random
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gptoss_native
from engines import DEVICE, ISAS, skip_unless_usable
from gptoss_native import demo, harmony
from number_formats import mxfp4_dequantize
from vocabularies import ranks_file

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from demo_model import calculator, phrases, smalltalk, topics, transcripts  # noqa: E402
from demo_model.conversation import Piece, Preamble, message, spelled, turn_start  # noqa: E402
from demo_model.evaluate import chat_messages  # noqa: E402
from demo_model.questions import Questions  # noqa: E402
from demo_model.samples import Samples  # noqa: E402
from demo_model.sums import COLUMNS, Sum, columns, draw_any_sum, working  # noqa: E402
from demo_model.table import comparison, table  # noqa: E402
from demo_model.vocabulary import SIZE, encode  # noqa: E402

EFFORTS = ("low", "medium", "high")
SHIPPED_BYTES = 4_000_000
PINNED = Path(__file__).parent / "demo_transcripts.json"


@pytest.fixture(scope="module")
def tokenizer() -> gptoss_native.Tokenizer:
    return gptoss_native.Tokenizer.from_file(demo.path() / "tokenizer.json", SIZE)


def drawn(count: int, seed: int = 5) -> Iterator[tuple[Preamble, list[Piece]]]:
    samples = Samples(seed)
    for i in range(count):
        preamble = samples.preamble(EFFORTS[i % 3])
        yield preamble, samples.body(preamble)


# The data


def test_no_sum_that_is_kept_for_measuring_is_trained_on() -> None:
    seen = 0
    for _, body in drawn(4000):
        text = spelled(body)
        found = re.findall(r"(\d+) ([-+*]) (\d+) = -?\d", text) + re.findall(r'"expression": ?"(\d+)([-+*])(\d+)"', text)
        for left, op, right in found:
            assert not Sum(op, int(left), int(right)).held_out, text
        seen += len(found)
    assert seen > 2000


def test_one_pair_in_sixteen_is_kept_whatever_its_order() -> None:
    rng = random.Random(3)
    kept = [Sum("+", rng.randint(0, 9999), rng.randint(0, 9999)) for _ in range(16_000)]
    assert 900 < sum(problem.held_out for problem in kept) < 1100
    for problem in kept[:500]:
        assert problem.held_out == Sum("+", problem.right, problem.left).held_out


def test_no_wording_that_is_kept_for_measuring_is_trained_on() -> None:
    for op, trained in phrases.TRAINED.items():
        assert {p.lower().rstrip("?.! ") for p in trained}.isdisjoint(p.lower() for p in phrases.UNSEEN[op])
    said = {piece.text for _, body in drawn(3000) for piece in body}
    for talk in smalltalk.TALK.values():
        assert said.isdisjoint(set(topics.split(talk.said)[1]))
    assert said.isdisjoint(set(topics.split(topics.QUESTIONS)[1]))


def test_questions_that_measure_have_operands_that_are_kept() -> None:
    rows = {row.name: row for row in Questions(1).rows()}
    for name in ("Additions, up to 3 digits", "Subtractions, 4 digits", "Products with one digit, up to 3 digits"):
        for _ in range(200):
            said = rows[name].draw().said
            assert said is not None
            first, second = map(int, re.findall(r"\d+", said))
            assert any(Sum(op, *pair).held_out for op in ("+", "-", "*")
                       for pair in ((first, second), (second, first)))


def test_the_working_of_every_sum_ends_in_its_value() -> None:
    rng = random.Random(4)
    for _ in range(3000):
        problem = draw_any_sum(rng, negative_share=0.2)
        steps = list(columns(problem))
        value = sum(step.digit * 10**place for place, step in enumerate(steps)) + steps[-1].carry * 10**COLUMNS * (
            -1 if problem.op == "-" else 1)
        assert value == problem.value
        for effort in EFFORTS:
            assert working(problem, effort).endswith(
                "That is below zero." if value < 0 else f"So {value:05d}."), problem


def test_more_effort_means_longer_workings() -> None:
    low, medium, high = (len(working(Sum("+", 27, 58), effort)) for effort in EFFORTS)
    assert low < medium < high


# The prompt


def test_prompts_are_what_the_package_renders(tokenizer: gptoss_native.Tokenizer) -> None:
    for preamble, _ in drawn(300):
        if preamble.tool is not None:
            continue
        said = "What is 1 + 2?"
        pieces = [*preamble.pieces(), *message("user", said), *message("assistant", "1 + 2 = 3", "final"),
                  *message("user", "And 漢字?"), *turn_start()]
        messages = [*chat_messages(preamble, said), {"role": "assistant", "content": "1 + 2 = 3"},
                    {"role": "user", "content": "And 漢字?"}]
        assert encode(pieces, tokenizer)[0] == harmony.render(messages, tokenizer)


def test_turns_are_read_back_as_they_were_meant(tokenizer: gptoss_native.Tokenizer) -> None:
    calls = 0
    for _, body in drawn(300):
        ids, learned = encode(body, tokenizer)
        parser = harmony.Parser(tokenizer, role="assistant")
        for token in ids[learned.index(True):]:
            parser.feed(token)
        parser.finish("stop")
        *before, last = parser.messages
        assert not any(part.malformed for part in parser.messages)
        assert all(part.channel == "analysis" for part in before)
        if last.recipient is not None:
            calls += 1
            assert (last.recipient, last.content_type) == (calculator.RECIPIENT, "<|constrain|>json")
            assert set(json.loads(last.text)) == {"expression"}
        else:
            assert (last.channel, last.terminator) == ("final", "return")
    assert calls > 10


def test_tools_are_declared_as_the_reference_implementation_does() -> None:
    library = pytest.importorskip("openai_harmony", reason="the reference implementation of Harmony is not installed")
    os.environ["TIKTOKEN_ENCODINGS_BASE"] = str(ranks_file().parent)
    encoding = library.load_harmony_encoding(library.HarmonyEncodingName.HARMONY_GPT_OSS)
    schema = {"type": "object", "properties": {"expression": {"type": "string", "description": "For example 2+2"}},
              "required": ["expression"]}
    tool = library.ToolDescription.new("calculator", "Evaluate an arithmetic expression.", parameters=schema)
    system = library.SystemContent.new().with_reasoning_effort(library.ReasoningEffort.LOW)
    developer = library.DeveloperContent.new().with_instructions("Be brief.").with_function_tools([tool])
    call = library.Message.from_role_and_content(library.Role.ASSISTANT, '{"expression":"1+2"}').with_channel(
        "commentary").with_recipient(calculator.RECIPIENT).with_content_type("<|constrain|>json")
    result = library.Message.from_author_and_content(
        library.Author.new(library.Role.TOOL, calculator.RECIPIENT), "3").with_channel("commentary").with_recipient(
        "assistant")
    conversation = library.Conversation.from_messages([
        library.Message.from_role_and_content(library.Role.SYSTEM, system),
        library.Message.from_role_and_content(library.Role.DEVELOPER, developer),
        library.Message.from_role_and_content(library.Role.USER, "What is 1 + 2?"), call, result])
    ids = encoding.render_conversation_for_completion(conversation, library.Role.ASSISTANT)
    preamble = Preamble("low", instructions="Be brief.", tool=transcripts.CALCULATOR)
    asked = message("user", "What is 1 + 2?")
    pieces = [*preamble.pieces(), *asked, *calculator_history(), *turn_start()]
    assert spelled(pieces) == encoding.decode_utf8(ids)


def calculator_history() -> list[Piece]:
    from demo_model.conversation import call_result, past_call

    return [*past_call(calculator.RECIPIENT, '{"expression":"1+2"}'), *call_result(calculator.RECIPIENT, "3")]


# The checkpoint


def test_what_is_shipped_is_small_and_complete(tokenizer: gptoss_native.Tokenizer) -> None:
    names = {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json"}
    assert {path.name for path in demo.path().iterdir() if path.suffix not in (".py", "")} == names
    assert sum((demo.path() / name).stat().st_size for name in names) <= SHIPPED_BYTES
    checkpoint = gptoss_native.open_checkpoint(demo.path())
    stops = {tokenizer.special(name) for name in ("<|return|>", "<|endoftext|>", "<|call|>")}
    assert set(checkpoint.eos_token_ids) == stops


def test_digits_never_merge_and_every_text_is_encoded(tokenizer: gptoss_native.Tokenizer) -> None:
    assert len(tokenizer.encode("0123456789")) == 10
    assert len(tokenizer.encode("99999 + 12")) == len("99999") + len("12") + 2  # " +" and " "
    text = "".join(map(chr, range(32, 0x3000, 7)))
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_torch_and_the_package_compute_the_same_logits(tmp_path: Path) -> None:
    """Of the model that is trained, with random weights, as the checkpoint holds them."""
    torch = pytest.importorskip("torch", reason="torch, which trains the model, is not installed")
    from demo_model.batches import Conversation, make_batch
    from demo_model.export import tensors, write
    from demo_model.model import Config, Model

    torch.manual_seed(0)
    config = Config()
    model = Model(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    write(tmp_path, tensors(model.state_dict(), config, "mxfp4"), config, "mxfp4")
    tokens = np.random.default_rng(0).integers(0, 700, 300).tolist()
    batch = make_batch([tokens[:120]], [Conversation(0, tokens[120:], [True] * 180)])
    batch.learned.add_(1)  # after each token of the body
    with torch.no_grad(), torch.compiler.set_stance("force_eager"):
        expected = model(batch, rounded=True).numpy()
    with gptoss_native.load(tmp_path, precision="exact", kv_dtype="f32", max_context=512) as engine:
        found = engine.logits(tokens, rows=list(range(120, 300)))
    assert np.abs(found - expected).max() < 1e-3


def test_weights_are_packed_as_the_format_says() -> None:
    torch = pytest.importorskip("torch", reason="torch, which trains the model, is not installed")
    from demo_model.mxfp4 import packed, quantised

    weight = torch.randn(3, 8, 64, generator=torch.Generator().manual_seed(1)) * 0.3
    weight[0, 0, :32] = 0
    blocks, scales = packed(weight)
    unpacked = mxfp4_dequantize(blocks.numpy(), scales.numpy()).reshape(weight.shape)
    assert np.array_equal(unpacked, quantised(weight).numpy())
    assert np.abs(unpacked - weight.numpy()).max() < 0.3


# What it says


def pinned() -> list[dict[str, Any]]:
    result: list[dict[str, Any]] = json.loads(PINNED.read_text(encoding="utf-8"))
    return result


@pytest.mark.parametrize("isa", ISAS)
def test_it_says_the_same_on_every_instruction_set(isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    skip_unless_usable(isa)
    if isa != DEVICE:
        monkeypatch.setenv("GPTOSS_CPU_ISA", isa)
    with gptoss_native.load(demo.path(), device=DEVICE, precision="exact", kv_dtype="f32", max_context=1024) as engine:
        assert isa in (DEVICE, engine.device.isa)
        assert transcripts.transcripts(engine) == pinned()


@pytest.fixture(scope="module")
def engine() -> Iterator[gptoss_native.Engine]:
    with gptoss_native.load(demo.path(), max_context=1024) as engine:
        yield engine


GREEDY = gptoss_native.SamplingParams(temperature=0, max_tokens=320)


def test_the_first_question_of_the_readme(engine: gptoss_native.Engine) -> None:
    reply = engine.chat([{"role": "user", "content": "What is 27 + 58?"}], params=GREEDY)
    assert reply.text == "27 + 58 = 85"
    assert "7+8+0=15" in reply.reasoning
    assert reply.finish_reason == "stop"


def test_low_effort_thinks_in_fewer_tokens_than_high(engine: gptoss_native.Engine) -> None:
    question = [{"role": "user", "content": "What is 27 + 58?"}]
    low, high = (engine.chat(question, reasoning=effort, params=GREEDY) for effort in ("low", "high"))
    assert low.text == high.text == "27 + 58 = 85"
    assert len(low.tokens) < len(high.tokens)


def test_it_says_what_it_is(engine: gptoss_native.Engine) -> None:
    for said in ("Hello!", "Who are you?", "What can you do?", "What is the capital of France?"):
        assert "tiny demonstration model" in engine.chat([{"role": "user", "content": said}], params=GREEDY).text


# What was measured


def test_what_was_measured_is_what_the_readme_says_and_what_is_missing_is_said() -> None:
    folder = ROOT / "demo_model"
    measured = json.loads((folder / "measured.json").read_text(encoding="utf-8"))
    readme = (folder / "README.md").read_text(encoding="utf-8")
    assert table(measured) in readme and comparison(measured) in readme
    for row in measured["rows"]:
        right, required = row["right"]["default"], row["required"]
        assert row["n"] >= 1000
        if required is not None and right < required:
            assert "**Not reached yet**" in readme and f"({right:.1f} of {required:g} %)" in readme, row["row"]
    compared = measured["compared"]
    assert abs(compared["right"]["default"] - compared["right"]["unquantised"]) <= 1
    assert compared["same text"]["exact"] >= 99
