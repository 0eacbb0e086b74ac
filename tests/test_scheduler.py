"""Many callers, one engine: who runs when, what one may notice of the others (nothing), and what comes back."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gptoss_native as gptoss
from engines import DEVICE
from gptoss_native import SamplingParams, _core
from gptoss_native.scheduler.sequence import checkpoint_places
from gptoss_native.scheduler.step import shares
from small_models import SLOW, Gate, endless, held, ids, write_small

CONTEXT = 2048
GREEDY = SamplingParams(temperature=0, max_tokens=12)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small(tmp_path_factory.mktemp("scheduler"))


@pytest.fixture(scope="module")
def slow_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small(tmp_path_factory.mktemp("slow"), **SLOW)


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[gptoss.Engine]:
    with gptoss.load(folder, max_context=CONTEXT, max_sequences=4) as made:
        yield made


@pytest.fixture(scope="module")
def cold(folder: Path) -> Iterator[gptoss.Engine]:
    """One sequence at a time, and it remembers nothing."""
    with gptoss.load(folder, max_context=CONTEXT, max_sequences=1, max_checkpoints=0, threads=1) as made:
        yield made


def at_rest(engine: gptoss.Engine) -> gptoss.Metrics:
    """The metrics, once the engine has nothing to do."""
    until = time.monotonic() + 60
    while (now := engine.metrics()).running or now.waiting:
        assert time.monotonic() < until
        time.sleep(0.001)
    return now


def logprobs(completion: gptoss.Completion) -> tuple[Any, ...]:
    """All that must not depend on anything but the request."""
    return (completion.tokens, completion.text, completion.finish_reason, completion.logprobs, completion.top_logprobs)


# A step's tokens


@dataclass(eq=False)
class Wish:
    """As much of a sequence as the policy looks at."""

    pending: int

    def chunk(self, tokens: int, rows: int) -> int:
        return min(tokens, self.pending)


pendings = st.lists(st.integers(1, 700), min_size=1, max_size=12)


@given(pendings, st.integers(0, 600))
def test_a_step_holds_every_sequence_decodes_first_and_as_much_of_the_prompts_as_fits(
    pending: list[int], spare: int
) -> None:
    budget = len(pending) + spare
    wishes = [Wish(count) for count in pending]
    taken = shares(wishes, budget, len(wishes))  # type: ignore[arg-type]
    assert {id(wish) for wish, _ in taken} == {id(wish) for wish in wishes}
    assert all(1 <= tokens <= wish.pending for wish, tokens in taken)
    assert sum(tokens for _, tokens in taken) == min(budget, sum(pending))
    decodes = [wish.pending == 1 for wish, _ in taken]
    assert decodes == sorted(decodes, reverse=True)


def test_the_shortest_prompt_goes_first_and_the_longest_does_not_starve() -> None:
    """A long prompt, and three short ones that are replaced as soon as they are done: it gets an eighth at least."""
    budget, rng = 64, np.random.default_rng(0)
    long = Wish(10_000)
    others = [Wish(int(rng.integers(2, 500))) for _ in range(3)]
    steps = 0
    while long.pending > 1:
        taken = shares([*others, long], budget, 4)  # type: ignore[list-item]
        shortest = min((wish for wish in [*others, long] if wish.pending > 1), key=lambda wish: wish.pending)
        assert dict(taken)[shortest] == min(shortest.pending, max(tokens for _, tokens in taken))  # type: ignore
        for wish, tokens in taken:
            wish.pending -= tokens
        others = [wish if wish.pending > 0 else Wish(int(rng.integers(2, 500))) for wish in others]
        steps += 1
        assert steps <= 10_000 / (budget / 8)


@given(st.integers(1, 200_000), st.integers(1, 4096), st.lists(st.integers(0, 200_000), max_size=4))
def test_a_prompt_that_turns_off_finds_a_checkpoint_near(tokens: int, chunk: int, asked: list[int]) -> None:
    places = checkpoint_places(tokens, asked, chunk)
    assert places == sorted(set(places)) and 0 < places[0] and places[-1] == tokens
    assert set(places) >= {place for place in asked if 0 < place <= tokens}
    assert len(places) <= 2 + len(asked) + max(0, (tokens // chunk).bit_length())
    for back in {1, tokens // 3, tokens // 2, tokens}:
        nearest = max((place for place in places if place <= tokens - back), default=0)
        assert tokens - back - nearest <= back + chunk + 64


# Together as alone


def test_a_batch_gives_what_each_gives_alone(engine: gptoss.Engine, cold: gptoss.Engine) -> None:
    prompts = [ids(int(count), seed) for seed, count in enumerate([1, 700, 64, 3, 129, 30, 1000, 65, 2, 17])]
    params = [SamplingParams(seed=seed, max_tokens=30, logprobs=True, top_logprobs=seed) for seed in range(10)]
    with ThreadPoolExecutor(10) as pool:
        together = list(pool.map(engine.generate, prompts, params))
    alone = [cold.generate(prompt, each) for prompt, each in zip(prompts, params)]
    assert [logprobs(each) for each in together] == [logprobs(each) for each in alone]


def test_logits_and_generations_run_side_by_side(engine: gptoss.Engine, cold: gptoss.Engine) -> None:
    prompt = ids(900, seed=21)
    every = cold.logits(prompt)
    with engine.stream(ids(50, seed=22), endless()) as stream, ThreadPoolExecutor(3) as pool:
        next(stream)
        parts = [pool.submit(engine.logits, prompt, range(first, 900, 3)) for first in range(3)]
        for first, part in enumerate(parts):
            np.testing.assert_array_equal(part.result(timeout=60), every[first::3])
        assert not stream.cancelled


def test_sequences_join_and_leave_while_others_run(engine: gptoss.Engine) -> None:
    with engine.stream(ids(10), endless()) as stream:
        first = [next(stream).id for _ in range(5)]
        between = [engine.generate(ids(40, seed), SamplingParams(seed=seed, max_tokens=5)) for seed in range(5)]
        rest = [next(stream).id for _ in range(200)]
    alone = [token.id for token, _ in zip(engine.stream(ids(10), endless()), range(205))]
    assert first + rest == alone and len(between) == 5


# Waiting


def test_those_who_wait_run_in_the_order_in_which_they_came(folder: Path) -> None:
    order: list[int] = []

    def note(number: int) -> Any:
        return lambda tokens: order.append(number)

    with gptoss.load(folder, max_context=256, max_sequences=1) as own:
        with held(own):
            streams = [own.stream(ids(5, seed), SamplingParams(max_tokens=2, logits_mask=note(seed), stop_token_ids=[]))
                       for seed in range(6)]  # fmt: skip
            assert own.metrics().waiting == 6
        for stream in streams:
            stream.run()
    assert order == sorted(order) and set(order) == set(range(6))


def test_a_full_queue_is_an_error_and_what_waits_is_served(folder: Path) -> None:
    with gptoss.load(folder, max_context=256, max_sequences=1, max_queue=3) as own:
        with held(own):
            waiting = [own.stream(ids(5, seed), GREEDY) for seed in range(2)]
            with pytest.raises(gptoss.QueueFull, match="3 sequences run or wait, and 2 more .*max_queue=3"):
                own.stream([1], SamplingParams(n=2))
            waiting.append(own.stream(ids(5, 2), GREEDY))
            for call in (own.stream, own.generate, own.logits):
                with pytest.raises(gptoss.QueueFull):
                    call([1])  # type: ignore[operator]
            waiting.pop(0).close()
            while own.metrics().waiting == 3:  # until the engine's thread has looked: it is held
                break
        assert [len(stream.run().tokens) for stream in waiting] == [12, 12] or all(
            stream.completion.finish_reason == "stop" for stream in waiting)
        assert own.generate([1, 2], GREEDY).tokens


def test_what_could_run_at_once_is_not_refused(folder: Path) -> None:
    with gptoss.load(folder, max_context=256, max_sequences=4, max_queue=1) as own:
        assert len(own.generate(ids(5), endless(1, max_tokens=5, n=4)).completions) == 4
        assert len(own.generate(ids(5), endless(1, max_tokens=5, n=5)).completions) == 5
        with pytest.raises(ValueError, match="6 samples are more than the max_sequences=4 that run and the max_queue=1"):
            own.generate(ids(5), endless(1, max_tokens=5, n=6))


def test_an_error_that_was_caught_holds_no_engine(folder: Path) -> None:
    """Its memory is given back with the last reference, not when the garbage collector comes around."""
    gc.collect()
    gc.disable()
    try:
        own = gptoss.load(folder, max_context=256)
        gone = weakref.ref(own)
        with contextlib.suppress(gptoss.Timeout):
            own.generate(ids(5), endless(), timeout=1e-3)
        del own
        assert gone() is None
    finally:
        gc.enable()


def test_no_sequence_waits_for_ever_where_others_keep_coming(folder: Path) -> None:
    with gptoss.load(folder, max_context=1024, max_sequences=2, token_budget=16) as own, ThreadPoolExecutor(3) as pool:
        stop = threading.Event()

        def keep_coming(seed: int) -> int:
            count = 0
            while not stop.is_set():
                own.generate(ids(8, seed + count), SamplingParams(max_tokens=4, seed=0))
                count += 1
            return count

        crowd = [pool.submit(keep_coming, seed) for seed in (0, 1000, 2000)]
        try:
            assert own.generate(ids(900, seed=5), SamplingParams(max_tokens=20, seed=0), timeout=60).tokens
        finally:
            stop.set()
        assert all(each.result(timeout=60) > 1 for each in crowd)


# Samples of one prompt


@pytest.mark.parametrize("tokens", [1, 2, 16, 17, 64, 65, 300, 1500])
def test_n_samples_share_the_prompt_and_the_first_is_that_of_n_1(
    engine: gptoss.Engine, cold: gptoss.Engine, tokens: int
) -> None:
    prompt, seed = ids(tokens, seed=31), 7
    together = engine.generate(prompt, SamplingParams(seed=seed, n=7, max_tokens=20, logprobs=True)).completions
    assert len(together) == 7 and len({each.tokens for each in together}) == 7
    assert [each.cached_tokens for each in together[1:]] == [tokens - 1] * 6
    alone = cold.generate(prompt, SamplingParams(seed=seed, n=7, max_tokens=20, logprobs=True)).completions
    assert [logprobs(each) for each in together] == [logprobs(each) for each in alone]
    assert together[0].tokens == cold.generate(prompt, SamplingParams(seed=seed, max_tokens=20)).tokens
    assert at_rest(engine).running == 0


def test_a_stream_of_n_samples_says_which_token_is_whose(engine: gptoss.Engine) -> None:
    params = SamplingParams(seed=3, n=3, max_tokens=10)
    stream = engine.stream("The quick", params)
    texts, tokens = ["", "", ""], [[], [], []]  # type: ignore[var-annotated]
    for token in stream:
        texts[token.index] += token.text or ""
        tokens[token.index].append(token.id)
    completions = stream.completion.completions
    assert texts == [each.text for each in completions]
    assert [tuple(each) for each in tokens] == [each.tokens for each in completions]


# The cache


def test_turn_two_of_a_conversation_prefills_only_what_is_new(engine: gptoss.Engine, cold: gptoss.Engine) -> None:
    params = SamplingParams(seed=5, max_tokens=40, logprobs=True)
    instructions = {"role": "developer", "content": "Answer in verse, and never mention the sea. " * 6}
    messages: list[gptoss.Message | dict[str, str]] = [instructions, {"role": "user", "content": "Why is it blue?"}]
    first = engine.chat(messages, params=params)
    messages += [{"role": "assistant", "content": first.text or "So."}, {"role": "user", "content": "And at night?"}]
    second = engine.chat(messages, params=params)
    assert second.cached_tokens >= first.prompt_tokens  # reasoning was dropped, the prompt before it is there
    third = engine.chat([instructions, {"role": "user", "content": "Something else."}], params=params)
    assert 100 < third.cached_tokens < first.prompt_tokens  # the instructions
    again = cold.chat(messages, params=params)
    assert again.cached_tokens == 0
    assert (again.tokens, again.logprobs) == (second.tokens, second.logprobs)


def test_a_tool_loop_goes_on_where_the_completion_ended(engine: gptoss.Engine, cold: gptoss.Engine) -> None:
    prompt = ids(300, seed=41)
    first = engine.generate(prompt, SamplingParams(seed=1, max_tokens=50))
    longer = [*prompt.tolist(), *first.tokens, *ids(30, seed=42).tolist()]
    second = engine.generate(longer, GREEDY)
    assert second.cached_tokens == 300 + len(first.tokens) - 1
    assert second.tokens == cold.generate(longer, GREEDY).tokens


def test_a_place_that_the_caller_names_is_remembered(engine: gptoss.Engine) -> None:
    document = ids(400, seed=43)
    questions = [np.concatenate([document, ids(200, seed=seed)]) for seed in (44, 45)]
    engine.generate(questions[0], GREEDY, checkpoints=[400])
    assert engine.generate(questions[1], GREEDY).cached_tokens == 400
    for wrong, error in (([601], ValueError), ([-1], ValueError), (["1"], TypeError)):
        with pytest.raises(error, match="each of checkpoints"):
            engine.generate(questions[0], GREEDY, checkpoints=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("places", [5, None])
def test_places_that_are_no_sequence_are_named(engine: gptoss.Engine, places: Any) -> None:
    with pytest.raises(TypeError, match=f"checkpoints must be a sequence of lengths, not .* {places}"):
        engine.stream(ids(10), GREEDY, checkpoints=places)


def test_shared_instructions_survive_a_long_conversation(folder: Path) -> None:
    """Each turn leaves checkpoints of its own; the instructions' must not be the oldest among them."""
    with gptoss.load(folder, max_context=CONTEXT, max_checkpoints=6) as own:
        instructions = ids(100, seed=51)
        prompt = instructions
        for turn in range(12):
            prompt = np.concatenate([prompt, ids(20, seed=turn)])
            own.generate(prompt, SamplingParams(max_tokens=3, temperature=0), checkpoints=[100])
        other = own.generate(np.concatenate([instructions, ids(9, seed=99)]), GREEDY, checkpoints=[100])
        assert other.cached_tokens == 100


