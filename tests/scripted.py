"""An engine whose model says what it is told: for tests of what is made of it, also in a process of its own.

    python tests/scripted.py FOLDER SCRIPT.json chat ...

runs the command line with it. SCRIPT.json: {"generations": [[pieces], ...], "delay": seconds for each token, "absent":
[modules that cannot be imported]}; a piece is a control token or a text. After the last generation it begins again.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import gptoss_native as gptoss
from gptoss_native import SamplingParams

END, START, CHANNEL, MESSAGE = "<|end|>", "<|start|>", "<|channel|>", "<|message|>"


def think(text: str) -> tuple[str, ...]:
    return (CHANNEL, "analysis", MESSAGE, text, END, START, "assistant")


def answer(text: str) -> tuple[str, ...]:
    return (CHANNEL, "final", MESSAGE, text, "<|return|>")


def preamble(text: str) -> tuple[str, ...]:
    return (CHANNEL, "commentary", MESSAGE, text, END, START, "assistant")


def call(name: str, arguments: str) -> tuple[str, ...]:
    return (CHANNEL, "commentary", f" to=functions.{name} ", "<|constrain|>", "json", MESSAGE, arguments, "<|call|>")


class Scripted:
    """`engine`, with the generations of its turns scripted; it closes the engine only where it `owns` it."""

    def __init__(self, engine: gptoss.Engine, *generations: Sequence[str], delay: float = 0.0, owns: bool = False) -> None:
        self._engine, self._delay, self._owns = engine, delay, owns
        self._scripts = [self._ids(pieces) for pieces in generations]
        self.generation = -1
        self.asked: list[str] = []
        """The prompts, as text."""
        self.replies: list[gptoss.Reply] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def __enter__(self) -> Scripted:
        return self

    def __exit__(self, *_: object) -> None:
        if self._owns:
            self._engine.close()

    def stream_chat(self, messages: gptoss.Conversation, reasoning: Any = None, params: SamplingParams | None = None,
                    **options: Any) -> gptoss.ChatStream:
        self.asked.append(self._engine.tokenizer.decode(messages.tokens_for_completion()))
        params = replace(params or SamplingParams(), logits_mask=self._mask)
        return self._engine.stream_chat(messages, reasoning, params, **options)

    def _mask(self, completion: npt.NDArray[np.int32]) -> npt.NDArray[np.uint32]:
        time.sleep(self._delay)
        self.generation += not len(completion)
        script = self._scripts[self.generation % len(self._scripts)]
        token = script[min(len(completion), len(script) - 1)]
        mask = np.zeros(-(-self._engine.config.vocab_size // 32), np.uint32)
        mask[token // 32] = np.uint32(1 << token % 32)
        return mask

    def _ids(self, pieces: Sequence[str]) -> list[int]:
        tokenizer, ids = self._engine.tokenizer, []
        for piece in pieces:
            special = tokenizer.specials.get(piece)
            ids += tokenizer.encode(piece) if special is None else [special]
        return ids


if __name__ == "__main__":
    import gptoss_native.cli.chat
    from gptoss_native.cli import main

    folder, script, *arguments = sys.argv[1:]
    told = json.loads(Path(script).read_text(encoding="utf-8"))
    for module in told.get("absent", []):
        sys.modules[module] = None  # type: ignore[assignment]
    load_model = gptoss_native.cli.chat.load_model
    gptoss_native.cli.chat.load_model = lambda *given: Scripted(  # type: ignore[assignment,return-value]
        load_model(*given), *told["generations"], delay=told.get("delay", 0.0), owns=True)
    raise SystemExit(main([arguments[0], "--model", folder, *arguments[1:]]))
