"""One turn of a conversation: what the assistant generates, with the results of its tool calls in between."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, Literal, TypedDict, get_args

from gptoss_native.arguments import integer, seconds
from gptoss_native.chat.reply import Reply
from gptoss_native.chat.tool_calls import answerable, is_async
from gptoss_native.chat.turn import Turn, texts
from gptoss_native.config.strict_json import shown
from gptoss_native.events import Done, Event, ToolResult
from gptoss_native.harmony import (
    Conversation,
    Message,
    MessageError,
    Messages,
    ResponseFormat,
    SystemContent,
    Toolbox,
    ToolCall,
)
from gptoss_native.sampling.params import SamplingParams
from gptoss_native.scheduler.request import Deadline, Reader
from gptoss_native.scheduler.results import Completion
from gptoss_native.scheduler.stream import TokenStream
from gptoss_native.tokenizer import Tokenizer

Reasoning = Literal["off", "low", "medium", "high"]


class ChatKeywords(TypedDict, total=False):
    """The keyword arguments of chat(); see ChatOptions."""

    tools: Toolbox | Iterable[Any] | None
    system: SystemContent | None
    response_format: ResponseFormat | Mapping[str, Any] | None
    reasoning_budget: int | None
    stop_loops: bool
    max_tool_rounds: int
    timeout: float | None


@dataclass(frozen=True)
class ChatOptions:
    """How a turn is made.

    reasoning: how much the model is told to think before it answers, medium where neither this nor a system Message
        says otherwise; "off" leads it straight to its answer, or with tools to a call.
    tools: Python functions, OpenAI's JSON, Tool, or built-in tools; see harmony.toolbox.
    system: identity, dates and channels of the system message; no date is filled in.
    response_format: a JSON schema that the model is told of.
    reasoning_budget: tokens on the analysis channel, in all generations of the turn together; when they are spent the
        channel is closed and the answer, or with tools a call, comes next.
    stop_loops: reasoning that repeats itself is closed in the same way, and an answer that does ends with
        finish_reason "loop": the same few tokens four times in a row, at least 96 tokens of them.
    max_tool_rounds: how often results of tools may be answered with another generation; then the call is the
        caller's, with finish_reason "tool_calls".
    timeout: seconds for all of it.

    Raises TypeError or ValueError naming the option.
    """

    reasoning: Reasoning | None = None
    tools: Toolbox | Iterable[Any] | None = None
    system: SystemContent | None = None
    response_format: ResponseFormat | Mapping[str, Any] | None = None
    reasoning_budget: int | None = None
    stop_loops: bool = False
    max_tool_rounds: int = 8
    timeout: float | None = None

    @classmethod
    def of(cls, reasoning: Any, keywords: Mapping[str, Any]) -> ChatOptions:
        known = {field.name for field in fields(cls)} - {"reasoning"}
        for name in keywords:
            if name not in known:
                raise TypeError(f"{name!r} is not an option of chat(); it has {', '.join(sorted(known))}")
        if isinstance(reasoning, SamplingParams):  # generate() has them second
            raise TypeError("reasoning must be 'off', 'low', 'medium' or 'high', not SamplingParams; pass params=...")
        if reasoning not in (None, *get_args(Reasoning)):
            raise MessageError(f"expected reasoning to be off, low, medium or high, found {shown(reasoning)}")
        return cls(reasoning, **keywords)

    def __post_init__(self) -> None:
        if self.reasoning_budget is not None:
            integer("reasoning_budget", self.reasoning_budget, 0)
        integer("max_tool_rounds", self.max_tool_rounds, 0)
        if not isinstance(self.stop_loops, bool):
            raise TypeError(f"stop_loops must be True or False, not {self.stop_loops!r}")
        seconds(self.timeout)

    @property
    def budget(self) -> int | None:
        return 0 if self.reasoning == "off" else self.reasoning_budget

    def conversation(self, messages: Conversation | Messages, tokenizer: Tokenizer) -> Conversation:
        """The one that was given, or one with `messages` and what the options say about it."""
        if not isinstance(messages, Conversation):
            return Conversation.from_messages(
                messages, tokenizer, reasoning="low" if self.reasoning == "off" else self.reasoning,
                system=self.system, tools=self.tools, response_format=self.response_format)
        for name in ("tools", "system", "response_format"):
            if getattr(self, name) is not None:
                raise ValueError(f"{name} is said where a Conversation is made: Conversation(..., {name}=...)")
        if self.reasoning not in (None, "off"):
            raise ValueError("reasoning is said where a Conversation is made: Conversation(..., "
                             f"reasoning={self.reasoning!r}); here it can only be turned off")
        return messages


Start = Callable[[Sequence[int], SamplingParams, "Callable[[], Reader] | None", Sequence[int], "Deadline | None"],
                 TokenStream]
"""Makes the stream of one generation: prompt, how tokens are drawn, what steers it, checkpoints, deadline."""


class Chat:
    """The generations of one turn. What they say, and what tools answer, is added to `conversation`.

    Its user reads `stream`, hands each token to feed(), and at the end of the stream calls end(), which says which
    calls are to be answered now; answer() with their results goes on, with another stream.
    """

    def __init__(self, conversation: Conversation, tokenizer: Tokenizer, options: ChatOptions, params: SamplingParams,
                 start: Start, *, asynchronous: bool) -> None:
        toolbox = conversation.toolbox
        if params.n != 1 and toolbox.callables:
            raise ValueError(f"with n={params.n} samples there are as many ways to go on, and a tool answers only one; "
                             "describe the tools as JSON, or use n=1")
        for name, function in toolbox.callables.items():
            if is_async(function) and not asynchronous:
                raise ValueError(
                    f"the tool {name} is a coroutine function, which only achat() and astream_chat() can call")
        self._conversation, self._tokenizer, self._options, self._params = conversation, tokenizer, options, params
        self._start_stream = start
        self._deadline = Deadline.after(options.timeout)
        self._rounds: list[tuple[Turn, Completion]] = []
        self._said: list[Message] = []  # by the model, in whatever role
        self._told: list[Message] = []  # what goes on in the conversation: by the assistant, and results of tools
        self._results: list[ToolResult] = []
        self._reasoning_tokens = 0
        self._start()

    @property
    def toolbox(self) -> Toolbox:
        """The tools that the model may call."""
        return self._conversation.toolbox

    def feed(self, token: int) -> list[Event]:
        """What the next token of the stream made known."""
        return self._turn.feed(token)

    def end(self) -> tuple[list[Event], list[ToolCall]]:
        """The stream has ended: what is left to tell, and the calls that are to be answered before the turn goes on.
        Where there are none the last event is Done."""
        completion = self.stream.completion
        *events, _ = self._turn.finish(completion.finish_reason)
        done = self._turn.done
        self._rounds.append((self._turn, completion))
        self._said += done.messages
        self._told += _of_assistant(done.messages)
        self._reasoning_tokens += self._turn.reasoning_tokens
        if self._params.n == 1:
            self._conversation.add(*_of_assistant(done.messages))
        calls = list(done.calls) if done.reason == "tool_calls" else []
        again = len(self._rounds) <= self._options.max_tool_rounds and all(
            answerable(call, self.toolbox) for call in calls)
        if calls and again:
            return events, calls
        return [*events, self._done()], []

    def answer(self, results: Iterable[ToolResult]) -> None:
        """What the calls gave; the next generation begins."""
        for result in results:
            self._conversation.add_result(result.call, result.content)
            self._said.append(self._conversation.messages[-1])
            self._told.append(self._conversation.messages[-1])
            self._results.append(result)
        self._start()

    def reply(self) -> Reply:
        """The whole turn, which has ended."""
        first, last = self._rounds[0][1], self._rounds[-1][1]
        others = tuple(self._other(completion) for completion in last.others)
        whole = replace(
            first, tokens=sum((c.tokens for _, c in self._rounds), ()),
            prefill_seconds=sum(c.prefill_seconds for _, c in self._rounds),
            decode_seconds=sum(c.decode_seconds for _, c in self._rounds),
            queue_seconds=sum(c.queue_seconds for _, c in self._rounds),
            logprobs=None if first.logprobs is None else sum((c.logprobs or () for _, c in self._rounds), ()),
            top_logprobs=None if first.top_logprobs is None else sum(
                (c.top_logprobs or () for _, c in self._rounds), ()))
        return _reply(self._done(), whole, self._told, self._reasoning_tokens, tuple(self._results), others)

    # One generation

    def _start(self) -> None:
        budget, left = self._options.budget, None
        if budget is not None:
            left = max(0, budget - self._reasoning_tokens)
        make_turn = partial(Turn, self._tokenizer, self.toolbox, tuple(self._params.stop), self._params.min_tokens,
                            first_call=self._conversation.next_call, reasoning_budget=left,
                            stop_loops=self._options.stop_loops)
        self._turn = make_turn()
        may_call = bool(self.toolbox.functions or self.toolbox.builtins)
        governed = bool(self._params.stop) or left is not None or self._options.stop_loops or may_call
        prompt = [*self._conversation.tokens_for_completion(), *self._turn.prefix]
        if self._deadline is not None and self._deadline.left == 0:
            raise self._deadline.error()
        self.stream = self._start_stream(
            prompt, self._params, make_turn if governed else None, self._conversation.checkpoints(), self._deadline)

    def _done(self) -> Done:
        """Of all generations together."""
        last, messages = self._rounds[-1][0].done, tuple(self._said)
        return Done(last.reason, texts(messages, "text"), texts(messages, "reasoning"), texts(messages, "preamble"),
                    messages, last.trailing)

    def _other(self, completion: Completion) -> Reply:
        """Another sample of the only generation."""
        turn = Turn(self._tokenizer, self.toolbox, tuple(self._params.stop), self._params.min_tokens,
                    first_call=self._conversation.next_call, reasoning_budget=self._options.budget,
                    stop_loops=self._options.stop_loops)
        for token in completion.tokens:
            turn.feed(token)
        turn.finish(completion.finish_reason)
        told = _of_assistant(turn.done.messages)
        return _reply(turn.done, completion, told, turn.reasoning_tokens, (), ())


def _of_assistant(messages: Iterable[Message]) -> list[Message]:
    """Without what it invented of others."""
    return [message for message in messages if message.role == "assistant"]


def _reply(done: Done, c: Completion, told: Sequence[Message], reasoning_tokens: int, results: tuple[ToolResult, ...],
           others: tuple[Reply, ...]) -> Reply:
    return Reply(
        text=done.text, reasoning=done.reasoning, preamble=done.preamble, finish_reason=done.reason,
        messages=tuple(told), calls=done.calls[len(results):], results=results, tokens=c.tokens,
        reasoning_tokens=reasoning_tokens, prompt_tokens=c.prompt_tokens, cached_tokens=c.cached_tokens, seed=c.seed,
        queue_seconds=c.queue_seconds, prefill_seconds=c.prefill_seconds, decode_seconds=c.decode_seconds,
        logprobs=c.logprobs, top_logprobs=c.top_logprobs, others=others)
