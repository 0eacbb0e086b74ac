"""Measures a checkpoint through the package: greedy answers to the rows of questions.py.

    python -m demo_model.evaluate python/gptoss_native/demo --bf16 OUT --json demo_model/measured.json

Each setting answers the same questions. The first is what the package does by default; the others are compared
with it: `exact` keeps float32 throughout, `unquantised` is the bf16 export of the same training.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gptoss_native
from demo_model.conversation import Preamble
from demo_model.questions import Question, Questions, Row, generation_prompt
from demo_model.vocabulary import encode
from gptoss_native.harmony import Message, Parser, SystemContent

GREEDY = gptoss_native.SamplingParams(temperature=0, max_tokens=320)
AT_ONCE = 64
"""Sequences that run together."""


@dataclass(frozen=True)
class Setting:
    name: str
    folder: Path
    precision: str = "fast"
    kv_dtype: str = "bf16"


@dataclass(frozen=True)
class Answered:
    """One turn of the model."""

    right: bool
    tokens: tuple[int, ...]
    thinking: int
    """Tokens of the analysis channel."""


async def answer(engine: gptoss_native.Engine, question: Question) -> Answered:
    if question.said is not None:
        reply = await engine.achat(chat_messages(question.preamble, question.said), params=GREEDY)
        messages, tokens = reply.messages, reply.tokens
    else:
        ids, _ = encode(generation_prompt(question), engine.tokenizer)
        completion = await engine.agenerate(ids, GREEDY)
        parser = Parser(engine.tokenizer, role="assistant")
        for token in completion.tokens:
            parser.feed(token)
        parser.finish(completion.finish_reason)
        messages, tokens = tuple(parser.messages), completion.tokens
    thinking = sum(len(message.token_ids) for message in messages if message.channel == "analysis")
    return Answered(question.right(messages), tokens, thinking)


def chat_messages(preamble: Preamble, said: str) -> list[Message | dict[str, Any]]:
    """What a caller of chat() writes to get that preamble."""
    system = SystemContent(reasoning_effort=preamble.effort, conversation_start_date=preamble.date,
                           valid_channels=preamble.channels)
    messages: list[Message | dict[str, Any]] = [Message("system", system)]
    if preamble.instructions is not None:
        messages.append({"role": "developer", "content": preamble.instructions})
    return [*messages, {"role": "user", "content": said}]


def answer_all(setting: Setting, questions: Sequence[Question]) -> list[Answered]:
    async def run(engine: gptoss_native.Engine) -> list[Answered]:
        return list(await asyncio.gather(*(answer(engine, question) for question in questions)))

    with gptoss_native.load(setting.folder, precision=setting.precision, kv_dtype=setting.kv_dtype, max_context=1024,
                            max_sequences=AT_ONCE, max_queue=10**6) as engine:
        return asyncio.run(run(engine))


def measure(settings: Sequence[Setting], rows: Sequence[Row], count: int, compared: int, show: int) -> dict[str, Any]:
    """`count` questions of each row for the first setting, the first `compared` of them for the others too."""
    drawn = [[row.draw() for _ in range(count)] for row in rows]
    answered: dict[str, list[list[Answered]]] = {}
    for index, setting in enumerate(settings):
        started = time.monotonic()
        size = count if index == 0 else compared
        flat = iter(answer_all(setting, [question for questions in drawn for question in questions[:size]]))
        answered[setting.name] = [[next(flat) for _ in range(size)] for _ in rows]
        print(f"{setting.name}: {len(rows) * size} questions in {time.monotonic() - started:.0f} s", flush=True)
    first = answered[settings[0].name]
    result = []
    for row, questions, answers in zip(rows, drawn, first):
        share = percentage([a.right for a in answers])
        thinking = sum(a.thinking for a in answers) / count
        result.append({"row": row.name, "required": row.required, "n": count, "right": {settings[0].name: share},
                       "tokens of reasoning": round(thinking, 1)})
        print(f"{share:6.1f} {row.name}", flush=True)
        wrong = [question.said for question, a in zip(questions, answers) if not a.right]
        for said in wrong[:show]:
            print(f"         {said}")
    return {"rows": result, "compared": compare(answered, settings[0].name, compared)}


def compare(answered: dict[str, list[list[Answered]]], first: str, count: int) -> dict[str, Any]:
    """Over the questions that all settings answered: right answers, and turns that are token for token the first's."""
    flat = {name: [a for answers in rows for a in answers[:count]] for name, rows in answered.items()}
    return {"n": len(flat[first]),
            "right": {name: percentage([a.right for a in answers]) for name, answers in flat.items()},
            "same text": {name: percentage([a.tokens == b.tokens for a, b in zip(answers, flat[first])])
                          for name, answers in flat.items() if name != first}}


def percentage(values: Sequence[bool]) -> float:
    return round(100 * sum(values) / len(values), 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--bf16", type=Path, help="the same model without MXFP4")
    parser.add_argument("--exact", action="store_true", help="also with precision exact and float32 keys and values")
    parser.add_argument("--count", type=int, default=1000, help="questions of each row")
    parser.add_argument("--compared", type=int, default=100, help="how many of them for the other settings")
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--show", type=int, default=3, help="so many wrongly answered questions of each row")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    settings = [Setting("default", options.checkpoint)]
    if options.exact:
        settings.append(Setting("exact", options.checkpoint, "exact", "f32"))
    if options.bf16 is not None:
        settings.append(Setting("unquantised", options.bf16))
    result = measure(settings, list(Questions(options.seed).rows()), options.count, options.compared, options.show)
    if options.json is not None:
        options.json.write_text(json.dumps({"seed": options.seed, **result}, indent=1) + "\n")


if __name__ == "__main__":
    main()
