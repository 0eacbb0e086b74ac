"""Questions beyond the model's skill: sums that are too hard, and everything that is no sum."""

from __future__ import annotations

import random
import string
from collections.abc import Callable

from demo_model import topics
from demo_model.phrases import UNSEEN, in_frame, template, vary
from demo_model.sums import OPERATORS, Operator, draw_number

_DIVISIONS = ("What is {a} / {b}?", "{a}/{b}", "Divide {a} by {b}.", "{a} divided by {b}", "What is {a} ÷ {b}?",
              "{a} / {b} =", "{a}÷{b}", "How much is {a} / {b}?", "How often does {b} go into {a}?", "{a} : {b}",
              "Calculate {a} / {b}", "What is {a} over {b}?", "Share {a} sweets among {b} children.", "{a} / {b}",
              "What is the quotient of {a} and {b}?", "Compute {a} divided by {b}.", "Can you divide {a} by {b}?",
              "What is the remainder of {a} divided by {b}?", "Split {a} into {b} parts.", "Evaluate {a}/{b}.",
              "{a} : {b} =", "What is {a} : {b}?", "Quotient of {a} and {b}", "The quotient of {a} and {b}?",
              "{a}:{b}",
              "What is the quotient when {a} is divided by {b}?", "How many times does {b} fit into {a}?",
              "{a} ÷ {b} =",
              "Remainder of {a} / {b}", "{a} by {b}, divided", "Cut {a} into {b} pieces.", "Solve {a} / {b}",
              "{a} over {b}",
              "Each of {b} people gets a part of {a}. How much?", "Work out {a} / {b}", "Halve {a}.",
              "Find {a} : {b}.",
              "The ratio of {a} to {b}", "What is the ratio of {a} and {b}?", "{a} shared by {b}", "divide {a} {b}")
_THREE = ("What is {a} + {b} + {c}?", "{a}+{b}+{c}", "{a} + {b} - {c}", "{a} - {b} - {c}", "Add {a}, {b} and {c}.",
          "{a} * {b} + {c}", "{a} + {b} * {c}", "({a} + {b}) * {c}", "What is {a} plus {b} minus {c}?", "{a}-{b}+{c}",
          "{a} plus {b} plus {c}", "What is the sum of {a}, {b} and {c}?", "({a}-{b})*{c}", "{a} times {b} plus {c}",
          "Calculate {a} * {b} - {c}", "{a} * {b} * {c}", "What is {a} - {b} + {c}?", "How much is {a} + {b} + {c}?",
          "Multiply {a}, {b} and {c}.", "Start with {a}, add {b}, then subtract {c}.", "{a} x {b} x {c} =",
          "{a} + {b} + {c} =", "{a}-{b}-{c}", "{a}+{b}-{c}", "{a}*{b}-{c}", "{a} - {b} * {c}", "{a} x {b} - {c}",
          "Calculate {a} + {b} - {c}", "Calculate {a} + {b} * {c}", "Add {a} and {b} and {c}.",
          "Sum of {a}, {b}, {c}",
          "Add {a}, {b}, {c}.", "Compute {a} * {b} - {c}.", "What is {a} * {b} + {c}?", "{a} minus {b} minus {c}",
          "{a} minus {b} plus {c}", "{a} plus {b} times {c}", "Subtract {b} and {c} from {a}.", "{a}+{b}*{c}",
          "I had {a}, got {b} and lost {c}.", "The total of {a}, {b} and {c}?", "{a} - ({b} + {c})",
          "{a}, {b}, {c}: sum?")
_SMALL = ("zero one two three four five six seven eight nine ten eleven twelve fifteen twenty thirty forty fifty "
          "sixty eighty ninety hundred thousand").split()


