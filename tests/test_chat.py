"""Turns with tools, budgets and conversations. What the model says is scripted: a mask leaves it one token at a time."""

from __future__ import annotations

import asyncio
import enum
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import gptoss_native as gptoss
from gptoss_native import SamplingParams
from gptoss_native.harmony import browser
from small_models import write_small

USER = {"role": "user", "content": "hello"}
END, START, CHANNEL, MESSAGE = "<|end|>", "<|start|>", "<|channel|>", "<|message|>"
THINK = (CHANNEL, "analysis", MESSAGE, "the user", END, START, "assistant")
ANSWER = (CHANNEL, "final", MESSAGE, "is five", "<|return|>")


def call(name: str, arguments: str) -> tuple[str, ...]:
    return (CHANNEL, "commentary", f" to=functions.{name} ", "<|constrain|>", "json", MESSAGE, arguments, "<|call|>")


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[gptoss.Engine]:
    with gptoss.load(write_small(tmp_path_factory.mktemp("chat")), max_context=4096, max_sequences=4) as made:
        yield made


def ids(engine: gptoss.Engine, *pieces: str | int) -> list[int]:
    """Token ids of control tokens and texts."""
    tokens: list[int] = []
    for piece in pieces:
        special = engine.tokenizer.specials.get(piece) if isinstance(piece, str) else piece
        tokens += engine.tokenizer.encode(str(piece)) if special is None else [special]
    return tokens