def test_checkpoints_do_not_split_a_step(folder: Path) -> None:
    calls: list[tuple[str, int, int]] = []
    with gptoss.load(folder, max_context=CONTEXT, progress=lambda *call: calls.append(call)) as own:
        calls.clear()
        prompt = ids(200, seed=61)
        own.generate(prompt, GREEDY, checkpoints=[50, 51, 128, 199])
        assert not calls  # a prefill of one step has no progress to tell
        for place in (50, 51, 128, 199):
            other = np.concatenate([prompt[:place], ids(60, seed=place)])
            assert own.generate(other, GREEDY).cached_tokens == place


def test_more_conversations_are_remembered_than_there_are_places(folder: Path) -> None:
    with gptoss.load(folder, max_context=CONTEXT, max_checkpoints=2) as own:
        conversations = [ids(100 + seed, seed=seed) for seed in range(8)]
        for prompt in conversations:
            own.generate(prompt, GREEDY)
        for prompt in conversations:
            again = own.generate(np.concatenate([prompt, ids(5, seed=1)]), GREEDY)
            assert again.cached_tokens >= len(prompt)


def test_checkpoints_that_are_evicted_change_nothing_but_the_work(folder: Path, cold: gptoss.Engine) -> None:
    with gptoss.load(folder, max_context=CONTEXT, max_sequences=2, max_checkpoints=1) as own:
        for seed in range(6):
            prompt = np.concatenate([ids(200, seed=seed % 2), ids(seed, seed=7)])
            assert own.generate(prompt, GREEDY).tokens == cold.generate(prompt, GREEDY).tokens


