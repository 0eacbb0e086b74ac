"""The engine in an asyncio program: fifty conversations, cancelled tasks, timeouts, loops that come and go."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

import gptoss_native as gptoss
from gptoss_native import SamplingParams
from gptoss_native.scheduler.channel import Channel
from small_models import SLOW, endless, held, ids, write_small

Result = TypeVar("Result")
GREEDY = SamplingParams(temperature=0, max_tokens=12)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small(tmp_path_factory.mktemp("async"))


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[gptoss.Engine]:
    with gptoss.load(folder, max_context=2048, max_sequences=8, max_checkpoints=128) as made:
        yield made


def run(main: Coroutine[Any, Any, Result]) -> Result:
    async def limited() -> Result:
        return await asyncio.wait_for(main, 120)

    return asyncio.run(limited())


async def at_rest(engine: gptoss.Engine) -> gptoss.Metrics:
    while (now := engine.metrics()).running or now.waiting:
        await asyncio.sleep(0.001)
    return now


def test_each_face_gives_the_same(engine: gptoss.Engine) -> None:
    messages = [{"role": "user", "content": "hello"}]
    params = SamplingParams(seed=3, max_tokens=20)

    async def main() -> None:
        want = engine.generate("The quick", params)
        got = await engine.agenerate("The quick", params)
        assert (got.tokens, got.text) == (want.tokens, want.text)
        streamed = [token async for token in engine.astream("The quick", params)]
        assert streamed == list(engine.stream("The quick", params))
        reply = engine.chat(messages, params=params)
        again = await engine.achat(messages, params=params)
        assert (again.tokens, again.text) == (reply.tokens, reply.text)
        async with engine.astream_chat(messages, params=params) as events:
            told = [event async for event in events]
        assert told == list(engine.stream_chat(messages, params=params))
        assert events.reply.text == reply.text
        samples = await engine.agenerate([1, 2, 3], SamplingParams(seed=1, n=5, max_tokens=5))
        assert len(samples.completions) == 5

    run(main())


def test_fifty_conversations_of_three_turns(engine: gptoss.Engine) -> None:
    async def converse(number: int) -> list[tuple[int, ...]]:
        messages: list[gptoss.Message | dict[str, str]] = [{"role": "developer", "content": "Be brief."}]
        turns = []
        for turn in range(3):
            messages.append({"role": "user", "content": f"Question {turn} of {number}?"})
            params = SamplingParams(seed=number, max_tokens=15)
            if (number + turn) % 2:
                reply = await engine.achat(messages, "low", params)
            else:
                stream = engine.astream_chat(messages, "low", params)
                async for _ in stream:
                    pass
                reply = stream.reply
            messages.append({"role": "assistant", "content": reply.text})
            turns.append(reply.tokens)
        return turns

    async def main() -> list[list[tuple[int, ...]]]:
        return await asyncio.gather(*(converse(number) for number in range(50)))

    together = run(main())
    for number in (0, 17, 49):
        assert run(converse(number)) == together[number]


def test_the_loop_stays_free_while_the_engine_works(engine: gptoss.Engine) -> None:
    async def main() -> int:
        ticks = 0
        work = asyncio.create_task(engine.agenerate(ids(1900), endless(max_tokens=100)))
        while not work.done():
            await asyncio.sleep(0)
            ticks += 1
        return ticks

    assert run(main()) > 10


def test_a_cancelled_task_stops_its_work_and_no_other_s(engine: gptoss.Engine) -> None:
    async def main() -> None:
        kept = asyncio.create_task(engine.agenerate(ids(20), endless(max_tokens=300)))
        tasks = [asyncio.create_task(engine.agenerate(ids(100, seed), endless(seed))) for seed in range(12)]
        before = engine.metrics().cancelled
        await asyncio.sleep(0.02)
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(result, asyncio.CancelledError) for result in results)
        assert (await kept).tokens == engine.generate(ids(20), endless(max_tokens=300)).tokens
        assert (await at_rest(engine)).cancelled == before + 12

    run(main())


def test_leaving_a_stream_stops_it(engine: gptoss.Engine) -> None:
    async def main() -> None:
        before = engine.metrics().cancelled
        async for token in engine.astream(ids(20), endless()):
            if token.index == 0:
                break
        gc.collect()
        async with engine.astream(ids(20), endless()) as stream:
            await anext_of(stream)
        assert [token async for token in stream] == []
        other = engine.astream(ids(20), endless())
        await anext_of(other)
        await other.aclose()
        events = engine.astream_chat([{"role": "user", "content": "hello"}], params=endless())
        async for _ in events:
            break
        await events.aclose()
        assert [event async for event in events] == []
        assert (await at_rest(engine)).cancelled == before + 4

    run(main())


async def anext_of(stream: gptoss.TokenStream) -> gptoss.StreamToken:
    return await stream.__anext__()


def test_timeouts_of_the_engine_and_of_asyncio(tmp_path: Path) -> None:
    async def main() -> None:
        with gptoss.load(write_small(tmp_path, **SLOW), max_context=131_072, max_sequences=1) as own:
            with pytest.raises(gptoss.Timeout, match="timeout=0.05"):
                await own.agenerate(ids(130_000), timeout=0.05)
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(own.agenerate(ids(130_000)), 0.05)
            stream = own.astream(ids(10), endless(logits_mask=lambda tokens: time.sleep(0.01)), timeout=0.5)
            with pytest.raises(gptoss.Timeout):
                async for _ in stream:
                    pass
            assert 0 < len(stream.tokens) < 50
            assert (await own.agenerate(ids(5), GREEDY, timeout=60)).tokens

    run(main())


def test_a_full_queue_raises_at_once(folder: Path) -> None:
    async def main() -> None:
        with gptoss.load(folder, max_context=64, max_sequences=1, max_queue=2) as own:
            with held(own):
                waiting = [asyncio.create_task(own.agenerate([seed], GREEDY)) for seed in (1, 2)]
                await asyncio.sleep(0)
                with pytest.raises(gptoss.QueueFull):
                    await own.agenerate([3], GREEDY)
            assert all(completion.tokens for completion in await asyncio.gather(*waiting))

    run(main())


def test_errors_of_the_request_are_raised_where_it_is_awaited(engine: gptoss.Engine) -> None:
    def fail(tokens: Any) -> None:
        raise LookupError("of the caller")

    async def main() -> None:
        with pytest.raises(LookupError, match="of the caller"):
            await engine.agenerate([1], SamplingParams(logits_mask=fail))
        with pytest.raises(ValueError, match="empty"):
            await engine.agenerate([])
        with pytest.raises(gptoss.MessageError):
            await engine.achat([])
        with pytest.raises(ValueError, match="empty"):
            engine.astream([])

    run(main())


def test_closing_the_engine_fails_what_is_awaited(folder: Path) -> None:
    async def main() -> None:
        own = gptoss.load(folder, max_context=131_072)
        tasks = [asyncio.create_task(own.agenerate(ids(100_000, seed))) for seed in range(6)]
        await asyncio.sleep(0.1)
        own.close()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(result, gptoss.Cancelled) for result in results)

    run(main())


def test_a_loop_that_ended_without_reading_does_not_disturb_the_engine(engine: gptoss.Engine) -> None:
    streams = []

    async def main() -> None:
        stream = engine.astream(ids(30), endless(max_tokens=500))
        await anext_of(stream)
        streams.append(stream)

    run(main())
    assert len(engine.generate([1, 2], GREEDY).tokens) <= 12
    [stream] = streams
    assert len(list(stream)) == 499  # and the rest can be read by anybody


def test_several_loops_in_several_threads(engine: gptoss.Engine) -> None:
    results: dict[int, tuple[int, ...]] = {}

    def loop(number: int) -> None:
        async def main() -> None:
            async for token in engine.astream(ids(10, number), SamplingParams(seed=number, max_tokens=30)):
                results[number] = (*results.get(number, ()), token.id)
                await asyncio.sleep(0)

        run(main())

    threads = [threading.Thread(target=loop, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for number in range(6):
        assert results[number] == engine.generate(ids(10, number), SamplingParams(seed=number, max_tokens=30)).tokens


def test_a_cancellation_that_comes_with_an_item_is_not_lost() -> None:
    async def main() -> None:
        for pauses in range(4):  # between the item and the cancellation
            channel: Channel[int] = Channel()

            async def read(channel: Channel[int] = channel) -> None:
                await channel.aget(60)
                await asyncio.sleep(60)

            task = asyncio.create_task(read())
            await asyncio.sleep(0.01)
            channel.put(1)
            for _ in range(pauses):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.wait_for(task, 5)

    run(main())


def test_no_item_is_lost_between_a_thread_that_puts_and_a_coroutine_that_waits() -> None:
    async def main() -> None:
        channel: Channel[int] = Channel()

        def put(first: int) -> None:
            for number in range(first, 6000, 3):
                channel.put(number)

        threads = [threading.Thread(target=put, args=(first,)) for first in range(3)]
        for thread in threads:
            thread.start()
        got = [await channel.aget(30) for _ in range(6000)]
        assert sorted(got) == list(range(6000))
        with pytest.raises(TimeoutError):
            await channel.aget(0.01)
        waiting = asyncio.create_task(channel.aget(None))
        await asyncio.sleep(0.01)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        channel.put(7)
        assert await channel.aget(1) == 7 == 7
        with pytest.raises(TimeoutError):
            channel.get(0.01)

    run(main())