class Declined:
    """Draws such questions. unseen: from wording and topics that are never trained on."""

    def __init__(self, rng: random.Random, unseen: bool = False) -> None:
        self._rng = rng
        self._unseen = unseen
        self.kinds: dict[str, tuple[int, Callable[[], str]]] = {
            "numbers of five digits and more": (20, self._large),
            "products of long numbers": (15, self._long_product),
            "divisions": (9, lambda: self._operands(_DIVISIONS, self._quotient)),
            "three operands": (12, lambda: self._operands(_THREE, self._chain)),
            "fractions, signs, words": (14, self._unusual_number),
            "other questions with numbers": (16, self._numbered),
            "general questions": (14, self._general),
            "other languages": (5, lambda: self._part(topics.FOREIGN)),
            "code": (4, lambda: self._part(topics.CODE)),
            "nonsense": (6, self._nonsense),
        }

    def draw(self) -> str:
        weights = [weight for weight, _ in self.kinds.values()]
        _, make = self._rng.choices(list(self.kinds.values()), weights=weights)[0]
        text = make()
        return text if self._unseen else vary(text, self._rng)

    def draw_kind(self, kind: str) -> str:
        return self.kinds[kind][1]()

    def _part(self, entries: tuple[str, ...]) -> str:
        return self._rng.choice(topics.split(entries)[self._unseen])

    def _sum_phrase(self, operators: tuple[Operator, ...] = OPERATORS) -> str:
        op = self._rng.choice(operators)
        return self._rng.choice(UNSEEN[op]) if self._unseen else template(op, self._rng)

    def _operands(self, listed: tuple[str, ...], compose: Callable[[], str]) -> str:
        """Numbers in one of the `listed` phrases, or in training often in a composed one."""
        phrase = self._part(listed)
        if not self._unseen and self._rng.random() < 0.5:
            composed = in_frame(compose(), self._rng)
            phrase = phrase if composed in topics.split(listed)[1] else composed
        a, b, c = (draw_number(self._rng) for _ in range(3))
        return phrase.format(a=a, b=max(1, b), c=c)

    def _quotient(self) -> str:
        return self._rng.choice(("{a} / {b}", "{a}/{b}", "{a} ÷ {b}", "{a}÷{b}", "{a} : {b}", "{a}:{b}", "{a} over {b}",
                                 "{a} divided by {b}", "the quotient of {a} and {b}", "the ratio of {a} to {b}",
                                 "the remainder of {a} by {b}", "{a} mod {b}", "{a} shared among {b}"))

    def _chain(self) -> str:
        """Three operands and two operators."""
        rng = self._rng
        space = rng.choice(("", " "))
        signs = [rng.choice("+-*x×/+-") for _ in range(2)]
        if rng.random() < 0.25:
            space, signs = " ", [rng.choice(("plus", "minus", "times", "divided by")) for _ in range(2)]
        first, second = (f"{space}{sign}{space}" for sign in signs)
        return rng.choice(("{a}%s{b}%s{c}", "{a}%s{b}%s{c}", "({a}%s{b})%s{c}", "{a}%s({b}%s{c})")) % (first, second)

    def _large(self) -> str:
        rng = self._rng
        large = rng.randint(10**4, 10 ** rng.choice([5, 5, 5, 6, 7, 8, 9, 12]) - 1)
        other = draw_number(rng) if rng.random() < 0.5 else rng.randint(10**4, 10 ** rng.randint(5, 9))
        phrase = self._sum_phrase()
        a, b = (large, other) if rng.random() < 0.6 else (other, large)
        return phrase.format(a=a, b=b)

    def _long_product(self) -> str:
        return self._sum_phrase(("*",)).format(a=max(10, draw_number(self._rng)), b=max(10, draw_number(self._rng)))

    def _unusual_number(self) -> str:
        rng = self._rng
        a, b = str(draw_number(rng)), str(draw_number(rng))
        kind = rng.randrange(5)
        if kind == 0:
            a = f"{draw_number(rng, 3)}.{draw_number(rng, 2)}"
        elif kind == 1:
            a, b = f"{draw_number(rng, 2)},{rng.randint(100, 999)}", rng.choice([b, f"{rng.randint(1, 99)},000"])
        elif kind == 2:
            a = f"-{max(1, draw_number(rng))}"
        elif kind == 3:
            a, b = rng.choice(_SMALL), rng.choice([*_SMALL, b])
        else:
            a = f"{rng.randint(1, 9)}/{rng.randint(2, 9)}"
        if rng.random() < 0.5:
            a, b = b, a
        return self._sum_phrase().format(a=a, b=b)

    def _numbered(self) -> str:
        rng = self._rng
        return self._part(topics.NUMBERED).format(
            n=draw_number(rng), p=draw_number(rng), m=rng.randint(2, 60), k=rng.randint(2, 9),
            t=self._part(topics.THINGS))

    def _general(self) -> str:
        if self._rng.random() < 0.45:
            return self._part(topics.QUESTIONS)
        return self._part(topics.REQUESTS).format(t=self._part(topics.THINGS), u=self._part(topics.THINGS))

    def _nonsense(self) -> str:
        rng = self._rng
        if rng.random() < 0.3:
            letters = string.ascii_letters + string.punctuation + "     "
            return "".join(rng.choice(letters) for _ in range(rng.randint(1, 16))).strip() or "?"
        words = [self._part(topics.WORDS) for _ in range(rng.randint(1, 9))]
        if rng.random() < 0.3:
            words.insert(rng.randint(0, len(words)), str(draw_number(rng)))
        return " ".join(words) + rng.choice(["?", ".", "", "!"])