class Script:
    """A logits_mask under which the model says this: a list of pieces for each generation; then anything."""

    def __init__(self, engine: gptoss.Engine, *generations: tuple[str | int, ...]) -> None:
        self._scripts = [ids(engine, *pieces) for pieces in generations]
        self._generation = -1
        self._words = -(-engine.config.vocab_size // 32)

    def __call__(self, completion: npt.NDArray[np.int32]) -> npt.NDArray[np.uint32] | None:
        self._generation += not len(completion)
        script = self._scripts[self._generation]
        if len(completion) >= len(script):
            return None
        mask = np.zeros(self._words, np.uint32)
        token = script[len(completion)]
        mask[token // 32] = np.uint32(1 << token % 32)
        return mask

    @property
    def generations(self) -> int:
        return self._generation + 1


def scripted(engine: gptoss.Engine, *generations: tuple[str | int, ...], **params: Any) -> SamplingParams:
    return SamplingParams(seed=1, max_tokens=200, logits_mask=Script(engine, *generations), **params)


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def fails(text: str) -> str:
    raise RuntimeError(f"no {text} here")


ADD = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}
SUM = '{"a": 2, "b": 3}'


# Tools


def test_a_function_is_called_and_the_answer_comes_behind_its_result(engine: gptoss.Engine) -> None:
    params = scripted(engine, (*THINK, *call("add", SUM)), ANSWER)
    reply = engine.chat([USER], "low", params, tools=[add])
    assert (reply.text, reply.reasoning, reply.finish_reason, reply.calls) == ("is five", "the user", "stop", ())
    [result] = reply.results
    assert (result.call.name, result.call.parsed, result.content, result.error) == ("add", {"a": 2, "b": 3}, "5", None)
    assert [(m.role, m.channel) for m in reply.messages] == [
        ("assistant", "analysis"), ("assistant", "commentary"), ("tool", "commentary"), ("assistant", "final")]
    assert list(reply.tokens) == ids(engine, *THINK, *call("add", SUM), *ANSWER)
    assert reply.reasoning_tokens == len(ids(engine, "the user"))


def test_events_tell_the_call_its_result_and_one_done(engine: gptoss.Engine) -> None:
    params = scripted(engine, (*THINK, *call("add", SUM)), ANSWER)
    with engine.stream_chat([USER], None, params, tools=[add]) as stream:
        events = list(stream)
    kinds = [type(event).__name__ for event in events]
    order = ["ReasoningDelta", "ToolCallDelta", "ToolCallDone", "ToolResult", "TextDelta", "Done"]
    assert [kind for i, kind in enumerate(kinds) if kind not in kinds[:i] and kind != "MessageDone"] == order
    assert kinds.count("Done") == 1 and kinds.count("ToolResult") == 1
    done = events[-1]
    assert isinstance(done, gptoss.Done) and done.text == "is five" == stream.reply.text
    assert "".join(e.text for e in events if isinstance(e, gptoss.ToolCallDelta)) == SUM


@pytest.mark.parametrize(("made", "tools", "content"), [
    (call("add", '{"a": 2'), [add], "Error: the arguments are not JSON"),
    (call("add", '["a"]'), [add], "Error: the arguments are "),
    (call("add", '{"a": 2}'), [add], "Error: add cannot be called with these arguments: missing a required argument: 'b'"),
    (call("add", '{"a": 2, "b": 3, "c": 4}'), [add], "Error: add cannot be called with these arguments"),
    (call("sub", "{}"), [add], "Error: there is no tool sub; the tools are: add"),
    (call("fails", '{"text": "bread"}'), [add, fails], "Error: RuntimeError: no bread here"),
], ids=["broken json", "no object", "argument missing", "argument too many", "unknown tool", "raises"])  # fmt: skip
def test_what_goes_wrong_with_a_call_is_told_to_the_model_and_to_the_caller(
    engine: gptoss.Engine, made: tuple[str, ...], tools: list[Any], content: str
) -> None:
    params = scripted(engine, made, ANSWER)
    reply = engine.chat([USER], None, params, tools=tools)
    assert reply.text == "is five" and reply.finish_reason == "stop"
    [result] = reply.results
    assert result.content.startswith(content) and result.content == f"Error: {result.error}"
    assert [m.text for m in reply.messages if m.role == "tool"] == [result.content]


def test_a_tool_that_is_only_described_is_the_callers(engine: gptoss.Engine) -> None:
    for tools in ([ADD], [fails, ADD]):
        conversation = engine.conversation(tools=tools)
        conversation.add_user("hello")
        first = engine.chat(conversation, None, scripted(engine, (*THINK, *call("add", SUM))))
        assert first.finish_reason == "tool_calls" and first.results == () and first.text == ""
        [made] = first.calls
        assert (made.name, made.known, made.parsed) == ("add", True, {"a": 2, "b": 3})
        conversation.add_result(made, 5)
        second = engine.chat(conversation, None, scripted(engine, ANSWER))
        assert second.text == "is five" and second.cached_tokens >= first.prompt_tokens + len(first.tokens) - 1


def test_an_undeclared_tool_is_the_callers_where_no_function_is(engine: gptoss.Engine) -> None:
    reply = engine.chat([USER], None, scripted(engine, call("invented", "{}")))
    assert reply.finish_reason == "tool_calls" and [c.known for c in reply.calls] == [False]
    reply = engine.chat([USER], None, scripted(engine, call("invented", "{}")), tools=[browser()])
    assert reply.finish_reason == "tool_calls"


def test_rounds_have_a_limit(engine: gptoss.Engine) -> None:
    for limit in (0, 2):
        params = scripted(engine, *[call("add", SUM)] * (limit + 1))
        reply = engine.chat([USER], None, params, tools=[add], max_tool_rounds=limit)
        assert reply.finish_reason == "tool_calls" and len(reply.results) == limit and len(reply.calls) == 1
        assert isinstance(params.logits_mask, Script) and params.logits_mask.generations == limit + 1


def test_a_call_that_was_cut_off_is_not_made(engine: gptoss.Engine) -> None:
    made = ids(engine, *call("add", SUM))
    params = SamplingParams(seed=1, max_tokens=len(made) - 3, logits_mask=Script(engine, call("add", SUM)))
    reply = engine.chat([USER], None, params, tools=[add])
    assert reply.finish_reason == "length" and reply.results == () and not reply.calls[0].complete


def test_coroutine_functions_and_others_for_coroutines(engine: gptoss.Engine) -> None:
    threads = []

    async def slow_add(a: int, b: int) -> int:
        await asyncio.sleep(0.01)
        threads.append(threading.current_thread())
        return a + b

    def plain_add(a: int, b: int) -> dict[str, int]:
        threads.append(threading.current_thread())
        return {"sum": a + b}

    async def main() -> gptoss.Reply:
        params = scripted(engine, call("slow_add", SUM), call("plain_add", SUM), ANSWER)
        return await engine.achat([USER], None, params, tools=[slow_add, plain_add])

    reply = asyncio.run(main())
    assert [result.content for result in reply.results] == ["5", '{"sum":5}'] and reply.text == "is five"
    assert threads[0] is threading.main_thread() and threads[1] is not threading.main_thread()
    with pytest.raises(ValueError, match="slow_add is a coroutine function"):
        engine.chat([USER], tools=[slow_add])


def test_ctrl_c_in_a_tool_is_the_callers_and_the_engine_goes_on(engine: gptoss.Engine) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine.chat([USER], None, scripted(engine, call("interrupt", "{}")), tools=[interrupt])
    assert engine.chat([USER], None, scripted(engine, ANSWER)).text == "is five"


def test_a_cancelled_task_ends_the_turn_where_it_is(engine: gptoss.Engine) -> None:
    started = []

    async def forever() -> None:
        started.append(True)
        await asyncio.sleep(600)

    async def main() -> None:
        params = scripted(engine, call("forever", "{}"), ANSWER)
        task = asyncio.create_task(engine.achat([USER], None, params, tools=[forever]))
        while not started and not task.done():
            await asyncio.sleep(0.01)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
    assert started == [True] and engine.metrics().running == 0


def test_the_time_limit_is_that_of_the_whole_turn(engine: gptoss.Engine) -> None:
    """In its second generation too, and named as it was given."""
    limit = 3.0  # in which any machine gets as far as the call

    def slow() -> str:
        time.sleep(limit)
        return "done"

    with engine.stream_chat([USER], None, scripted(engine, call("slow", "{}"), ANSWER), tools=[slow],
                            timeout=limit) as stream:  # fmt: skip
        read = []
        with pytest.raises(gptoss.Timeout, match="timeout=3 seconds"):
            read.extend(stream)
        assert isinstance(read[-1], gptoss.ToolResult)
        assert list(stream) == []
        with pytest.raises(gptoss.Timeout):
            _ = stream.reply


def test_samples_cannot_each_call_a_function(engine: gptoss.Engine) -> None:
    with pytest.raises(ValueError, match="n=2 samples"):
        engine.chat([USER], params=SamplingParams(n=2), tools=[add])
    reply = engine.chat([USER], params=SamplingParams(n=2, seed=1, max_tokens=9), tools=[ADD])
    assert len(reply.replies) == 2


def test_a_function_gets_what_its_annotations_say_and_its_result_may_be_any_value(engine: gptoss.Engine) -> None:
    class Unit(enum.Enum):
        KELVIN = "kelvin"

    @dataclass
    class Place:
        city: str
        unit: Unit = Unit.KELVIN

    def weather(places: list[Place]) -> list[tuple[Place, int]]:
        return [(place, len(place.city)) for place in places if place.unit is Unit.KELVIN]

    weather.__annotations__["places"] = list[Place]  # which a function in a function cannot say with a text
    Place.__annotations__.update(city=str, unit=Unit)
    given = '{"places": [{"city": "Oslo", "unit": "kelvin"}]}'
    reply = engine.chat([USER], None, scripted(engine, call("weather", given), ANSWER), tools=[weather])
    assert reply.results[0].content == '[[{"city":"Oslo","unit":"kelvin"},4]]' and reply.results[0].error is None
    given = '{"places": [{"city": "Oslo", "unit": "feet"}]}'
    reply = engine.chat([USER], None, scripted(engine, call("weather", given), ANSWER), tools=[weather])
    assert reply.results[0].error == "the argument places[0].unit is 'feet', expected one of 'kelvin'"

    async def later() -> int:
        return 1

    def now() -> Any:
        return later()

    reply = engine.chat([USER], None, scripted(engine, call("now", "{}"), ANSWER), tools=[now])
    assert "a coroutine, which only achat() and astream_chat() await" in (reply.results[0].error or "")
    reply = asyncio.run(engine.achat([USER], None, scripted(engine, call("now", "{}"), ANSWER), tools=[now]))
    assert reply.results[0].content == "1"


def test_calls_are_numbered_through_the_conversation_and_results_may_name_the_number(engine: gptoss.Engine) -> None:
    conversation = engine.conversation(tools=[add])
    conversation.add_user("hello")
    reply = engine.chat(conversation, None, scripted(engine, call("add", SUM), call("add", SUM), ANSWER))
    assert [result.call.id for result in reply.results] == ["call_1", "call_2"]
    conversation.add_user("again")
    stream = engine.stream_chat(conversation, None, scripted(engine, call("add", SUM), ANSWER))
    events = list(stream)
    assert {e.id for e in events if isinstance(e, gptoss.ToolCallDelta)} == {"call_3"}
    assert [e.call.id for e in events if isinstance(e, (gptoss.ToolCallDone, gptoss.ToolResult))] == ["call_3"] * 2

    reply = engine.chat([USER], None, scripted(engine, call("add", SUM)), tools=[ADD])
    assert [each.id for each in reply.calls] == ["call_1"]
    history = [USER, *reply.messages, {"role": "tool", "tool_call_id": "call_1", "content": "5"}]
    by_call = [USER, *reply.messages, {"role": "tool", "name": "add", "content": "5"}]
    first, second = (gptoss.Conversation.from_messages(each, engine.tokenizer, tools=[ADD]) for each in (history, by_call))
    assert first.tokens_for_completion() == second.tokens_for_completion()
    assert "call_" not in engine.tokenizer.decode(first.tokens_for_completion())


@pytest.mark.parametrize("stream", [(END,), (START,)], ids=["end", "no end"])
def test_a_call_that_does_not_end_as_calls_do_is_answered_and_its_result_not_invented(
    engine: gptoss.Engine, stream: tuple[str, ...]
) -> None:  # fmt: skip
    *called, _ = call("add", SUM)
    invented = (START, "functions.add to=assistant", CHANNEL, "commentary", MESSAGE, "6", END, START, "assistant")
    script = (*THINK, *called, *stream, *invented, *ANSWER)
    reply = engine.chat([USER], None, scripted(engine, script, ANSWER), tools=[add])
    assert [result.content for result in reply.results] == ["5"] and (reply.text, reply.finish_reason) == ("is five", "stop")
    reply = engine.chat([USER], None, scripted(engine, script), tools=[ADD])
    assert [call.parsed for call in reply.calls] == [{"a": 2, "b": 3}] and reply.finish_reason == "tool_calls"
    assert "6" not in reply.text


# Reasoning


def endless_reasoning(tokens: int) -> tuple[str, ...]:
    return (CHANNEL, "analysis", MESSAGE, *["1 2 3 4 5 6 7 8 9 "] * tokens)


@pytest.mark.parametrize("budget", [1, 5, 40])
def test_a_budget_closes_the_reasoning_and_the_answer_comes(engine: gptoss.Engine, budget: int) -> None:
    header = len(ids(engine, CHANNEL, "analysis", MESSAGE))
    begun = ids(engine, *endless_reasoning(20))[: header + budget]
    closing = ids(engine, END, START, "assistant", CHANNEL, "final", MESSAGE)
    said = engine.tokenizer.decode(begun[header:])
    script = (*begun, *closing, *ids(engine, "is five", "<|return|>"))  # what is forced stands in the completion too
    reply = engine.chat([USER], None, scripted(engine, script), reasoning_budget=budget)
    assert list(reply.tokens)[: len(begun) + len(closing)] == begun + closing
    assert (reply.reasoning, reply.text, reply.reasoning_tokens) == (said, "is five", budget)
    assert reply.finish_reason == "stop"


@pytest.mark.parametrize("budget", [0, 4])
def test_reasoning_behind_the_answer_ends_the_turn_once_the_budget_is_spent(engine: gptoss.Engine, budget: int) -> None:
    answer = ("is five", END, START, "assistant")
    begun = answer if budget == 0 else (CHANNEL, "final", MESSAGE, *answer)  # which the prompt ends in
    reply = engine.chat([USER], None, scripted(engine, (*begun, *endless_reasoning(20))), reasoning_budget=budget)
    assert (reply.text, reply.reasoning_tokens, reply.finish_reason) == ("is five", budget, "stop")
    assert len(reply.tokens) == len(ids(engine, *begun, CHANNEL, "analysis", MESSAGE)) + budget


def test_loops_in_reasoning_behind_the_answer_end_the_turn(engine: gptoss.Engine) -> None:
    script = (CHANNEL, "final", MESSAGE, "is five", END, START, "assistant", *endless_reasoning(20))
    reply = engine.chat([USER], None, scripted(engine, script), stop_loops=True)
    assert (reply.text, reply.finish_reason) == ("is five", "stop") and len(reply.tokens) < 200


def test_a_budget_that_suffices_changes_nothing(engine: gptoss.Engine) -> None:
    free = engine.chat([USER], None, scripted(engine, (*THINK, *ANSWER)))
    governed = engine.chat([USER], None, scripted(engine, (*THINK, *ANSWER)), reasoning_budget=100)
    assert free.tokens == governed.tokens and free.text == governed.text


def test_with_tools_an_exhausted_budget_leaves_a_call_or_an_answer(engine: gptoss.Engine) -> None:
    """The channel is chosen from the two; the budget is that of all generations together."""
    first = (CHANNEL, "analysis", MESSAGE, "the user", END, START, "assistant", *call("add", SUM))
    budget = len(ids(engine, "the user"))
    second = ("final", MESSAGE, "is five", "<|return|>")  # behind the channel marker, which the prompt ends in
    reply = engine.chat([USER], None, scripted(engine, first, second), tools=[add], reasoning_budget=budget)
    assert reply.text == "is five" and reply.results[0].content == "5" and reply.reasoning_tokens == budget
    with pytest.raises(gptoss.GptOssError, match="no token may be drawn"):  # the script insists on reasoning
        engine.chat([USER], None, scripted(engine, first, ("analysis",)), tools=[add], reasoning_budget=budget)


@pytest.mark.parametrize("options", [{"reasoning": "off"}, {"reasoning_budget": 0}], ids=["off", "budget 0"])
def test_reasoning_can_be_turned_off(engine: gptoss.Engine, options: dict[str, Any]) -> None:
    reply = engine.chat([USER], params=scripted(engine, ("is five", "<|return|>")), **options)
    assert (reply.text, reply.reasoning, reply.reasoning_tokens) == ("is five", "", 0)
    reply = engine.chat([USER], params=scripted(engine, ("final", MESSAGE, "is five", "<|return|>")), tools=[add], **options)
    assert (reply.text, reply.reasoning) == ("is five", "")


def test_loops_in_reasoning_are_closed_and_in_answers_cut_off(engine: gptoss.Engine) -> None:
    period = ids(engine, "1 2 3 4 5 6 7 8 9 ")
    times = max(4, -(-96 // len(period))) + 1
    reply = engine.chat([USER], None, scripted(engine, endless_reasoning(times)), stop_loops=True)
    closing = ids(engine, END, START, "assistant", CHANNEL, "final", MESSAGE)
    assert any(list(reply.tokens[i : i + len(closing)]) == closing for i in range(len(reply.tokens)))
    assert reply.reasoning_tokens <= times * len(period) < 190
    answer = (CHANNEL, "final", MESSAGE, *["1 2 3 4 5 6 7 8 9 "] * 30)
    reply = engine.chat([USER], None, scripted(engine, answer), stop_loops=True)
    assert reply.finish_reason == "loop" and len(reply.tokens) < 199
    reply = engine.chat([USER], None, scripted(engine, answer))
    assert reply.finish_reason == "length"


# Conversations


def test_a_conversation_reuses_its_tokens(engine: gptoss.Engine) -> None:
    conversation = engine.conversation(developer="Be brief.", date="2025-08-05", reasoning="high")
    conversation.add_user("hello")
    first = engine.chat(conversation, None, scripted(engine, (*THINK, *ANSWER)))
    assert conversation.messages[-2:] == first.messages
    conversation.add_user("and now?")
    prompt = conversation.tokens_for_completion()
    spelled = ids(engine, START, "assistant", CHANNEL, "final", MESSAGE, "is five", END)  # without the reasoning
    assert any(prompt[i : i + len(spelled)] == spelled for i in range(len(prompt)))
    second = engine.chat(conversation, None, scripted(engine, ANSWER))
    assert second.prompt_tokens == len(prompt) and second.cached_tokens >= first.prompt_tokens - 1
    assert "2025-08-05" in engine.tokenizer.decode(prompt)


def test_messages_of_a_reply_go_on_as_they_are(engine: gptoss.Engine) -> None:
    reply = engine.chat([USER], None, scripted(engine, (*THINK, *call("add", SUM)), ANSWER), tools=[add])
    messages = [USER, *reply.messages, {"role": "user", "content": "and now?"}]
    again = engine.chat(messages, None, scripted(engine, ANSWER), tools=[add])
    assert again.text == "is five" and again.cached_tokens >= reply.prompt_tokens - 1


def test_what_a_conversation_says_is_not_said_twice(engine: gptoss.Engine) -> None:
    conversation = engine.conversation()
    conversation.add_user("hello")
    for options in ({"tools": [add]}, {"system": gptoss.SystemContent()}, {"reasoning": "low"}):
        with pytest.raises(ValueError, match="is said where a Conversation is made"):
            engine.chat(conversation, **options)  # type: ignore[arg-type]
    assert engine.chat(conversation, "off", scripted(engine, ("is five", "<|return|>"))).text == "is five"
    assert len(conversation.messages) == 3


def test_a_turn_of_which_nothing_is_the_assistants_adds_nothing(engine: gptoss.Engine) -> None:
    conversation = engine.conversation()
    conversation.add_user("hello")
    params = SamplingParams(seed=1, max_tokens=1, logits_mask=Script(engine, ("<|return|>",)))
    reply = engine.chat(conversation, None, params)
    assert reply.text == "" and reply.messages == () and len(conversation.messages) == 2


def test_a_failed_turn_adds_nothing(engine: gptoss.Engine) -> None:
    conversation = engine.conversation()
    conversation.add_user("hello")
    stream = engine.stream_chat(conversation, None, scripted(engine, (*THINK, *ANSWER)))
    next(stream)
    stream.close()
    assert len(conversation.messages) == 2


@pytest.mark.parametrize(("options", "error", "words"), [
    ({"reasoning_budget": -1}, ValueError, "reasoning_budget must be at least 0"),
    ({"reasoning_budget": 2.5}, TypeError, "reasoning_budget must be an integer"),
    ({"max_tool_rounds": -1}, ValueError, "max_tool_rounds"), ({"stop_loops": 1}, TypeError, "stop_loops"),
    ({"timeout": 0}, ValueError, "timeout"), ({"tool": [add]}, TypeError, "'tool' is not an option of chat"),
    ({"tools": "add"}, gptoss.MessageError, "expected a list of tools"),
    ({"reasoning": "much"}, gptoss.MessageError, "off, low, medium or high"),
], ids=lambda value: next(iter(value)) if isinstance(value, dict) else "")  # fmt: skip
def test_a_bad_option_is_named(engine: gptoss.Engine, options: dict[str, Any], error: type[Exception], words: str) -> None:
    for method in (engine.chat, engine.stream_chat, engine.astream_chat):
        with pytest.raises(error, match=words):
            method([USER], **options)


def test_a_checkpoint_is_left_where_the_instructions_end(engine: gptoss.Engine, tmp_path: Path) -> None:
    instructions = {"role": "developer", "content": "Speak only of bread. " * 20}
    first = engine.chat([instructions, USER], None, scripted(engine, ANSWER), tools=[add])
    other = engine.chat([instructions, {"role": "user", "content": "bread?"}], None, scripted(engine, ANSWER), tools=[add])
    assert 100 < other.cached_tokens < first.prompt_tokens
