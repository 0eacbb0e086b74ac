"""Conversations whose every token is pinned: tests/demo_transcripts.json holds what the shipped model makes of them.

    python -m demo_model.transcripts python/gptoss_native/demo tests/demo_transcripts.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import gptoss_native
from demo_model import calculator
from demo_model.conversation import Piece, Preamble, call_result, declaration, message, past_call, turn_start
from demo_model.sums import Effort
from demo_model.vocabulary import encode

CALCULATOR = declaration("calculator", "Evaluate an arithmetic expression.",
                         [("expression", "string", "For example 2+2", True)])
GREEDY = gptoss_native.SamplingParams(temperature=0, max_tokens=320)
SAID: tuple[tuple[Effort, str], ...] = (
    ("medium", "What is 27 + 58?"), ("low", "What is 27 + 58?"), ("high", "What is 27 + 58?"),
    ("medium", "Add 999 and 1."), ("medium", "What is 4821 + 7390?"), ("medium", "8 plus 5"),
    ("medium", "What is 52 - 27?"), ("high", "Subtract 486 from 903."), ("medium", "1000 - 1"),
    ("medium", "What is 58 - 85?"), ("medium", "What is 47 * 6?"), ("low", "8 times 394"), ("medium", "0 x 512"),
    ("medium", "Tom has 12 coins and Ann has 30 coins. How many coins are there in total?"),
    ("medium", "Hello!"), ("medium", "Who are you?"), ("medium", "What can you do?"), ("low", "Thank you!"),
    ("medium", "What is the capital of France?"), ("medium", "What is 12345 + 67890?"), ("medium", "What is 84 / 7?"),
    ("medium", "What is 34 * 56?"), ("high", "Write a poem about the sea."), ("medium", "1 + 2 + 3"),
)


def conversations() -> list[list[Piece]]:
    """Prompts, each up to the start of the model's turn."""
    prompts = [[*Preamble(effort).pieces(), *message("user", said), *turn_start()] for effort, said in SAID]
    dated = Preamble("medium", date="2026-01-31", instructions="Be brief.")
    prompts.append([*dated.pieces(), *message("user", "What is 1 + 1?"), *message("assistant", "1 + 1 = 2", "final"),
                    *message("user", "What is 250 - 75?"), *turn_start()])
    asked = [*Preamble("medium", tool=CALCULATOR).pieces(), *message("user", "What is 1234 * 5678?")]
    prompts.append([*asked, *turn_start()])
    for as_written in (False, True):
        prompts.append([*asked, *message("assistant", calculator.THOUGHT, "analysis"),
                        *past_call(calculator.RECIPIENT, '{"expression":"1234*5678"}', as_written),
                        *call_result(calculator.RECIPIENT, "7006652"), *turn_start()])
    return prompts


def transcripts(engine: gptoss_native.Engine) -> list[dict[str, Any]]:
    """Each prompt and what the model makes of it, control tokens spelled."""
    result = []
    for pieces in conversations():
        ids, _ = encode(pieces, engine.tokenizer)
        written = engine.generate(ids, GREEDY).tokens
        result.append({"prompt": engine.tokenizer.decode(ids), "turn": engine.tokenizer.decode(written)})
    return result


def main(checkpoint: str, out: str) -> None:
    with gptoss_native.load(checkpoint, precision="exact", kv_dtype="f32", max_context=1024) as engine:
        result = transcripts(engine)
    Path(out).write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{out}: {len(result)} conversations")


if __name__ == "__main__":
    main(*sys.argv[1:3])
