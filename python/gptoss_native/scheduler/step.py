"""One step of the engine: who computes how many tokens of it, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from gptoss_native.errors import Cancelled, GptOssError, OutOfMemory
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


Part = tuple[Sequence, int]
"""A sequence, and how many tokens it computes."""


class Step:
    """A step that the device has to do: begin(), or begin_ahead(); done with finish().

    It is one transaction: OutOfMemory, Cancelled (`interrupted` said True) or DeviceError, when it begins or when it
    is finished, leave every sequence as it was. What goes wrong in one sequence alone is the error of its outcome; the
    others go on.
    """

    def __init__(self, native: _core.Step, parts: list[Part], failed: list[Outcome], ahead: bool) -> None:
        self.native = native
        self.sequences = {sequence for sequence, _ in parts}
        """Who takes part."""
        self._parts, self._failed, self._ahead = parts, failed, ahead

    def wanted(self, running: Iterable[Sequence]) -> dict[Sequence, int]:
        """Who takes part, and with how many tokens, but those for whom it is for nothing: sequences that do not run any
        more, or do not go on as this step takes them to."""
        present = set(running)
        return {sequence: tokens for sequence, tokens in self._parts
                if sequence in present and (not self._ahead or sequence.task.free)}

    def finish(self, engine: _core.Engine, running: Iterable[Sequence],
               interrupted: Callable[[], bool]) -> list[Outcome]:
        """Wait for it, and tell the callers what came of it."""
        wanted = self.wanted(running)
        dropped = [sequence not in wanted for sequence, _ in self._parts]
        with native_errors():
            outputs = engine.collect(self.native, interrupted, dropped)
        return self._failed + [_outcome(sequence, tokens, output)
                               for (sequence, tokens), output in zip(self._parts, outputs) if sequence in wanted]


def begin(engine: _core.Engine, sequences: list[Sequence], token_budget: int, interrupted: Callable[[], bool]) -> Step:
    """All `sequences` together, `token_budget` tokens at most; each weight is read once."""
    work, parts, failed = [], [], []
    for sequence, tokens in shares(sequences, token_budget, engine.max_outputs):
        try:
            work.append(sequence.work(tokens))
            parts.append((sequence, tokens))
        except BaseException as error:  # of what the caller supplied
            failed.append(Outcome(sequence, error=error))
    with native_errors():
        native = engine.submit(work, interrupted)
    assert native is not None
    return Step(native, parts, failed, ahead=False)


def begin_ahead(engine: _core.Engine, before: Step, running: Iterable[Sequence],
                interrupted: Callable[[], bool]) -> Step | None:
    """The step behind `before`, which the device is still at: one more draw of all that run, but of those that end
    there.

    None where one of them does not take part in `before`, or cannot say yet how it goes on, and where there is no room
    without costing a checkpoint: then it is begun when `before` is finished. There a sequence may draw its end, have
    something forced behind its draw, or lose its caller: then its part of this step is for nothing, and finish() leaves
    it out, as if it had never been.
    """
    work, parts, there = [], [], before.wanted(running)
    for sequence in running:
        if sequence not in there:
            return None
        if sequence.ends(there[sequence]):
            continue
        ahead = sequence.work_ahead(there[sequence])
        if ahead is None:
            return None
        work.append(ahead)
        parts.append((sequence, 1))
    if not work:
        return None
    try:
        with native_errors():
            native = engine.submit(work, interrupted, before.native)
    except (OutOfMemory, Cancelled):  # said again when the step is begun in its turn, if it is so then
        return None
    return None if native is None else Step(native, parts, [], ahead=True)


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