# Cancelling


def test_a_closed_stream_leaves_the_others_undisturbed_and_gives_its_pages_back(folder: Path) -> None:
    with gptoss.load(folder, max_context=CONTEXT, max_sequences=4, max_checkpoints=0, token_budget=32) as own:
        free = own.metrics().free_pages
        kept = own.stream(ids(30, seed=1), endless(max_tokens=300))
        closed = [own.stream(ids(1500, seed=seed), endless()) for seed in (2, 3)]
        head = [next(kept).id for _ in range(3)]
        for stream in closed:
            stream.close()
        tokens = head + [token.id for token in kept]
        assert at_rest(own).free_pages == free
        assert tuple(tokens) == own.generate(ids(30, seed=1), endless(max_tokens=300)).tokens


@pytest.mark.skipif(DEVICE != "cpu", reason="a GPU ends the step that was submitted")
def test_a_prefill_that_was_closed_does_not_keep_the_others_waiting_to_the_end_of_its_step(slow_folder: Path) -> None:
    budget = 30_000
    with gptoss.load(slow_folder, max_context=budget, max_sequences=2, max_checkpoints=0, token_budget=budget) as own:
        gate = Gate()
        kept = own.stream(ids(5), endless(max_tokens=100, logits_mask=gate))
        assert gate.reached.wait(60)
        long = own.stream(ids(budget - 1), GREEDY)
        gate.open()
        while own.metrics().running < 2:
            time.sleep(0.001)
        time.sleep(0.1)  # into its step, which takes seconds
        long.close()
        rest = [token.id for token in kept]
        assert at_rest(own).prefill_tokens == 5
        assert kept.tokens == own.generate(ids(5), endless(max_tokens=100)).tokens and len(rest) == 100


