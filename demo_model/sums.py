"""Sums, which of them are held out, and the column by column working that the model is taught to write.

All workings have four columns, whatever the size of the numbers, so that each token that is needed lies at a
fixed distance: `0027 + 0058. 7+8+0=15 2+5+1=08 0+0+0=00 0+0+0=00. So 00085.` In a difference the digit after `=` says
whether ten was borrowed: `2-7-0=15`. It comes last in the line because all that it depends on then stands before it.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Operator = Literal["+", "-", "*"]
Effort = Literal["low", "medium", "high"]

OPERATORS: tuple[Operator, ...] = ("+", "-", "*")
COLUMNS = 4
LARGEST = 10**COLUMNS - 1
HELD_OUT_SHARE = 16
"""One pair of operands in so many is never trained on."""
PLACES = ("Ones", "Tens", "Hundreds", "Thousands")


@dataclass(frozen=True)
class Sum:
    """left op right, with whole numbers from 0 to LARGEST; of a product one factor has a single digit."""

    op: Operator
    left: int
    right: int

    @property
    def value(self) -> int:
        if self.op == "+":
            return self.left + self.right
        return self.left - self.right if self.op == "-" else self.left * self.right

    @property
    def answer(self) -> str:
        return f"{self.left} {self.op} {self.right} = {self.value}"

    @property
    def held_out(self) -> bool:
        """Whether it is kept for measuring. a + b and b + a are kept together."""
        pair = (self.left, self.right) if self.op == "-" else sorted((self.left, self.right))
        return zlib.crc32(f"{self.op} {pair[0]} {pair[1]}".encode()) % HELD_OUT_SHARE == 0


@dataclass(frozen=True)
class Column:
    """One column of the working: `text` is the line, of which `digit` is written and `carry` goes on."""

    text: str
    digit: int
    carry: int


def columns(problem: Sum) -> Iterator[Column]:
    """From the right. The carry of the last column is the first digit of the result, or says "below zero"."""
    upper, lower = aligned(problem)
    carry = 0
    for place in range(COLUMNS):
        a = upper // 10**place % 10
        b = lower % 10 if problem.op == "*" else lower // 10**place % 10
        before = carry
        if problem.op == "-":
            carry, digit = divmod(a - b - before, 10)
            carry = -carry
        else:
            carry, digit = divmod((a * b if problem.op == "*" else a + b) + before, 10)
        then = "-" if problem.op == "-" else "+"
        yield Column(f"{a}{problem.op}{b}{then}{before}={carry}{digit}", digit, carry)


def aligned(problem: Sum) -> tuple[int, int]:
    """The operands as the working has them: in a product the single digit comes second."""
    if problem.op == "*" and problem.left < 10:
        return problem.right, problem.left
    return problem.left, problem.right


def working(problem: Sum, effort: Effort) -> str:
    """What the model thinks before it answers; longer with more effort."""
    upper, lower = aligned(problem)
    steps = list(columns(problem))
    head = f"{upper:04d} {problem.op} {lower:04d}."
    if effort == "low":
        lines = " ".join(f"{step.carry}{step.digit}" for step in steps) + "."
    elif effort == "medium":
        lines = " ".join(step.text for step in steps) + "."
    else:
        head = f"We need {head} From the right."
        word = "borrow" if problem.op == "-" else "carry"
        lines = " ".join(f"{place}: {step.text}, write {step.digit}, {word} {step.carry}."
                         for place, step in zip(PLACES, steps))
    return f"{head} {lines} {_conclusion(problem)}"


def _conclusion(problem: Sum) -> str:
    return "That is below zero." if problem.value < 0 else f"So {problem.value:05d}."


def draw_number(rng: random.Random, most_digits: int = COLUMNS, weights: tuple[int, ...] = (2, 4, 5, 6)) -> int:
    """A number of 1 to `most_digits` digits, the lengths as likely as `weights` says."""
    (digits,) = rng.choices(range(1, most_digits + 1), weights=weights[:most_digits])
    number = rng.randint(10 ** (digits - 1) if digits > 1 else 0, 10**digits - 1)
    if rng.random() < 0.15:  # noughts and nines make the long carries
        number = int("".join(rng.choice([d, d, "0", "9"]) for d in str(number)))
    return number


def draw_sum(rng: random.Random, negative_share: float = 0.15) -> Sum:
    """A sum to train on, never a held-out one."""
    while True:
        problem = draw_any_sum(rng, negative_share)
        if not problem.held_out:
            return problem


def draw_any_sum(rng: random.Random, negative_share: float) -> Sum:
    op: Operator = rng.choices(("+", "-", "*"), weights=(26, 40, 34))[0]
    left, right = draw_number(rng), draw_number(rng)
    if op == "*":
        right = rng.randint(0, 9)
        if rng.random() < 0.35:
            left, right = right, left
    if op == "-" and (left < right) != (rng.random() < negative_share):
        left, right = right, left
    return Sum(op, left, right)
