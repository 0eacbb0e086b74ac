"""One step of the engine: who computes how many tokens of it, and what came of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from gptoss_native.errors import GptOssError
from gptoss_native.native import _core, native_errors
from gptoss_native.scheduler.sequence import Sequence


class Outcome(NamedTuple):
    """What a step did for one sequence.

    tokens: what it computed. began: they led to its first token. decoded: they led to a later one. Tokens that led
    to none are those of a prompt, or of a sequence that is computed once more.
    """

    sequence: Sequence
    tokens: int = 0
    began: bool = False
    decoded: bool = False
    error: BaseException | None = None


def step(native: _core.Engine, sequences: list[Sequence], token_budget: int,
         interrupted: Callable[[], bool]) -> list[Outcome]:
    """All `sequences` together, `token_budget` tokens at most; each weight is read once.

    It is one transaction: OutOfMemory, Cancelled (`interrupted` said True) or DeviceError leave every sequence as it
    was. What goes wrong in one sequence alone is the error of its outcome; the others go on.
    """
    work, taking_part, outcomes = [], [], []
    for sequence, tokens in shares(sequences, token_budget, native.max_outputs):
        try:
            work.append(sequence.work(tokens))
            taking_part.append((sequence, tokens))
        except BaseException as error:  # of what the caller supplied
            outcomes.append(Outcome(sequence, error=error))
    with native_errors():
        outputs = native.step(work, interrupted)
    return outcomes + [_outcome(*part, output) for part, output in zip(taking_part, outputs)]


def shares(sequences: list[Sequence], token_budget: int, max_outputs: int) -> list[tuple[Sequence, int]]:
    """How many tokens of the next step each sequence gets: at least one.

    Decodes come first. Of what is left, prefills get half in equal parts, so that none of them starves, and the
    rest goes to those with the fewest tokens to go, so that a short prompt is not kept waiting by a long one.
    token_budget and max_outputs are at least len(sequences).
    """
    decodes = [sequence for sequence in sequences if sequence.pending == 1]
    prefills = sorted((sequence for sequence in sequences if sequence.pending > 1), key=lambda each: each.pending)
    rows = max_outputs // len(sequences)
    budget = token_budget - len(decodes)
    tokens = [sequence.chunk(max(1, budget // (2 * len(prefills))), rows) for sequence in prefills]
    spare = budget - sum(tokens)
    for i, sequence in enumerate(prefills):
        more = sequence.chunk(tokens[i] + spare, rows)
        spare -= more - tokens[i]
        tokens[i] = more
    return [*((sequence, 1) for sequence in decodes), *zip(prefills, tokens)]


def _outcome(sequence: Sequence, tokens: int, output: _core.Output) -> Outcome:
    if output.error:
        return Outcome(sequence, error=GptOssError(output.error))
    continuing = sequence.task.continuing
    try:
        drew = sequence.advance(tokens, output)
    except BaseException as error:  # of what the caller supplied
        return Outcome(sequence, tokens, error=error)
    return Outcome(sequence, tokens, began=drew and not continuing, decoded=drew and continuing)