def test_whatever_ends_a_stream_stops_its_work(slow_folder: Path) -> None:
    """By the stop watch: a prefill of a minute. It is a tenth of a second, where the machine is not busy."""
    with gptoss.load(slow_folder, max_context=131_072, max_sequences=2, threads=1) as own:
        prompt = ids(130_000)

        def closed() -> None:
            own.stream(prompt).close()

        def dropped() -> None:
            own.stream(prompt)

        def left() -> None:
            with own.stream(prompt):
                pass

        def timed_out() -> None:
            with pytest.raises(gptoss.Timeout, match="timeout=0.05"):
                own.generate(prompt, timeout=0.05)
            with pytest.raises(TimeoutError):
                own.logits(prompt, rows=[-1], timeout=0.05)

        def interrupted() -> None:
            timer = threading.Timer(0.05, signal.raise_signal, [signal.SIGINT])
            timer.start()
            with pytest.raises(KeyboardInterrupt):
                own.generate(prompt)

        for ending in (closed, dropped, left, timed_out, interrupted):
            own.generate([1, 2], GREEDY)
            begin = time.monotonic()
            ending()
            at_rest(own)
            assert time.monotonic() - begin < 3, ending.__name__


def test_a_timeout_also_counts_where_nobody_reads(folder: Path) -> None:
    with gptoss.load(folder, max_context=CONTEXT, max_sequences=1) as own:
        stream = own.stream([1], endless(logits_mask=lambda tokens: time.sleep(0.005)), timeout=0.1)
        waiting = own.stream([1], GREEDY, timeout=0.05)
        time.sleep(0.2)
        assert at_rest(own).cancelled == 2
        with pytest.raises(gptoss.Timeout):
            list(stream)
        with pytest.raises(gptoss.Timeout):
            waiting.run()
        assert 0 < len(stream.tokens) < 100
        for wrong, error in ((0, ValueError), (-1, ValueError), (float("nan"), ValueError), ("1", TypeError)):
            with pytest.raises(error, match="timeout"):
                own.generate([1], timeout=wrong)  # type: ignore[arg-type]


