"""The engine as callers see it: logits, generations, what is cached, what stops it, what it refuses."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import gptoss_native as gptoss
from checkpoint_layouts import write_bf16, write_hf
from engines import DEVICE
from gptoss_native import SamplingParams
from gptoss_native.engine import memory
from gptoss_native.engine.planning import MAX_OUTPUTS, TOKEN_BUDGET
from make_checkpoint import bf16_round, hf_config, make_tensors

CONTEXT = 2048
GREEDY = SamplingParams(temperature=0, max_tokens=24)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small checkpoint with a small real tokenizer."""
    path = tmp_path_factory.mktemp("engine")
    config = hf_config(num_hidden_layers=2)
    write_hf(path, config, make_tensors(config), files=2)
    return path


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[gptoss.Engine]:
    with gptoss.load(folder, max_context=CONTEXT) as made:
        yield made


@pytest.fixture(scope="module")
def long_engine(folder: Path) -> Iterator[gptoss.Engine]:
    """Its prefills can take seconds."""
    with gptoss.load(folder, max_context=100_000) as made:
        yield made


@pytest.fixture(scope="module")
def cold(folder: Path) -> Iterator[gptoss.Engine]:
    """Remembers nothing."""
    with gptoss.load(folder, max_context=CONTEXT, threads=1, max_checkpoints=0) as made:
        yield made


def ids(count: int, seed: int = 0) -> npt.NDArray[np.int32]:
    return np.random.default_rng(seed).integers(1, 480, count).astype(np.int32)


LONG = ids(90_000)


# Logits


def test_logits_of_all_rows_and_of_some_are_the_same_numbers(engine: gptoss.Engine) -> None:
    prompt = ids(TOKEN_BUDGET + 2 * MAX_OUTPUTS + 3)
    every = engine.logits(prompt)
    assert every.shape == (len(prompt), engine.config.vocab_size) and every.dtype == np.float32
    rows = [-1, 5, 5, 0, len(prompt) - 1, 300, -len(prompt)]
    np.testing.assert_array_equal(engine.logits(prompt, rows=rows), every[rows])
    np.testing.assert_array_equal(engine.logits(prompt.tolist(), rows=np.array(rows)), every[rows])
    np.testing.assert_array_equal(engine.logits(prompt, rows=range(100, 300)), every[100:300])
    assert engine.logits(prompt, rows=[]).shape == (0, engine.config.vocab_size)


@pytest.mark.parametrize(("prompt", "error", "words"), [
    ([], ValueError, "empty"),
    ("", ValueError, "empty"),
    ([1, True], TypeError, "index 1 is bool"),
    ([1.0], TypeError, "float"),
    (np.array([1.0]), TypeError, "float64"),
    (np.array([[1]]), TypeError, "one-dimensional"),
    (np.array([True]), TypeError, "bool"),
    (["1"], TypeError, "str"),
    (b"text", TypeError, "bytes"),
    (7, TypeError, "int"),
    (None, TypeError, "NoneType"),
    ({1, 2}, TypeError, "set"),
    ([3, -1], ValueError, "-1 at index 1"),
    ([512], ValueError, "512 at index 0 is not between 0 and 511"),
    ([2**80], ValueError, "64 bits"),
    ([1] * (CONTEXT + 1), ValueError, f"{CONTEXT + 1} tokens.*max_context={CONTEXT}"),
])  # fmt: skip
def test_a_bad_prompt_is_named(engine: gptoss.Engine, prompt: Any, error: type[Exception], words: str) -> None:
    for call in (engine.logits, engine.generate, engine.stream):
        with pytest.raises(error, match=words):
            call(prompt)


@pytest.mark.parametrize(("rows", "error"), [
    ([3], ValueError), ([-4], ValueError), ([0.0], TypeError), ([True], TypeError), (1, TypeError), ("0", TypeError),
])  # fmt: skip
def test_a_bad_row_is_named(engine: gptoss.Engine, rows: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="row"):
        engine.logits([1, 2, 3], rows=rows)


