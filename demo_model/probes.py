"""A quick measure while training: are all tokens of the right answer the likeliest ones, given those before?

That is whether greedy decoding writes exactly this answer. evaluate.py measures with the package itself.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import torch

from demo_model import calculator, smalltalk
from demo_model.batches import Conversation, make_batch
from demo_model.conversation import Piece, Preamble, call, message, thought, turn_start
from demo_model.declined import Declined
from demo_model.model import Model
from demo_model.phrases import TRAINED, UNSEEN
from demo_model.samples import turn
from demo_model.sums import Effort, Operator, Sum, draw_any_sum, working
from demo_model.vocabulary import encode
from gptoss_native.tokenizer import Tokenizer

Draw = Callable[[], tuple[Preamble, list[Piece]]]
GROUP = 50
"""Conversations of one batch."""


def held_out_sum(rng: random.Random, op: Operator, digits: int) -> Sum:
    """With operands that are never trained on, the longer of them of that many digits; not below zero."""
    while True:
        problem = draw_any_sum(rng, negative_share=0)
        longest = max(len(str(problem.left)), len(str(problem.right)))
        if problem.op == op and problem.held_out and longest == digits:
            return problem


class Probes:
    """The same questions whenever `run` is called."""

    def __init__(self, tokenizer: Tokenizer, seed: int = 1) -> None:
        self._tokenizer = tokenizer
        self._rng = random.Random(seed)
        self._unseen = Declined(self._rng, unseen=True)
        self.kinds: dict[str, Draw] = {f"{op}{digits}": self._sum(op, digits, "medium")
                                       for op in ("+", "-", "*") for digits in (2, 3, 4)}
        self.kinds |= {"low": self._sum("+", 3, "low"), "high": self._sum("+", 3, "high"),
                       "unseen": self._sum("+", 3, "medium", unseen=True), "unseen-": self._sum("-", 3, "medium", True),
                       "call": self._call, "declined": self._decline}

    def run(self, model: Model, rounded: bool, count: int = 50) -> dict[str, float]:
        """Percentage right of each kind."""
        return {kind: 100 * sum(self._right(model, rounded, draw) for _ in range(count // GROUP))
                / (count // GROUP * GROUP) for kind, draw in self.kinds.items()}

    def _right(self, model: Model, rounded: bool, draw: Draw) -> int:
        preambles, conversations = [], []
        for i in range(GROUP):
            preamble, body = draw()
            preambles.append(encode(preamble.pieces(), self._tokenizer)[0])
            conversations.append(Conversation(i, *encode(body, self._tokenizer)))
        batch = make_batch(preambles, conversations).to(model.frequencies.device)
        with torch.no_grad():
            wrong = model(batch, rounded).argmax(-1) != batch.targets
        return GROUP - len(set(batch.rows[wrong].tolist()))

    def _sum(self, op: Operator, digits: int, effort: Effort, unseen: bool = False) -> Draw:
        def draw() -> tuple[Preamble, list[Piece]]:
            problem = held_out_sum(self._rng, op, digits)
            said = self._rng.choice((UNSEEN if unseen else TRAINED)[op]).format(a=problem.left, b=problem.right)
            return Preamble(effort), turn(said, working(problem, effort), problem.answer)
        return draw

    def _call(self) -> tuple[Preamble, list[Piece]]:
        task = calculator.draw_task(self._rng, held_out=True, unseen=True)
        body = [*message("user", task.question), *turn_start(), *thought(calculator.THOUGHT),
                *call(calculator.RECIPIENT, task.arguments())]
        return Preamble("medium", tool=calculator.draw_calculator(self._rng)), body

    def _decline(self) -> tuple[Preamble, list[Piece]]:
        return Preamble("medium"), turn(self._unseen.draw(), smalltalk.DECLINE_THOUGHT, smalltalk.DECLINE)