def test_random_cancels_leak_nothing(folder: Path) -> None:
    """GPTOSS_CANCELS says how many requests there are (default 2,000)."""
    count = int(os.environ.get("GPTOSS_CANCELS", "2000"))
    with gptoss.load(folder, max_context=256, max_sequences=8, token_budget=32, max_checkpoints=0, threads=1) as own:
        free, rng = own.metrics().free_pages, np.random.default_rng(0)
        prompts = [ids(int(length), seed) for seed, length in enumerate(rng.integers(1, 200, 64))]
        params = [endless(turn, n=1 + (turn == 0)) for turn in range(7)]
        streams: list[gptoss.TokenStream] = []
        for turn in range(count):
            streams.append(own.stream(prompts[turn % 64], params[turn % 7]))
            if len(streams) > 12:
                stream = streams.pop(int(rng.integers(0, 12)))
                for _ in range(int(rng.integers(0, 3)) * (turn % 11 == 0)):
                    next(stream)
                if turn % 2:
                    stream.close()
                del stream
        streams.clear()
        now = at_rest(own)
        assert now.free_pages == free == now.pages
        assert now.cancelled + now.completed == count + len(range(0, count, 7)) and now.failed == 0
        assert len(own.generate(ids(200), endless()).tokens) == 56


# One's own errors


