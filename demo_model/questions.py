"""What the finished model is measured with: rows of questions, none of whose operands was trained on."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from demo_model import calculator, smalltalk
from demo_model.conversation import Piece, Preamble, call_result, message, past_call, turn_start
from demo_model.declined import Declined
from demo_model.phrases import TRAINED, UNSEEN
from demo_model.samples import INSTRUCTIONS
from demo_model.sums import OPERATORS, Effort, Operator, Sum
from demo_model.topics import split
from gptoss_native.harmony import Message

Check = Callable[[tuple[Message, ...]], bool]


def answers(expected: str) -> Check:
    """Whether the turn ends in exactly this final answer."""
    def right(messages: tuple[Message, ...]) -> bool:
        return bool(messages) and (messages[-1].channel, messages[-1].text, messages[-1].terminator) == (
            "final", expected, "return")
    return right


def says_what_it_is(messages: tuple[Message, ...]) -> bool:
    """Whether the turn ends in a text that only says what the model is, what it can do, or that it cannot do this."""
    allowed = [smalltalk.DECLINE, *(smalltalk.TALK[name].answer for name in ("greeting", "identity", "skills"))]
    return any(answers(text)(messages) for text in allowed)


def calls(task: calculator.Task) -> Check:
    """Whether the turn ends in a call of the calculator with the task's expression, in JSON."""
    def right(messages: tuple[Message, ...]) -> bool:
        if not messages or messages[-1].malformed:
            return False
        last = messages[-1]
        header = (last.recipient, last.channel, last.content_type, last.terminator)
        if header != (calculator.RECIPIENT, "commentary", "<|constrain|>json", "call"):
            return False
        try:
            return bool(json.loads(last.text) == {"expression": task.expression})
        except ValueError:
            return False
    return right


@dataclass(frozen=True)
class Question:
    """What comes before the model's turn, and whether its messages are right.

    said: the user's text, for engine.chat; None where `prompt` holds more than chat() renders.
    prompt: the messages behind the preamble, for engine.generate.
    """

    preamble: Preamble
    said: str | None
    prompt: list[Piece]
    right: Check


@dataclass(frozen=True)
class Row:
    """required: percentage, None where nothing is demanded. draw: the next question."""

    name: str
    required: float | None
    draw: Callable[[], Question]


NAMES = {"+": "Additions", "-": "Subtractions", "*": "Products with one digit"}


class Questions:
    """All rows, from one seed."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self._declined = Declined(self._rng, unseen=True)

    def rows(self) -> Iterator[Row]:
        demanded: tuple[tuple[Operator, float, float | None], ...] = (("+", 99, 97), ("-", 97, None), ("*", 97, None))
        for op, up_to_three, four in demanded:
            yield Row(f"{NAMES[op]}, up to 3 digits", up_to_three, self._sums((op,), (1, 2, 3)))
            yield Row(f"{NAMES[op]}, 4 digits", four, self._sums((op,), (4,)))
        yield Row("Phrasings never seen, all three, up to 4 digits", 90, self._sums(OPERATORS, (1, 2, 3, 4), UNSEEN))
        yield Row("A calculator is called in the right form", 98, lambda: self._call(unseen=False))
        yield Row("A calculator is called, phrasings never seen", None, lambda: self._call(unseen=True))
        yield Row("Its result is used", 98, self._result)
        yield Row("Questions beyond its skill are not answered", 95, lambda: self._beyond(says_what_it_is))
        yield Row("Questions beyond its skill are declined, in these words", None,
                  lambda: self._beyond(answers(smalltalk.DECLINE)))
        yield Row("Differences below zero are declined", 95, self._below_zero)
        yield Row("Greeted or asked about itself, it says what it is", None, self._about_itself)
        for effort in ("low", "high"):
            yield Row(f"All three, up to 3 digits, {effort} effort", None,
                      self._sums(OPERATORS, (1, 2, 3), effort=effort))

    def held_out_sum(self, ops: tuple[Operator, ...], digits: tuple[int, ...], below_zero: bool = False) -> Sum:
        """The longer operand has one of `digits` digits, the other as many or fewer, all lengths alike."""
        rng = self._rng
        while True:
            op, longest = rng.choice(ops), rng.choice(digits)
            shorter = 1 if op == "*" else rng.randint(1, longest)
            pair = [rng.randint(10 ** (n - 1) if n > 1 else 0, 10**n - 1) for n in (longest, shorter)]
            rng.shuffle(pair)
            if op == "-" and (pair[0] < pair[1]) != below_zero:
                pair.reverse()
            problem = Sum(op, *pair)
            if problem.held_out and (problem.value < 0) == below_zero:
                return problem

    def _sums(self, ops: tuple[Operator, ...], digits: tuple[int, ...],
              phrases: dict[Operator, tuple[str, ...]] = TRAINED, effort: Effort = "medium") -> Callable[[], Question]:
        def draw() -> Question:
            problem = self.held_out_sum(ops, digits)
            return self._asked(self._worded(problem, phrases), problem.answer, effort)
        return draw

    def _worded(self, problem: Sum, phrases: dict[Operator, tuple[str, ...]]) -> str:
        return self._rng.choice(phrases[problem.op]).format(a=problem.left, b=problem.right)

    def _beyond(self, right: Check) -> Question:
        said = self._declined.draw()
        return Question(self._preamble(), said, message("user", said), right)

    def _below_zero(self) -> Question:
        problem = self.held_out_sum(("-",), (1, 2, 3, 4), below_zero=True)
        return self._asked(self._worded(problem, TRAINED), smalltalk.DECLINE)

    def _about_itself(self) -> Question:
        talk = smalltalk.TALK[self._rng.choice(("greeting", "identity", "skills"))]
        said = self._rng.choice(split(talk.said)[1])
        return Question(self._preamble(), said, message("user", said), says_what_it_is)

    def _asked(self, said: str, expected: str, effort: Effort = "medium") -> Question:
        return Question(self._preamble(effort), said, message("user", said), answers(expected))

    def _preamble(self, effort: Effort = "medium", tool: str | None = None) -> Preamble:
        rng = self._rng
        date = None
        if rng.random() < 0.5:
            date = f"20{rng.randint(24, 31)}-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}"
        instructions = rng.choice(INSTRUCTIONS) if rng.random() < 0.2 else None
        return Preamble(effort, date, instructions=instructions, tool=tool)

    def _call(self, unseen: bool) -> Question:
        task = calculator.draw_task(self._rng, held_out=True, unseen=unseen)
        return Question(self._preamble(tool=calculator.draw_calculator(self._rng)), None,
                        message("user", task.question), calls(task))

    def _result(self) -> Question:
        rng = self._rng
        task = calculator.draw_task(rng, held_out=True)
        output, number = calculator.draw_result(rng, task, true=True)
        thought = message("assistant", calculator.THOUGHT, "analysis")
        prompt = [*message("user", task.question), *thought,
                  *past_call(calculator.RECIPIENT, task.arguments(), rng.random() < 0.5),
                  *call_result(calculator.RECIPIENT, output)]
        return Question(self._preamble(tool=calculator.draw_calculator(rng)), None, prompt,
                        answers(calculator.report(number)))


def generation_prompt(question: Question) -> list[Piece]:
    return [*question.preamble.pieces(), *question.prompt, *turn_start()]
