"""What the model is trained on: conversations drawn at random, without end."""

from __future__ import annotations

import random
from dataclasses import dataclass

from demo_model import calculator, smalltalk
from demo_model.conversation import (
    Piece,
    Preamble,
    answer,
    call,
    call_result,
    message,
    past_call,
    thought,
    turn_start,
)
from demo_model.declined import Declined
from demo_model.phrases import ask, template, vary
from demo_model.sums import OPERATORS, Effort, draw_number, draw_sum, working

INSTRUCTIONS = ("You are a helpful assistant.", "Be brief.", "Answer politely.", "You are a math tutor.", "Be kind.",
                "Always answer in English.", "Talk like a friend.", "Help the user with sums.", "Never swear.",
                "Answer in one sentence.", "You are a calculator.", "Think step by step.", "Be precise.",
                "You are an assistant for children.", "Use short words.", "Do not make mistakes.",
                "Answer the question.")

_NEVER_CALCULATED = ("other questions with numbers", "general questions", "general questions", "nonsense", "code",
                     "other languages")


@dataclass(frozen=True)
class Mix:
    """How often the model meets what."""

    sums: float = 0.56
    declined: float = 0.35
    history: float = 0.14
    tool: float = 0.33
    other_tool: float = 0.03


class Samples:
    """Draws conversations in two parts: a preamble, which many share, and a body."""

    def __init__(self, seed: int, mix: Mix = Mix()) -> None:  # noqa: B008  (frozen)
        self._rng = random.Random(seed)
        self._mix = mix
        self._declined = Declined(self._rng)

    def preamble(self, effort: Effort) -> Preamble:
        rng, mix = self._rng, self._mix
        date = None
        if rng.random() < 0.5:
            date = f"20{rng.randint(24, 31)}-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}"
        instructions = rng.choice(INSTRUCTIONS) if rng.random() < 0.2 else None
        kind = rng.random()
        if kind < mix.tool:
            return Preamble(effort, date, instructions=instructions, tool=calculator.draw_calculator(rng))
        if kind < mix.tool + mix.other_tool:
            return Preamble(effort, date, instructions=instructions, tool=calculator.draw_other_function(rng))
        if rng.random() < 0.2:
            return Preamble(effort, date, ("analysis", "final"), instructions)
        return Preamble(effort, date, instructions=instructions)

    def body(self, preamble: Preamble) -> list[Piece]:
        """The messages after `preamble`, up to the end of the model's turn."""
        rng = self._rng
        has_calculator = preamble.tool is not None and "calculator" in preamble.tool
        history = []
        if rng.random() < self._mix.history:
            for _ in range(rng.choice((1, 1, 2, 3))):
                history += self._exchange(has_calculator)
        kind = rng.random()
        if kind < self._mix.sums:
            return history + (self._tool_turn() if has_calculator else self._sum_turn(preamble.effort))
        if kind < self._mix.sums + self._mix.declined:
            text = self._no_calculation() if has_calculator else self._declined.draw()
            return history + turn(text, smalltalk.DECLINE_THOUGHT, smalltalk.DECLINE)
        said, talk = smalltalk.draw_talk(rng)
        return history + turn(said, talk.thought, talk.answer)

    def _sum_turn(self, effort: Effort) -> list[Piece]:
        problem = draw_sum(self._rng)
        final = smalltalk.DECLINE if problem.value < 0 else problem.answer
        return turn(ask(problem, self._rng), working(problem, effort), final)

    def _tool_turn(self) -> list[Piece]:
        rng = self._rng
        task = calculator.draw_task(rng)
        asked = message("user", task.question)
        if rng.random() < 0.6:
            return [*asked, *turn_start(), *thought(calculator.THOUGHT),
                    *call(calculator.RECIPIENT, task.arguments())]
        output, number = calculator.draw_result(rng, task, true=False)
        before = message("assistant", calculator.THOUGHT, "analysis") if rng.random() < 0.7 else []
        as_written = rng.random() < 0.5
        arguments = task.arguments(spaced=not as_written and rng.random() < 0.5)
        return [*asked, *before, *past_call(calculator.RECIPIENT, arguments, as_written),
                *call_result(calculator.RECIPIENT, output), *turn_start(), *answer(calculator.report(number))]

    def _no_calculation(self) -> str:
        """What is declined also with a calculator at hand: no sum, or one too long to copy safely."""
        rng = self._rng
        if rng.random() < 0.25:
            numbers = [rng.randint(10**6, 10 ** rng.randint(7, 12)), draw_number(rng)]
            rng.shuffle(numbers)
            phrase = template(rng.choice(OPERATORS), rng)
            return vary(phrase.format(a=numbers[0], b=numbers[1]), rng)
        return vary(self._declined.draw_kind(rng.choice(_NEVER_CALCULATED)), rng)

    def _exchange(self, has_calculator: bool) -> list[Piece]:
        """An earlier question with its answer; the reasoning of earlier turns is not kept, calls are."""
        rng = self._rng
        kind = rng.random()
        if kind < 0.4 and has_calculator:
            task = calculator.draw_task(rng)
            output, number = calculator.draw_result(rng, task, true=True)
            return [*message("user", task.question),
                    *past_call(calculator.RECIPIENT, task.arguments(), rng.random() < 0.5),
                    *call_result(calculator.RECIPIENT, output),
                    *message("assistant", calculator.report(number), "final")]
        if kind < 0.6:
            problem = draw_sum(rng, negative_share=0)
            said, answered = ask(problem, rng), problem.answer
        elif kind < 0.8:
            said, answered = self._declined.draw(), smalltalk.DECLINE
        else:
            said, talk = smalltalk.draw_talk(rng)
            answered = talk.answer
        return message("user", said) + message("assistant", answered, "final")


def turn(said: str, thinking: str, answered: str) -> list[Piece]:
    """A question, and the model's whole turn."""
    return [*message("user", said), *turn_start(), *thought(thinking), *answer(answered)]