def test_an_error_of_one_sequence_is_its_caller_s_alone(folder: Path) -> None:
    class Mine(Exception):
        pass

    def raises(tokens: Any) -> None:
        if len(tokens) == 3:
            raise Mine("of the caller")

    def wrong_shape(tokens: Any) -> Any:
        return np.zeros(3, np.uint32)

    def forbids_all(tokens: Any) -> Any:
        return np.zeros(16, np.uint32)

    with gptoss.load(folder, max_context=CONTEXT, max_sequences=4, max_checkpoints=0) as own:
        kept = own.stream(ids(10), endless(max_tokens=200))
        for mask, error, words in ((raises, Mine, "of the caller"),
                                   (wrong_shape, TypeError, r"uint32 array \(16,\).* returned uint32 \(3,\)"),
                                   (lambda tokens: [1], TypeError, "returned list"),
                                   (lambda tokens: next(iter(())), RuntimeError, "logits_mask raised StopIteration"),
                                   (forbids_all, gptoss.GptOssError, "no token may be drawn")):  # fmt: skip
            stream = own.stream(ids(10), endless(logits_mask=mask, n=2))
            with pytest.raises(error, match=words):
                list(stream)
            assert list(stream) == [] and stream.cancelled
            with pytest.raises(error, match=words):
                _ = stream.completion
        assert tuple(token.id for token in kept) == own.generate(ids(10), endless(max_tokens=200)).tokens
        after = at_rest(own)
        assert after.free_pages == after.pages and after.failed + after.cancelled == 10


def test_the_engine_says_that_it_cannot_be_called_from_a_mask(engine: gptoss.Engine) -> None:
    with pytest.raises(gptoss.GptOssError, match="called from inside logits_mask"):
        engine.generate([1], SamplingParams(logits_mask=lambda tokens: engine.generate([1]) and None))


def test_a_device_that_fails_is_every_sequence_s_error_and_the_engine_goes_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with gptoss.load(folder, max_context=256) as own:
        with held(own):
            streams = [own.stream(ids(5, seed), GREEDY) for seed in range(3)]
            native = own._scheduler._native
            broken = type("Broken", (), {"__getattr__": lambda self, name: getattr(native, name),
                                         "step": lambda self, *_: (_ for _ in ()).throw(RuntimeError("it broke"))})()
            monkeypatch.setattr(own._scheduler._driver, "_native", broken)
        for stream in streams:
            with pytest.raises(gptoss.DeviceError, match="it broke"):
                list(stream)
        monkeypatch.undo()
        assert own.generate(ids(5), GREEDY).tokens


# Room


