"""Trains the model. Everything follows from the seed and the number of steps.

    python -m demo_model.vocabulary OUT && python -m demo_model.train --out OUT --steps 5000
    ... --device cuda --workers 1 --bodies 24          # on a GPU
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, distributed, multiprocessing, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from demo_model.batches import Batch, Conversation, make_batch
from demo_model.model import Config, Model
from demo_model.optimizer import Muon
from demo_model.probes import Probes
from demo_model.samples import Samples
from demo_model.sums import Effort
from demo_model.vocabulary import encode
from gptoss_native.tokenizer import Tokenizer

EFFORTS: tuple[Effort, ...] = ("medium", "low", "medium", "medium", "high", "medium", "medium", "low")
"""Of the preambles of one step, which are dealt out to the workers."""
MATRICES = ("qkv", "out", "gate_up", "down")
MATRIX_RATE, OTHER_RATE = 0.02, 3e-3
WARM_UP = 60
SECOND_RATE = 0.4
"""Share of them that a second part of the training begins with."""
DECAY_FROM = 0.35
ROUNDED_FROM = 0.5
"""Parts of the run from which the rate falls, to zero, and from which weights are used as MXFP4 and bf16 hold them."""
BALANCE = 0.01


@dataclass(frozen=True)
class Worker:
    """One of `count` processes. Each takes a part of every batch; they average their gradients."""

    index: int
    count: int

    def average(self, parameters: Sequence[nn.Parameter]) -> None:
        if self.count == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        distributed.all_reduce(flat)
        for gradient, part in zip(gradients, flat.split([gradient.numel() for gradient in gradients])):
            gradient.copy_(part.view_as(gradient) / self.count)


@dataclass(frozen=True)
class Draws(Dataset[Batch]):
    """One worker's part of the batch of each step, which follows from the seed and the step.

    bodies: conversations behind each preamble.
    """

    worker: Worker
    seed: int
    bodies: int
    vocabulary: Path
    config: Config

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """Made by the process that draws: it cannot be sent to another."""
        return Tokenizer.from_file(self.vocabulary, self.config.vocab_size)

    def __getitem__(self, step: int) -> Batch:
        samples = Samples((self.seed * 1_000_003 + step) * len(EFFORTS) + self.worker.index)
        preambles = [samples.preamble(effort) for effort in EFFORTS[self.worker.index :: self.worker.count]]
        conversations = [Conversation(i, *encode(samples.body(preamble), self.tokenizer))
                         for i, preamble in enumerate(preambles) for _ in range(self.bodies)]
        prompts = [encode(preamble.pieces(), self.tokenizer)[0] for preamble in preambles]
        return make_batch(prompts, conversations)


def rate(step: int, steps: int, second: bool) -> float:
    """Share of the full learning rate: a short rise, a plateau, a straight line to zero; the line alone if `second`."""
    if second:
        return SECOND_RATE * (steps - step) / steps
    return min(1.0, (step + 1) / WARM_UP, (steps - step) / (steps * (1 - DECAY_FROM)))


class Training:
    """A model and what trains it; `save` and `load` keep a run that is cut short."""

    def __init__(self, seed: int, second: bool, device: torch.device) -> None:
        torch.manual_seed(seed)
        self.seed, self.step, self.second, self.device = seed, 0, second, device
        self.model = Model(Config()).to(device)
        named = list(self.model.named_parameters())
        self.matrices = Muon([p for name, p in named if name.split(".")[-1] in MATRICES])
        self.others = [p for name, p in named if name.split(".")[-1] not in MATRICES]
        self.adam = torch.optim.AdamW(self.others, lr=OTHER_RATE, betas=(0.9, 0.98), weight_decay=0.0, fused=True)

    def advance(self, batch: Batch, steps: int, worker: Worker) -> Tensor:
        """One step; returns the loss."""
        share = rate(self.step, steps, self.second)
        batch = batch.to(self.device)
        logits = self.model(batch, self.rounded(steps))
        loss = functional.cross_entropy(logits, batch.targets)
        (loss + BALANCE * self.model.imbalance()).backward()
        worker.average(list(self.model.parameters()))
        nn.utils.clip_grad_norm_(self.others, 1.0)
        for group in self.adam.param_groups:
            group["lr"] = OTHER_RATE * share
        self.adam.step()
        self.matrices.step(MATRIX_RATE * share)
        self.model.zero_grad(set_to_none=True)
        self.step += 1
        return loss.detach()

    def rounded(self, steps: int) -> bool:
        """Whether it is time for weights as the checkpoint will hold them."""
        return self.second or self.step >= ROUNDED_FROM * steps

    def save(self, path: Path) -> None:
        state = {"model": self.model.state_dict(), "config": asdict(self.model.config), "step": self.step,
                 "adam": self.adam.state_dict(), "muon": self.matrices.means, "seed": self.seed}
        torch.save(state, path.with_suffix(".part"))
        path.with_suffix(".part").replace(path)

    def load(self, path: Path) -> None:
        state = torch.load(path, map_location=self.device)
        self.model.load_state_dict(state["model"])
        self.adam.load_state_dict(state["adam"])
        self.matrices.means = state["muon"]
        self.step = state["step"]

    def begin_second(self, path: Path) -> None:
        """Goes on with the model of an earlier run, from step 0 and with new optimizers."""
        self.model.load_state_dict(torch.load(path, map_location=self.device)["model"])


def run(index: int, options: argparse.Namespace, meeting_point: str) -> None:
    """One worker's whole training. The first one reports and saves."""
    worker = Worker(index, options.workers)
    torch.set_num_threads(1)
    if worker.count > 1:
        distributed.init_process_group("gloo", init_method=f"file://{meeting_point}", rank=index,
                                       world_size=worker.count)
    training = Training(options.seed, options.second is not None, torch.device(options.device))
    checkpoint = options.out / "training.pt"
    if options.resume:
        training.load(checkpoint)
    elif options.second is not None:
        training.begin_second(options.second)
    draws = Draws(worker, options.seed, options.bodies, options.out / "tokenizer.json", training.model.config)
    probes = Probes(Tokenizer.from_file(draws.vocabulary, draws.config.vocab_size))
    started, first, losses = time.monotonic(), training.step, []
    for batch in DataLoader(draws, batch_size=None, sampler=range(first, options.steps), num_workers=options.drawers):
        losses.append(training.advance(batch, options.steps, worker))
        done, last = training.step, training.step == options.steps
        if index == 0 and (done in (5, 10, 20) or done % 50 == 0 or last):
            print(f"step {done}, {(time.monotonic() - started) / (done - first):.3f} s each, "
                  f"loss {torch.stack(losses[-50:]).mean().item():.4f}, "
                  f"imbalance {training.model.imbalance().item():.3f}", flush=True)
        if index == 0 and (done % 250 == 0 or last):
            training.save(checkpoint)
            right = probes.run(training.model, training.rounded(options.steps))
            print("  " + ", ".join(f"{kind} {share:.0f}" for kind, share in right.items()), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="has tokenizer.json; training.pt is written there")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--second", type=Path, help="a second part, from this training.pt on")
    parser.add_argument("--device", default="cpu", help="cpu, or a GPU such as cuda")
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread; the result depends on it")
    parser.add_argument("--bodies", type=int, default=8, help="conversations behind each of a step's 8 preambles")
    parser.add_argument("--drawers", type=int, default=0, help="processes that draw batches ahead; for a GPU")
    parser.add_argument("--resume", action="store_true", help="go on from training.pt")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        multiprocessing.spawn(run, (options, f"{folder}/meeting"), nprocs=options.workers)  # type: ignore


if __name__ == "__main__":
    main()