def test_logits_that_would_not_fit_are_refused_with_figures(
    engine: gptoss.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gptoss_native.engine.engine.available_bytes", lambda: 10 * 4 * 512)
    assert len(engine.logits(ids(10))) == 10
    with pytest.raises(gptoss.OutOfMemory, match=r"11 rows by 512 ids.*at most 10 rows"):
        engine.logits(ids(11))


# Generation


def test_greedy_tokens_are_the_argmax_of_the_logits(engine: gptoss.Engine) -> None:
    prompt = ids(40).tolist()
    completion = engine.generate(prompt, GREEDY)
    every = engine.logits([*prompt, *completion.tokens[:-1]], rows=range(39, 39 + len(completion.tokens)))
    assert completion.tokens == tuple(every.argmax(axis=1))


@pytest.mark.parametrize("params", [
    GREEDY,
    SamplingParams(temperature=1e-9, max_tokens=24),
    SamplingParams(top_p=1e-50, max_tokens=24),
    SamplingParams(temperature=np.float32(0), top_p=1, max_tokens=np.int64(24)),
], ids=["zero", "tiny temperature", "tiny top_p", "numpy numbers"])  # fmt: skip
def test_what_leaves_one_choice_is_greedy(engine: gptoss.Engine, params: SamplingParams) -> None:
    assert engine.generate("The quick", params).tokens == engine.generate("The quick", GREEDY).tokens


def test_the_same_seed_gives_the_same_tokens_cold_warm_streamed_and_with_other_threads(
    engine: gptoss.Engine, cold: gptoss.Engine
) -> None:
    params = SamplingParams(seed=2**64 - 1, top_p=0.9, max_tokens=30)
    prompt = ids(TOKEN_BUDGET + 100, seed=3)
    first = engine.generate(prompt, params)
    assert first.cached_tokens == 0
    warm = engine.generate(prompt, params)
    assert warm.cached_tokens == len(prompt) - 1
    assert cold.generate(prompt, params).cached_tokens == 0
    streamed = [token.id for token in cold.stream(prompt, params)]
    assert first.tokens == warm.tokens == tuple(streamed)
    assert engine.generate(prompt, SamplingParams(seed=1, top_p=0.9, max_tokens=30)).tokens != first.tokens


def test_a_checkpoint_may_say_that_it_is_not_sampled_from(folder: Path, tmp_path: Path, engine: gptoss.Engine) -> None:
    for path in folder.iterdir():
        if path.name != "generation_config.json":
            (tmp_path / path.name).symlink_to(path)
    generation = json.loads((folder / "generation_config.json").read_text())
    (tmp_path / "generation_config.json").write_text(json.dumps(generation | {"do_sample": False}))
    assert engine.default_params == SamplingParams()
    with gptoss.load(tmp_path, max_context=64) as own:
        assert own.default_params == SamplingParams(temperature=0)
        assert own.stream([1, 2, 3]).run().tokens == own.generate([1, 2, 3], SamplingParams(temperature=0)).tokens


def test_a_fresh_seed_is_reported_and_repeats_the_completion(engine: gptoss.Engine) -> None:
    first, second = (engine.generate("hello", SamplingParams(max_tokens=20)) for _ in range(2))
    assert first.seed != second.seed
    assert engine.generate("hello", SamplingParams(max_tokens=20, seed=first.seed)).tokens == first.tokens


def test_a_stop_token_is_the_last_token_and_no_text(engine: gptoss.Engine) -> None:
    free = engine.generate("The quick", GREEDY)
    stop = free.tokens[7]
    stopped = engine.generate("The quick", SamplingParams(temperature=0, stop_token_ids=[511, stop]))
    end = free.tokens.index(stop) + 1
    assert (stopped.tokens, stopped.finish_reason) == (free.tokens[:end], "stop")
    assert stopped.text == engine.tokenizer.decode(stopped.tokens[:-1])
    assert stopped.prompt_tokens == len(engine.tokenizer.encode("The quick"))


def test_the_checkpoints_own_stop_tokens_end_a_generation(folder: Path, tmp_path: Path, engine: gptoss.Engine) -> None:
    for path in folder.iterdir():
        (tmp_path / path.name).symlink_to(path)
    stop = engine.generate("The quick", GREEDY).tokens[3]
    generation = tmp_path / "generation_config.json"
    generation.unlink()
    generation.write_text(json.dumps({"eos_token_id": [510, stop]}))
    with gptoss.load(tmp_path, max_context=CONTEXT) as other:
        completion = other.generate("The quick", SamplingParams(temperature=0))
    assert completion.finish_reason == "stop" and completion.tokens[-1] == stop


@pytest.mark.parametrize("seed", range(5))
def test_streamed_pieces_add_up_to_the_whole_text(engine: gptoss.Engine, seed: int) -> None:
    params = SamplingParams(seed=seed, max_tokens=50)
    with engine.stream("The quick", params) as stream:
        tokens = list(stream)
    whole = engine.generate("The quick", params)
    assert "".join(token.text or "" for token in tokens) == whole.text == stream.completion.text
    assert [token.finish_reason for token in tokens[:-1]] == [None] * (len(tokens) - 1)
    assert tokens[-1].finish_reason == whole.finish_reason
    shown = whole.tokens[:-1] if whole.finish_reason == "stop" else whole.tokens
    assert whole.text == engine.tokenizer.decode(shown)


def test_generation_ends_when_the_context_is_full(engine: gptoss.Engine) -> None:
    prompt = ids(CONTEXT - 3, seed=5)
    completion = engine.generate(prompt, SamplingParams(temperature=0))
    assert (len(completion.tokens), completion.finish_reason) == (3, "length")
    full = engine.generate(ids(CONTEXT), SamplingParams(temperature=0))
    assert (full.tokens, full.text, full.finish_reason) == ((), "", "length")
    assert engine.logits(ids(CONTEXT), rows=[-1]).shape == (1, 512)


@pytest.mark.parametrize(("arguments", "error", "words"), [
    ({"temperature": -0.1}, ValueError, "temperature must be between"),
    ({"temperature": float("nan")}, ValueError, "nan"),
    ({"temperature": float("inf")}, ValueError, "inf"),
    ({"temperature": 10**400}, ValueError, "temperature"),
    ({"temperature": "1"}, TypeError, "temperature must be a number, not str"),
    ({"temperature": True}, TypeError, "bool"),
    ({"temperature": None}, TypeError, "NoneType"),
    ({"top_p": 0}, ValueError, "top_p must be above 0"),
    ({"top_p": 1.01}, ValueError, "1.01"),
    ({"seed": -1}, ValueError, "seed must be between 0"),
    ({"seed": 2**64}, ValueError, "seed"),
    ({"seed": 1.0}, TypeError, "seed must be an integer, not float"),
    ({"max_tokens": 0}, ValueError, "max_tokens must be at least 1, not 0"),
    ({"max_tokens": True}, TypeError, "bool"),
    ({"stop_token_ids": 3}, TypeError, "sequence"),
    ({"stop_token_ids": "3"}, TypeError, "sequence"),
    ({"stop_token_ids": ["3"]}, TypeError, "each of stop_token_ids"),
    ({"stop_token_ids": [-1]}, ValueError, "at least 0"),
])  # fmt: skip
def test_sampling_out_of_range_is_named(arguments: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        SamplingParams(**arguments)


def test_sampling_that_does_not_fit_the_model_is_named(engine: gptoss.Engine) -> None:
    with pytest.raises(ValueError, match="stop token id 512"):
        engine.stream("text", SamplingParams(stop_token_ids=(512,)))
    with pytest.raises(TypeError, match="params must be SamplingParams, not dict"):
        engine.generate("text", {"temperature": 0})  # type: ignore[arg-type]


# The cache


def test_a_longer_prompt_prefills_only_what_is_new(engine: gptoss.Engine, cold: gptoss.Engine) -> None:
    prompt = ids(900, seed=7)
    completion = engine.generate(prompt, GREEDY)
    longer = [*prompt.tolist(), *completion.tokens, *ids(5, seed=8).tolist()]
    warm = engine.generate(longer, GREEDY)
    assert warm.cached_tokens == 900 + len(completion.tokens) - 1  # the last token was drawn, not computed
    assert warm.tokens == cold.generate(longer, GREEDY).tokens


@pytest.mark.parametrize("kept", [0, 1, 500, 890, 899])
def test_a_prompt_that_turns_off_a_cached_one_gives_the_cold_logits(
    engine: gptoss.Engine, cold: gptoss.Engine, kept: int
) -> None:
    prompt = ids(900, seed=9)
    other = np.concatenate([prompt[:kept], (prompt[kept : kept + 20] + 1) % 480])
    engine.logits(prompt, rows=[-1])
    np.testing.assert_array_equal(engine.logits(other, rows=[-1]), cold.logits(other, rows=[-1]))


def test_two_streams_of_one_engine_may_take_turns(engine: gptoss.Engine) -> None:
    params = SamplingParams(seed=5, max_tokens=12)
    prompts = [ids(30, seed=10), ids(200, seed=11)]
    alone = [engine.generate(prompt, params).tokens for prompt in prompts]
    together = list(zip(*(engine.stream(prompt, params) for prompt in prompts), strict=True))
    assert [tuple(token.id for token in stream) for stream in zip(*together, strict=True)] == alone


def test_many_threads_may_share_an_engine_and_two_engines_run_side_by_side(
    engine: gptoss.Engine, cold: gptoss.Engine
) -> None:
    def work(seed: int) -> tuple[int, ...]:
        return (engine, cold)[seed % 2].generate(ids(50, seed), SamplingParams(seed=seed, max_tokens=20)).tokens

    alone = [work(seed) for seed in range(8)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(8))) == alone


# What stops the work


def test_closing_a_stream_ends_it(engine: gptoss.Engine) -> None:
    stream = engine.stream("The quick", GREEDY)
    next(stream)
    with pytest.raises(gptoss.GptOssError, match="has not ended"):
        _ = stream.completion
    stream.close()
    assert list(stream) == []
    with pytest.raises(gptoss.Cancelled, match="stream was closed"):
        _ = stream.completion
    assert len(engine.generate("The quick", GREEDY).tokens) == 24


def test_closing_a_stream_from_another_thread_stops_a_long_prefill(long_engine: gptoss.Engine) -> None:
    stream = long_engine.stream(LONG, GREEDY)
    timer = threading.Timer(0.2, stream.close)
    timer.start()
    with pytest.raises(gptoss.Cancelled, match="stream was closed"):
        next(stream)
    timer.join()
    assert list(stream) == []
    assert len(long_engine.generate("The quick", GREEDY).tokens) == 24


def test_closing_a_stream_that_waits_for_its_turn_stops_the_wait(folder: Path) -> None:
    with gptoss.load(folder, max_context=100_000, max_sequences=1) as own, ThreadPoolExecutor(2) as pool:
        busy, waiting = own.stream(LONG, GREEDY), own.stream([1, 2], GREEDY)
        first, second = pool.submit(next, busy), pool.submit(next, waiting)
        threading.Event().wait(0.1)
        assert not second.done()
        waiting.close()
        assert isinstance(second.exception(timeout=60), gptoss.Cancelled)
        assert not first.done()
        busy.close()
        assert isinstance(first.exception(timeout=60), gptoss.Cancelled)


def test_ctrl_c_in_a_long_prefill_leaves_a_sound_engine(long_engine: gptoss.Engine, cold: gptoss.Engine) -> None:
    stream = long_engine.stream(LONG[::-1], GREEDY)
    timer = threading.Timer(0.1, signal.raise_signal, [signal.SIGINT])
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        next(stream)
    timer.join()
    assert list(stream) == []
    prompt = LONG[:-2001:-1]
    np.testing.assert_array_equal(long_engine.logits(prompt, rows=[-1]), cold.logits(prompt, rows=[-1]))


def test_an_error_of_the_progress_callable_leaves_a_sound_engine(folder: Path, engine: gptoss.Engine) -> None:
    def progress(stage: str, done: int, total: int) -> None:
        if (stage, done) == ("prefill", TOKEN_BUDGET):
            raise RuntimeError("from the caller")

    prompt = ids(TOKEN_BUDGET + 10)
    with gptoss.load(folder, max_context=CONTEXT, progress=progress) as own:
        with pytest.raises(RuntimeError, match="from the caller"):
            own.generate(prompt, GREEDY)
        completion = own.generate(prompt, GREEDY)
    assert completion.cached_tokens >= TOKEN_BUDGET
    assert completion.tokens == engine.generate(prompt, GREEDY).tokens


def test_closing_the_engine_stops_what_runs(folder: Path) -> None:
    own = gptoss.load(folder, max_context=100_000)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(own.generate, LONG, GREEDY)
        threading.Event().wait(0.2)
        own.close()
        assert isinstance(running.exception(timeout=60), gptoss.Cancelled)
    own.close()


def test_a_closed_engine_says_so(folder: Path) -> None:
    with gptoss.load(folder, max_context=CONTEXT) as own:
        stream = own.stream("text", SamplingParams(logits_mask=lambda tokens: time.sleep(0.01)))
        next(stream)
    with pytest.raises(gptoss.Cancelled, match="engine was closed"):
        list(stream)
    messages = [{"role": "user", "content": "hello"}]
    calls = [lambda: own.logits([1]), lambda: own.generate("a"), lambda: own.stream("a"), lambda: own.metrics(),
             lambda: own.chat(messages), lambda: own.stream_chat(messages)]  # fmt: skip
    for call in calls:
        with pytest.raises(gptoss.GptOssError, match="engine is closed"):
            call()
    assert own.config.vocab_size == 512 and DEVICE in str(own.device)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork()")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_is_told_so(engine: gptoss.Engine) -> None:
    stream = engine.stream("text", GREEDY)
    next(stream)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            for call in (lambda: engine.logits([1]), lambda: engine.generate("a"), lambda: next(stream)):
                with pytest.raises(gptoss.GptOssError, match="fork"):
                    call()
            engine.close()
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert len(engine.generate("The quick", GREEDY).tokens) == 24


# Loading


@pytest.mark.parametrize(("arguments", "error", "words"), [
    ({"precision": "bf16"}, ValueError, "precision must be 'fast' or 'exact', not 'bf16'"),
    ({"kv_dtype": "f16"}, ValueError, "kv_dtype must be 'bf16' or 'f32', not 'f16'"),
    ({"experts": "int4"}, ValueError, "experts must be None or 'mxfp4', not 'int4'"),
    ({"max_context": 0}, ValueError, "max_context must be at least 1, not 0"),
    ({"max_context": 1e3}, TypeError, "max_context must be an integer"),
    ({"max_context": 131073}, ValueError, "max_position_embeddings, 131072"),
    ({"threads": 0}, ValueError, "threads must be between 1"),
    ({"threads": 2.0}, TypeError, "threads must be an integer"),
    ({"progress": 3}, TypeError, "progress must be callable"),
    ({"device": 0}, TypeError, "device must be a name"),
    ({"device": "tpu"}, gptoss.DeviceError, "'tpu' is not a device"),
])  # fmt: skip
def test_a_bad_argument_of_load_is_named(
    folder: Path, arguments: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        gptoss.load(folder, **arguments)


def test_a_device_that_cannot_be_used_says_why_and_is_not_replaced(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = [device for device in gptoss.info()["devices"] if not (device["built"] and device["present"])]
    if not absent:
        pytest.skip("every device of this package is present")
    reason = absent[0]["detail"]
    with pytest.raises(gptoss.DeviceError) as by_name:
        gptoss.load(folder, device=absent[0]["name"])
    monkeypatch.setenv("GPTOSS_BACKEND", absent[0]["name"])
    with pytest.raises(gptoss.DeviceError, match="GPTOSS_BACKEND") as by_environment:
        gptoss.load(folder)
    assert reason in str(by_name.value) and reason in str(by_environment.value)
    with gptoss.load(folder, device="cpu", max_context=8) as own:  # a name given wins over the environment
        assert own.device.name == "cpu"


def test_progress_counts_layers_and_the_tokens_of_long_prefills(folder: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    with gptoss.load(folder, max_context=CONTEXT, progress=lambda *step: seen.append(step)) as own:
        assert seen == [("load", 1, 2), ("load", 2, 2)]
        seen.clear()
        own.generate(ids(TOKEN_BUDGET), GREEDY)
        assert seen == []
        own.generate(ids(2 * TOKEN_BUDGET + 5, seed=1), GREEDY)
        total = 2 * TOKEN_BUDGET + 5
        assert seen == [("prefill", done, total) for done in (TOKEN_BUDGET, 2 * TOKEN_BUDGET, total)]


def test_a_folder_without_a_tokenizer_works_with_ids(folder: Path, tmp_path: Path, engine: gptoss.Engine) -> None:
    for path in folder.iterdir():
        if path.name != "tokenizer.json":
            (tmp_path / path.name).symlink_to(path)
    with gptoss.load(tmp_path, max_context=CONTEXT) as own:
        completion = own.generate([1, 2, 3], GREEDY)
        assert completion.text is None
        assert completion.tokens == engine.generate([1, 2, 3], GREEDY).tokens
        assert [token.text for token in own.stream([1, 2, 3], GREEDY)] == [None] * 24
        for call in (lambda: own.generate("text"), lambda: own.tokenizer,
                     lambda: own.chat([{"role": "user", "content": "hello"}])):  # fmt: skip
            with pytest.raises(gptoss.TokenizerError, match=r"has no tokenizer\.json"):
                call()


def test_the_limit_of_a_control_group_counts_what_can_be_reclaimed(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("700000\n")
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 200000\n")
    files = ("memory.max", "memory.current", "inactive_file")
    assert list(memory._room_of_group(tmp_path, *files)) == [500_000]
    (tmp_path / "memory.max").write_text("max\n")
    assert list(memory._room_of_group(tmp_path, *files)) == []
    assert list(memory._room_of_group(tmp_path / "absent", *files)) == []


@pytest.mark.parametrize("name", ["gate_up_proj", "down_proj"])
def test_quantising_what_was_mxfp4_costs_nothing(
    folder: Path, tmp_path: Path, engine: gptoss.Engine, name: str
) -> None:
    config = hf_config(num_hidden_layers=2)
    write_bf16(tmp_path, config, make_tensors(config))
    with gptoss.load(tmp_path, experts="mxfp4", max_context=CONTEXT) as own:
        assert own.device.quantization_error[name] == 0
        assert f"{name} quantised to MXFP4 with 0.00% relative RMS error" in str(own.device)
        np.testing.assert_array_equal(own.logits(ids(30)), engine.logits(ids(30)))
    with gptoss.load(tmp_path, max_context=CONTEXT) as own:
        assert own.device.quantization_error == {}
        assert np.abs(own.logits(ids(30)) - engine.logits(ids(30))).max() < 1


def test_quantising_normal_weights_reports_their_error(tmp_path: Path) -> None:
    config = hf_config(num_hidden_layers=1)
    tensors = make_tensors(config)
    dense = {key: value for key, value in tensors.items() if not key.endswith(("_blocks", "_scales"))}
    rng = np.random.default_rng(0)
    for key, shape in (("gate_up_proj", (8, 64, 192)), ("down_proj", (8, 96, 64))):
        dense[f"model.layers.0.mlp.experts.{key}"] = bf16_round(rng.standard_normal(shape) * 0.1)
    kept = {key: value for key, value in config.items() if key != "quantization_config"}
    write_hf(tmp_path / "normal", kept, dense, tokenizer=False)
    with gptoss.load(tmp_path / "normal", experts="mxfp4", max_context=64) as own:
        assert all(0.05 < error < 0.2 for error in own.device.quantization_error.values())
        assert np.isfinite(own.logits([1, 2, 3])).all()


# Conversations


def test_a_conversation_goes_on_with_the_reply(engine: gptoss.Engine) -> None:
    messages: list[gptoss.Message | dict[str, str]] = [{"role": "user", "content": "What is the capital of France?"}]
    params = SamplingParams(seed=1, max_tokens=20)
    reply = engine.chat(messages, reasoning="low", params=params)
    assert reply.finish_reason in ("stop", "length", "tool_calls") and len(reply.tokens) <= 20
    again = engine.chat(messages, reasoning="low", params=params)
    assert (again.tokens, again.text, again.messages) == (reply.tokens, reply.text, reply.messages)
    assert again.cached_tokens > 0
    messages += [{"role": "assistant", "content": reply.text}, {"role": "user", "content": "hello"}]
    with engine.stream_chat(messages, "high", params) as stream:
        events = list(stream)
    done = events[-1]
    assert isinstance(done, gptoss.Done)
    assert "".join(event.text for event in events if isinstance(event, gptoss.TextDelta)) == done.text
    assert (stream.reply.text, stream.reply.reasoning) == (done.text, done.reasoning)
    assert stream.reply.prompt_tokens > reply.prompt_tokens


def test_a_chat_stream_can_be_closed(engine: gptoss.Engine) -> None:
    stream = engine.stream_chat([{"role": "user", "content": "hello"}], params=SamplingParams(seed=1))
    next(stream)
    with pytest.raises(gptoss.GptOssError, match="has not ended"):
        _ = stream.reply
    stream.close()
    assert list(stream) == []
    with pytest.raises(gptoss.Cancelled):
        _ = stream.reply


def test_bad_messages_are_named(engine: gptoss.Engine) -> None:
    for messages in ([], "hello", [{"role": "robot", "content": "hello"}]):
        with pytest.raises(gptoss.MessageError):
            engine.chat(messages)  # type: ignore[arg-type]
    with pytest.raises(gptoss.MessageError, match="reasoning"):
        engine.chat([{"role": "user", "content": "hello"}], reasoning="much")  # type: ignore[arg-type]


def test_a_stream_refuses_a_second_reader(long_engine: gptoss.Engine) -> None:
    stream = long_engine.stream([3] * 20_000, SamplingParams(seed=1, max_tokens=2))

    def read() -> None:
        with contextlib.suppress(gptoss.Cancelled):
            next(stream)

    reader = threading.Thread(target=read)
    reader.start()
    time.sleep(0.1)
    with pytest.raises(ValueError, match="another thread"):
        next(stream)
    stream.close()
    reader.join()


def test_the_interpreter_may_end_while_a_daemon_thread_computes(folder: Path) -> None:
    program = (
        "import threading, time, gptoss_native as g\n"
        f"e = g.load({str(folder)!r}, max_context=60000)\n"
        "work = lambda: e.generate([3] * 50000, g.SamplingParams(max_tokens=2))\n"
        "threading.excepthook = lambda args: None\n"
        "threading.Thread(target=work, daemon=True).start(); time.sleep(0.5)\n")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_progress_callback_may_call_the_engine(folder: Path) -> None:
    """It runs in the thread that reads, under no lock."""
    calls: list[npt.NDArray[np.float32]] = []

    def progress(stage: str, done: int, total: int) -> None:
        if stage == "prefill" and not calls:
            calls.append(np.empty(0, np.float32))
            calls.append(engine.logits([1]))

    with gptoss.load(folder, max_context=4096, progress=progress) as engine:
        engine.generate([3] * 1200, SamplingParams(max_tokens=1))
        assert np.array_equal(calls[1], engine.logits([1]))