def test_out_of_pages_the_youngest_waits_and_gives_the_same_tokens(folder: Path, cold: gptoss.Engine) -> None:
    """Three sequences share what one and a half whole contexts take."""
    with gptoss.load(folder, max_context=512, max_sequences=3, max_total_tokens=768, max_checkpoints=2,
                     token_budget=64) as own:  # fmt: skip
        prompts, params = [ids(200, seed) for seed in range(3)], [endless(seed, logprobs=True) for seed in range(3)]
        with held(own):
            streams = [own.stream(prompt, each) for prompt, each in zip(prompts, params)]
        completions = [stream.run() for stream in streams]
        assert own.metrics().preempted > 0
        alone = [cold.generate(prompt, endless(seed, logprobs=True, max_tokens=312))
                 for seed, prompt in enumerate(prompts)]  # fmt: skip
        assert [logprobs(each) for each in completions] == [logprobs(each) for each in alone]


@pytest.mark.parametrize("layer_types", [["sliding_attention", "full_attention"], ["full_attention"] * 2])
@pytest.mark.parametrize("context", [5, 64, 128])
def test_a_sequence_that_is_alone_has_room_for_its_whole_context_beside_its_checkpoint(
    tmp_path: Path, layer_types: list[str], context: int
) -> None:
    write_small(tmp_path, layer_types=layer_types)
    mask = np.array([0xFFFFFFFF] * 15 + [0xFF], np.uint32)  # all but the stop tokens
    with gptoss.load(tmp_path, max_context=context, max_sequences=1, max_checkpoints=1) as own:
        for tokens in (1, context - 1):
            done = own.generate(ids(tokens), SamplingParams(logits_mask=lambda _: mask))
            assert len(done.tokens) == context - tokens


def test_a_sequence_that_is_alone_and_finds_no_room_says_so(folder: Path) -> None:
    with gptoss.load(folder, max_context=512, max_sequences=2, max_checkpoints=0, token_budget=64) as own:
        native = own._scheduler._native
        hogs = []
        while native.free_pages > 6:
            hogs.append(native.session())
            native.step([_core.Work(hogs[-1], ids(1))])
        with pytest.raises(gptoss.OutOfMemory, match=r"KV cache is full.* 64 tokens more of a sequence of \d+ do not fit; \d+ would.*alone"):
            own.generate(ids(400), endless())
        for hog in hogs:
            hog.close()
        assert len(own.generate(ids(400), endless()).tokens) == 112


# What it says of itself


def test_metrics_count_what_was_done(folder: Path) -> None:
    with gptoss.load(folder, max_context=CONTEXT, max_sequences=2, max_queue=9) as own:
        empty = own.metrics()
        assert (empty.waiting, empty.running, empty.max_queue, empty.max_sequences) == (0, 0, 9, 2)
        assert empty.time_to_first_token is None and empty.decode_tokens_per_second == 0
        assert empty.free_pages == empty.pages > 0
        first = own.generate(ids(100), endless(max_tokens=10))
        own.generate(np.concatenate([ids(100), ids(20, seed=1)]), endless(max_tokens=5))
        after = at_rest(own)
        assert (after.prefill_tokens, after.cached_tokens) == (120, 100)
        assert (after.decode_tokens, after.completed) == (9 + 4, 2)
        assert after.prefill_tokens_per_second > 0 and after.decode_tokens_per_second > 0
        assert after.time_to_first_token is not None and 0 < after.time_to_first_token < 60
        assert 0 < after.free_pages < after.pages
        assert first.queue_seconds >= 0 and first.prefill_seconds > 0 and first.decode_seconds > 0
        own.stream([1], endless()).close()
        assert at_rest(own).cancelled == 1
        gate = Gate()
        with held(own):
            waiting = [own.stream([1], SamplingParams(max_tokens=1, logits_mask=gate)) for _ in range(3)]
            assert own.metrics().waiting == 3
        assert gate.reached.wait(60)
        assert (own.metrics().running, own.metrics().waiting) == (2, 1)
        gate.open()
        assert all(stream.run() for stream in waiting)
