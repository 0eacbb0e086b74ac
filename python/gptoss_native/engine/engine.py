"""The model as an object: logits, text from text, and conversations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from threading import Event
from types import TracebackType
from typing import Any, Literal, NoReturn

import numpy as np
import numpy.typing as npt

from gptoss_native.checkpoint.checkpoint import Checkpoint
from gptoss_native.config.config import Config
from gptoss_native.engine.chat_stream import ChatStream
from gptoss_native.engine.devices import DeviceFacts
from gptoss_native.engine.driver import Driver
from gptoss_native.engine.inputs import row_indices, token_ids
from gptoss_native.engine.memory import available_bytes, gigabytes
from gptoss_native.engine.results import Completion, Reply
from gptoss_native.engine.sampling import SamplingParams
from gptoss_native.engine.stream import TokenStream
from gptoss_native.errors import OutOfMemory, TokenizerError
from gptoss_native.harmony import ChatMessage, render, stop_ids
from gptoss_native.tokenizer import Tokenizer

Prompt = str | Sequence[int] | npt.NDArray[np.integer[Any]]
Reasoning = Literal["low", "medium", "high"]


class Engine:
    """One model on one device, made by load().

    Calls from several threads wait for each other: a blocking call for the whole of another, a stream token by
    token. What the last call left in the KV cache is used again where the next prompt begins with it; results are
    bit for bit the same either way. After close(), and in a forked child process, every call raises GptOssError.

    A prompt is a text, taken as it is (special tokens spelled in it are plain text), or token ids. Raised for a bad
    one: TypeError, ValueError (empty, longer than max_context, an id outside the vocabulary), TokenizerError (text,
    but no usable tokenizer.json). Raised by any call that runs the model: Cancelled when it was closed from another
    thread, DeviceError when the device failed. After an error the engine is as it was.
    """

    def __init__(self, checkpoint: Checkpoint, driver: Driver, device: DeviceFacts, max_context: int) -> None:
        self._checkpoint = checkpoint
        self._driver = driver
        self.config: Config = checkpoint.config
        self.device = device
        self.max_context = max_context
        """Tokens of prompt and completion together."""

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """Read on first use. TokenizerError where the folder has no tokenizer.json, or a broken one."""
        path = self._checkpoint.tokenizer_path
        if path is None:
            raise TokenizerError(
                f"{self._checkpoint.path} has no tokenizer.json, which is needed to read and write text; copy the one "
                "of the model into that folder, or pass token ids")
        return Tokenizer.from_file(path, self.config.vocab_size)

    def logits(self, ids: Prompt, rows: Sequence[int] | npt.NDArray[np.integer[Any]] | None = None
               ) -> npt.NDArray[np.float32]:
        """Logits of the token after each of `rows`: float32 (rows, vocab_size).

        ids: the prompt, (tokens,). rows: indices into it, in any order, negative ones from the end; None is all.
        Raises OutOfMemory, before any work, when the result itself would not fit.
        """
        self._driver.check_usable()
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
            self._driver.logits(prompt, indices, out, Event())
        return out

    def generate(self, prompt: Prompt, params: SamplingParams | None = None) -> Completion:
        """Continue `prompt` until a stop token of the checkpoint or of `params`, max_tokens, or max_context."""
        return self.stream(prompt, params).run()

    def stream(self, prompt: Prompt, params: SamplingParams | None = None) -> TokenStream:
        """generate() as an iterator of StreamToken. Bad arguments raise here, not at the first token."""
        self._driver.check_usable()
        has_text = isinstance(prompt, str) or self._checkpoint.tokenizer_path is not None
        return self._stream(self._ids(prompt), params, self._checkpoint.eos_token_ids,
                            self.tokenizer if has_text else None)

    def chat(self, messages: Sequence[ChatMessage], reasoning: Reasoning | None = None,
             params: SamplingParams | None = None) -> Reply:
        """The assistant's next turn.

        messages: {"role": "system" | "developer" | "user" | "assistant", "content": text}, or Message; see
        harmony.render. reasoning: how much the model thinks before it answers, medium unless a system Message says
        otherwise. Raises MessageError for messages that cannot be rendered.
        """
        return self.stream_chat(messages, reasoning, params).run()

    def stream_chat(self, messages: Sequence[ChatMessage], reasoning: Reasoning | None = None,
                    params: SamplingParams | None = None) -> ChatStream:
        """chat() as an iterator of events; see gptoss_native.events. Bad arguments raise here."""
        self._driver.check_usable()
        if isinstance(reasoning, SamplingParams):  # generate() has them second
            raise TypeError("reasoning must be 'low', 'medium' or 'high', not SamplingParams; pass params=...")
        prompt = self._ids(render(messages, self.tokenizer, reasoning=reasoning))
        tokens = self._stream(prompt, params, stop_ids(self.tokenizer), None)
        return ChatStream(tokens, self.tokenizer)

    def close(self) -> None:
        """Stop what runs, which raises Cancelled there, and free the memory. A second close does nothing."""
        self._driver.close()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:  # which copy and deepcopy go through as well
        raise TypeError("an Engine cannot be copied or pickled: it owns a device's memory; load() another")

    def __repr__(self) -> str:
        return f"<Engine {self._checkpoint.path}: max_context {self.max_context} on {self.device}>"

    def _ids(self, prompt: Prompt) -> npt.NDArray[np.int32]:
        ids = self.tokenizer.encode(prompt) if isinstance(prompt, str) else prompt
        return token_ids(ids, self.config.vocab_size, self.max_context)

    def _stream(self, prompt: npt.NDArray[np.int32], params: SamplingParams | None, stop: Iterable[int],
                tokenizer: Tokenizer | None) -> TokenStream:
        params = SamplingParams() if params is None else params
        if not isinstance(params, SamplingParams):
            raise TypeError(f"params must be SamplingParams, not {type(params).__name__}")
        beyond = [token for token in params.stop_token_ids if token >= self.config.vocab_size]
        if beyond:
            raise ValueError(f"stop token id {beyond[0]} is not between 0 and {self.config.vocab_size - 1}")
        return TokenStream(self._driver, prompt, params, frozenset(stop) | frozenset(params.stop_token_ids), tokenizer,
                           self.max_context)
