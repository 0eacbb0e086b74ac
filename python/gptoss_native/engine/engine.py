"""The model as an object: logits, text from text, and conversations; for threads and for coroutines."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property, partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import numpy.typing as npt

from gptoss_native.arguments import integer, row_indices, seconds, token_ids
from gptoss_native.chat.chat import Chat, ChatKeywords, ChatOptions, Reasoning
from gptoss_native.chat.reply import Reply
from gptoss_native.chat.stream import ChatStream
from gptoss_native.checkpoint.checkpoint import Checkpoint
from gptoss_native.config.config import Config
from gptoss_native.engine.devices import DeviceFacts
from gptoss_native.engine.memory import available_bytes, gigabytes
from gptoss_native.errors import OutOfMemory, TokenizerError
from gptoss_native.harmony import Conversation, Messages, stop_ids
from gptoss_native.sampling.params import MAX_SEED, SamplingParams
from gptoss_native.sampling.stops import TextReader
from gptoss_native.scheduler.metrics import Metrics
from gptoss_native.scheduler.request import Deadline, Reader, Request
from gptoss_native.scheduler.results import Completion
from gptoss_native.scheduler.scheduler import Scheduler
from gptoss_native.scheduler.stream import TokenStream, score
from gptoss_native.scheduler.transcript import Progress
from gptoss_native.tokenizer import Tokenizer

if TYPE_CHECKING:
    from typing_extensions import Unpack  # of typing since Python 3.11

Prompt = str | Sequence[int] | npt.NDArray[np.integer[Any]]


class Engine:
    """One model on one device, made by load().

    Any number of threads and coroutines may call it at the same time: up to max_sequences of what they ask run
    together, the others wait in the order in which they came. What an earlier call left in the KV cache is used again
    where a prompt begins alike; results are bit for bit the same either way, and whatever else runs. After close(),
    and in a forked child process, every call raises GptOssError.

    A prompt is a text, taken as it is (special tokens spelled in it are plain text), or token ids. Raised for a bad
    one: TypeError, ValueError (empty, longer than max_context, an id outside the vocabulary), TokenizerError (text,
    but no usable tokenizer.json). Raised by any call that runs the model: QueueFull when too many wait already,
    Timeout after `timeout` seconds, Cancelled when the engine or the stream was closed, DeviceError when the device
    failed. Whatever stops a call, Ctrl-C and the cancellation of its task too, stops its work, and its work alone.
    """

    def __init__(self, checkpoint: Checkpoint, scheduler: Scheduler, device: DeviceFacts, max_context: int,
                 progress: Progress | None) -> None:
        self._checkpoint = checkpoint
        self._scheduler = scheduler
        self._progress = progress
        self.config: Config = checkpoint.config
        self.device = device
        self.max_context = max_context
        """Tokens of prompt and completion together."""

    @property
    def default_params(self) -> SamplingParams:
        """What params=None means: OpenAI's defaults, but greedy where the checkpoint's generation_config.json says that
        the model is not to be sampled from."""
        return SamplingParams(temperature=0 if self._checkpoint.greedy else 1)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """Read on first use. TokenizerError where the folder has no tokenizer.json, or a broken one."""
        path = self._checkpoint.tokenizer_path
        if path is None:
            raise TokenizerError(
                f"{self._checkpoint.path} has no tokenizer.json, which is needed to read and write text; copy the one "
                "of the model into that folder, or pass token ids")
        return Tokenizer.from_file(path, self.config.vocab_size)

    # Tokens

    def logits(self, ids: Prompt, rows: Sequence[int] | npt.NDArray[np.integer[Any]] | None = None, *,
               timeout: float | None = None) -> npt.NDArray[np.float32]:
        """Logits of the token after each of `rows`: float32 (rows, vocab_size).

        ids: the prompt, (tokens,). rows: indices into it, in any order, negative ones from the end; None is all.
        Raises OutOfMemory, before any work, when the result itself would not fit.
        """
        self._scheduler.check_usable()
        prompt = self._ids(ids)
        indices = row_indices(rows, len(prompt))
        needed, available = 4 * len(indices) * self.config.vocab_size, available_bytes()
        if available is not None and needed > available:
            raise OutOfMemory(
                f"logits of {len(indices)} rows by {self.config.vocab_size} ids are {gigabytes(needed)}, but "
                f"{gigabytes(available)} are available; ask for at most "
                f"{available // (4 * self.config.vocab_size)} rows at a time")
        out = np.empty((len(indices), self.config.vocab_size), np.float32)
        if len(indices):
            score(self._scheduler, prompt, indices, out, self._progress, Deadline.after(seconds(timeout)))
        return out

    def generate(self, prompt: Prompt, params: SamplingParams | None = None, *, timeout: float | None = None,
                 checkpoints: Sequence[int] = ()) -> Completion:
        """Continue `prompt` until a stop token of the checkpoint, what `params` says, or max_context.

        checkpoints: lengths of beginnings of the prompt that others share, such as instructions or a document. They
        are remembered, as the ends of prompts and of completions always are.
        """
        return self.stream(prompt, params, timeout=timeout, checkpoints=checkpoints).run()

    def stream(self, prompt: Prompt, params: SamplingParams | None = None, *, timeout: float | None = None,
               checkpoints: Sequence[int] = ()) -> TokenStream:
        """generate() as an iterator of StreamToken. Bad arguments raise here, not at the first token."""
        self._scheduler.check_usable()
        params = self._params(params)
        has_text = isinstance(prompt, str) or bool(params.stop) or self._checkpoint.tokenizer_path is not None
        tokenizer = self.tokenizer if has_text else None
        reader = None
        if tokenizer is not None and params.stop:
            reader = partial(TextReader, tokenizer, tuple(params.stop), params.min_tokens)
        request = self._request(self._ids(prompt), params, self._checkpoint.eos_token_ids, reader, checkpoints)
        return TokenStream(self._scheduler, request, tokenizer, self._progress, Deadline.after(seconds(timeout)))

    async def agenerate(self, prompt: Prompt, params: SamplingParams | None = None, *, timeout: float | None = None,
                        checkpoints: Sequence[int] = ()) -> Completion:
        """generate() for a coroutine."""
        return await self.stream(prompt, params, timeout=timeout, checkpoints=checkpoints).arun()

    def astream(self, prompt: Prompt, params: SamplingParams | None = None, *, timeout: float | None = None,
                checkpoints: Sequence[int] = ()) -> TokenStream:
        """stream() for a coroutine: `async for token in engine.astream(...)`."""
        return self.stream(prompt, params, timeout=timeout, checkpoints=checkpoints)

    # Conversations

    def conversation(self, **keywords: Any) -> Conversation:
        """An empty one, for chat(), with this model's tokenizer; the arguments are those of harmony.Conversation."""
        return Conversation(self.tokenizer, **keywords)

    def chat(self, messages: Conversation | Messages, reasoning: Reasoning | None = None,
             params: SamplingParams | None = None, **options: Unpack[ChatKeywords]) -> Reply:
        """The assistant's next turn.

        messages: {"role": "system" | "developer" | "user" | "assistant" | "tool", "content": text} as OpenAI's clients
        have them, or Message; see harmony.read_messages. Or a Conversation, which the turn is added to, token for
        token. reasoning: how much the model thinks before it answers. params: max_tokens counts for each generation.
        options: tools, system, response_format, reasoning_budget, stop_loops, max_tool_rounds, timeout; ChatOptions
        says what they mean. Tools that are Python functions are called, and the turn goes on with their results.

        Raises MessageError for messages and tools that cannot be rendered.
        """
        return self._chat(messages, reasoning, params, options, asynchronous=False, several=True).run()

    def stream_chat(self, messages: Conversation | Messages, reasoning: Reasoning | None = None,
                    params: SamplingParams | None = None, **options: Unpack[ChatKeywords]) -> ChatStream:
        """chat() as an iterator of events, of one sample; see gptoss_native.events. Bad arguments raise here."""
        return self._chat(messages, reasoning, params, options, asynchronous=False)

    async def achat(self, messages: Conversation | Messages, reasoning: Reasoning | None = None,
                    params: SamplingParams | None = None, **options: Unpack[ChatKeywords]) -> Reply:
        """chat() for a coroutine. Tools may be coroutine functions; others run in a thread."""
        return await self._chat(messages, reasoning, params, options, asynchronous=True, several=True).arun()

    def astream_chat(self, messages: Conversation | Messages, reasoning: Reasoning | None = None,
                     params: SamplingParams | None = None, **options: Unpack[ChatKeywords]) -> ChatStream:
        """stream_chat() for a coroutine: `async for event in engine.astream_chat(...)`."""
        return self._chat(messages, reasoning, params, options, asynchronous=True)

    # The engine itself

    def metrics(self) -> Metrics:
        """What waits and runs, how fast, how much the cache saved."""
        return self._scheduler.metrics()

    def close(self) -> None:
        """Stop what runs, which raises Cancelled there, and free the memory. A second close does nothing."""
        self._scheduler.close()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:  # which copy and deepcopy go through as well
        raise TypeError("an Engine cannot be copied or pickled: it owns a device's memory; load() another")

    def __repr__(self) -> str:
        return f"<Engine {self._checkpoint.path}: max_context {self.max_context} on {self.device}>"

    # From arguments to a request

    def _ids(self, prompt: Prompt) -> npt.NDArray[np.int32]:
        ids = self.tokenizer.encode(prompt) if isinstance(prompt, str) else prompt
        return token_ids(ids, self.config.vocab_size, self.max_context)

    def _params(self, params: SamplingParams | None) -> SamplingParams:
        params = self.default_params if params is None else params
        if not isinstance(params, SamplingParams):
            raise TypeError(f"params must be SamplingParams, not {type(params).__name__}")
        for what, tokens in (("stop token id", params.stop_token_ids), ("logit_bias of token", params.logit_bias)):
            beyond = [token for token in tokens if token >= self.config.vocab_size]
            if beyond:
                raise ValueError(f"{what} {beyond[0]} is not between 0 and {self.config.vocab_size - 1}")
        return params

    def _request(self, prompt: npt.NDArray[np.int32], params: SamplingParams, stop: Iterable[int],
                 reader: Callable[[], Reader] | None, checkpoints: Iterable[int]) -> Request:
        room = self.max_context - len(prompt)
        if not hasattr(type(checkpoints), "__iter__"):
            raise TypeError(
                f"checkpoints must be a sequence of lengths, not {type(checkpoints).__name__} {checkpoints!r}")
        return Request(
            prompt, params, seed=secrets.randbelow(MAX_SEED + 1) if params.seed is None else params.seed,
            stop_ids=frozenset(stop) | frozenset(params.stop_token_ids),
            limit=room if params.max_tokens is None else min(room, params.max_tokens),
            checkpoints=tuple(integer("each of checkpoints", place, 0, len(prompt)) for place in checkpoints),
            reader=reader)

    def _chat(self, messages: Conversation | Messages, reasoning: Reasoning | None,
              params: SamplingParams | None, keywords: ChatKeywords, *, asynchronous: bool,
              several: bool = False) -> ChatStream:
        self._scheduler.check_usable()
        params, chosen = self._params(params), ChatOptions.of(reasoning, keywords)
        if params.n != 1 and not several:
            raise ValueError(f"the events of n={params.n} samples cannot be told apart in one stream; use chat(), or "
                             "one stream for each: they share what they have in common")
        conversation = chosen.conversation(messages, self.tokenizer)
        return ChatStream(Chat(conversation, self.tokenizer, chosen, params, self._start, asynchronous=asynchronous))

    def _start(self, prompt: Sequence[int], params: SamplingParams, reader: Callable[[], Reader] | None,
               checkpoints: Sequence[int], deadline: Deadline | None) -> TokenStream:
        """One generation of a turn."""
        request = self._request(self._ids(prompt), params, stop_ids(self.tokenizer), reader, checkpoints)
        return TokenStream(self._scheduler, request, None, self._progress, deadline)
