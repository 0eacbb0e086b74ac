"""Ending the model's reasoning from outside: the tokens that lead from where it stands to its answer."""

from __future__ import annotations

from gptoss_native.harmony.parser import Parser
from gptoss_native.tokenizer import Tokenizer


def closing_ids(parser: Parser, tokenizer: Tokenizer) -> list[int]:
    """Token ids to be put behind what the model has generated, so that its answer comes next.

    From within reasoning `<|end|><|start|>assistant<|channel|>final<|message|>`; behind the header of the prompt, or
    between messages, what is missing of that. Empty where it would do harm: in the middle of a header or of a
    character (ask again after the next token), in an answer, a call or a preamble.
    """
    steps = {"reasoning": 0, "between": 1, "start": 2, "role": 3}
    if parser.place not in steps:
        return []
    special, encode = tokenizer.special, tokenizer.encode
    answer = [special("<|channel|>"), *encode("final"), special("<|message|>")]
    parts = [[special("<|end|>")], [special("<|start|>")], encode("assistant"), answer]
    return [token for part in parts[steps[parser.place]:] for token in part]
