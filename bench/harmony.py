"""Processor time per token of the Harmony parser.

    PYTHONPATH=python python -m bench.harmony path/to/tokenizer.json
"""

from __future__ import annotations

import random
import statistics
import sys
import time
from collections.abc import Callable

from gptoss_native.harmony import Parser
from gptoss_native.tokenizer import Tokenizer

RUNS = 7


def turn(tokenizer: Tokenizer, words: int, seed: int) -> list[int]:
    """A turn as models write it: reasoning, a call, and an answer, of so many words together."""
    choose = random.Random(seed)
    vocabulary = ["the", "cache", "of", "a", "model", "reads", "every", "token", "once,", "\n", "\u6f22\u5b57", "x = 1"]
    text = " ".join(choose.choice(vocabulary) for _ in range(words // 2))
    control = tokenizer.special
    channel, message, end, start = map(control, ("<|channel|>", "<|message|>", "<|end|>", "<|start|>"))
    encode = tokenizer.encode
    call = [channel, *encode("commentary"), *encode(" to=functions.get_weather"), *encode(" "),
            control("<|constrain|>"), *encode("json"), message, *encode('{"location": "Tokyo"}'), end]
    return [channel, *encode("analysis"), message, *encode(text), end, start, *encode("assistant"), *call,
            start, *encode("assistant"), channel, *encode("final"), message, *encode(text), control("<|return|>")]


def one_by_one(tokenizer: Tokenizer, ids: list[int]) -> None:
    parser = Parser(tokenizer)
    for token in ids:
        parser.feed(token)
    parser.finish()


def at_once(tokenizer: Tokenizer, ids: list[int]) -> None:
    parser = Parser(tokenizer)
    parser.feed(ids)
    parser.finish()


def microseconds(run: Callable[[Tokenizer, list[int]], None], tokenizer: Tokenizer, ids: list[int]) -> float:
    """Median processor time per token, of several runs."""
    times = []
    for _ in range(RUNS):
        begin = time.process_time()
        run(tokenizer, ids)
        times.append(time.process_time() - begin)
    return statistics.median(times) / len(ids) * 1e6


def main() -> None:
    tokenizer = Tokenizer.from_file(sys.argv[1], 201_088)
    for name, words in (("long turn", 40_000), ("short turn", 200), ("call and little else", 2)):
        ids = turn(tokenizer, words, 0)
        for way, run in (("one by one", one_by_one), ("at once", at_once)):
            print(f"{name}, {len(ids)} tokens, {way}: {microseconds(run, tokenizer, ids):.2f} us a token")


if __name__ == "__main__":
    main()
