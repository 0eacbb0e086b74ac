"""Tasks with a calculator at hand: when to call it, with what, and what to do with its result."""

from __future__ import annotations

import json
import random
import re
from dataclasses import dataclass

from demo_model.conversation import declaration
from demo_model.phrases import UNSEEN, template, vary
from demo_model.sums import Sum, draw_number

RECIPIENT = "functions.calculator"
THOUGHT = "The calculator can do this."
MOST_DIGITS = 5
"""Of the operands. With longer ones the copy of a digit could go wrong unnoticed, so they are declined."""

_DESCRIPTIONS = ("Evaluate an arithmetic expression.", "Calculator", "Calculates the value of an expression.",
                 "A calculator for sums.", "Compute the result of a formula.", "Evaluates a mathematical expression",
                 "Use this for arithmetic.", "Does arithmetic.", "Evaluate a math expression and return the result.",
                 "Calculate an expression such as 2+2.", "Simple calculator", "Performs calculations.", "")
_COMMENTS = ("The expression", "Arithmetic expression", "For example 2+2", "The expression to evaluate", "e.g. 17*3",
             "What to compute", "Expression, such as 12/4", "A mathematical expression", "", "", "The sum to work out")
_OTHERS = (
    ("get_weather", "Get the weather.", (("location", "string", "City", True),)),
    ("search", "Search the web.", (("query", "string", "What to look for", True),)),
    ("get_time", "The current time.", (("zone", "string", "", False),)),
    ("send_email", "Send an email.", (("to", "string", "", True), ("text", "string", "", True))),
    ("play_music", "Plays a song.", (("song", "string", "Title of the song", True),)),
)
_DIVISION_TRAINED = ("What is {a} / {b}?", "{a}/{b}", "Divide {a} by {b}.", "{a} divided by {b}", "{a} / {b} =",
                     "How much is {a} / {b}?", "Calculate {a} / {b}", "Can you divide {a} by {b}?")


@dataclass(frozen=True)
class Task:
    """A question that the calculator can answer."""

    question: str
    expression: str

    def arguments(self, spaced: bool = False) -> str:
        """The call's JSON. spaced: as clients may write it when they send it back."""
        return json.dumps({"expression": self.expression}, separators=(", ", ": ") if spaced else (",", ":"))


def draw_calculator(rng: random.Random) -> str:
    """The declaration of a calculator, in one of many wordings."""
    return declaration("calculator", rng.choice(_DESCRIPTIONS),
                       [("expression", "string", rng.choice(_COMMENTS), rng.random() < 0.85)])


def draw_other_function(rng: random.Random) -> str:
    return declaration(*rng.choice(_OTHERS))


def draw_task(rng: random.Random, held_out: bool = False, unseen: bool = False) -> Task:
    """held_out: which side of the split the operands come from; unseen: wording that is never trained on."""
    while True:
        left, right = (draw_number(rng, MOST_DIGITS, (2, 4, 5, 6, 6)) for _ in range(2))
        op = rng.choices("+-*/", weights=(3, 3, 3, 1 if not unseen else 0))[0]
        if op == "/":
            if held_out:
                continue
            return Task(vary(rng.choice(_DIVISION_TRAINED).format(a=left, b=right), rng), f"{left}/{right}")
        problem = Sum(op, left, right)  # type: ignore[arg-type]
        if problem.held_out == held_out:
            phrase = rng.choice(UNSEEN[problem.op]) if unseen else template(problem.op, rng)
            phrase = phrase.format(a=left, b=right)
            return Task(phrase if held_out else vary(phrase, rng), f"{left}{op}{right}")


def draw_result(rng: random.Random, task: Task, true: bool) -> tuple[str, str]:
    """(what the function returns, the number in it). Where it need not be true, often it is not: it is to be used."""
    left, op, right = re.split("([-+*/])", task.expression)
    if true or rng.random() < 0.6:
        number = f"{exact(int(left), op, int(right)):.10g}"
    else:
        number = str(rng.randint(0, 10 ** rng.randint(1, 10)))
        kind = rng.random()
        number = f"-{number}" if kind < 0.15 else f"{number[:5]}.{rng.randint(1, 9999)}" if kind < 0.3 else number
    form = rng.choice(["{}", "{}", '{{"result": {}}}', '{{"result":{}}}', '{{"value": {}}}', '"{}"', "= {}", "{}.",
                       "The result is {}."])
    return form.format(number), number


def exact(left: int, op: str, right: int) -> float:
    """Four decimals of a quotient; nothing comes of a division by zero but 0."""
    if op == "/":
        return round(left / right, 4) if right else 0
    return Sum(op, left, right).value  # type: ignore[arg-type]


def report(number: str) -> str:
    """The answer that uses the calculator's result."""
    return f"The calculator says {number}."
