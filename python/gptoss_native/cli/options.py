"""The options that generate and chat share, and what is made of them."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any, NoReturn

from gptoss_native.cli.terminal import ProgressLine, say
from gptoss_native.engine.engine import Engine
from gptoss_native.engine.loading import load
from gptoss_native.engine.planning import (
    MAX_CHECKPOINTS,
    MAX_CONTEXT,
    MAX_OUTPUTS,
    MAX_SEQUENCES,
    TOKEN_BUDGET,
)
from gptoss_native.sampling.params import SamplingParams


def add_engine_options(parser: argparse.ArgumentParser) -> None:
    """Which checkpoint, and how it would be run for many."""
    group = add_model_options(parser)
    group.add_argument("--max-sequences", type=int, default=MAX_SEQUENCES, metavar="N",
                       help=f"sequences that run together ({MAX_SEQUENCES})")
    group.add_argument("--max-total-tokens", type=int, metavar="N",
                       help="tokens of all sequences together (a whole context for each)")
    group.add_argument("--max-outputs", type=int, default=MAX_OUTPUTS, metavar="N",
                       help=f"rows of logits of a step ({MAX_OUTPUTS})")
    group.add_argument("--token-budget", type=int, default=TOKEN_BUDGET, metavar="N",
                       help=f"tokens of a step ({TOKEN_BUDGET})")
    group.add_argument("--max-checkpoints", type=int, default=MAX_CHECKPOINTS, metavar="N",
                       help=f"places that later prompts can go on from ({MAX_CHECKPOINTS})")


def add_model(group: argparse._ActionsContainer, otherwise: str = "demo") -> None:
    """Which checkpoint."""
    group.add_argument("--model", type=model_name, metavar="MODEL",
                       help="folder of a gpt-oss checkpoint, an id of the Hugging Face hub such as openai/gpt-oss-20b, "
                            f"or demo, the demonstration model ({otherwise})")


def add_model_options(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Which checkpoint, and how it is run."""
    group = parser.add_argument_group("model")
    add_model(group)
    group.add_argument("--device", default="auto", help="auto, or a name that `gptoss-native info` lists")
    group.add_argument("--precision", choices=["fast", "exact"], default="fast",
                       help="what enters matrix products: bf16 (fast, the default) or float32 (exact)")
    group.add_argument("--kv-dtype", choices=["bf16", "f32"], default="bf16", help="of cached keys and values")
    group.add_argument("--max-context", type=int, default=MAX_CONTEXT, metavar="N",
                       help=f"tokens of prompt and answer together ({MAX_CONTEXT})")
    group.add_argument("--threads", type=int, metavar="N", help="CPU threads (all usable cores)")
    group.add_argument("--experts", choices=["mxfp4"], help="quantise the experts of a bf16 checkpoint while loading")
    group.add_argument("--dense", choices=["bf16", "int8"], default="bf16",
                       help="attention and unembedding weights as stored (bf16, the default), or copied in 8 bits "
                            "while loading (int8)")
    return group


def add_sampling_options(parser: argparse.ArgumentParser) -> None:
    """How tokens are drawn."""
    group = parser.add_argument_group("sampling")
    group.add_argument("--max-tokens", type=int, metavar="N", help="stop after N tokens (when the context is full)")
    group.add_argument("--stop", action="append", default=[], metavar="TEXT",
                       help="end before this text; may be given several times")
    group.add_argument("--temperature", type=float, metavar="T", help="0 is greedy (1; 0 for the demonstration model)")
    group.add_argument("--top-p", type=float, default=1.0, metavar="P", help="keep the most probable tokens (1: all)")
    group.add_argument("--top-k", type=int, default=0, metavar="K", help="keep the K most probable tokens (0: all)")
    group.add_argument("--min-p", type=float, default=0.0, metavar="P",
                       help="keep tokens at least P times as probable as the best one (0: all)")
    for name, none, meaning in (("repetition", 1.0, "divides the logits of what prompt and answer hold"),
                                ("presence", 0.0, "is taken off the logits of what the answer holds"),
                                ("frequency", 0.0, "the same, times how often it holds it")):
        group.add_argument(f"--{name}-penalty", type=float, default=none, metavar="X",
                           help=f"{meaning} ({none:g}: none)")
    group.add_argument("--seed", type=int, metavar="N", help="repeat an answer (a fresh one each time)")


def add_figures_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--figures", action=argparse.BooleanOptionalAction, default=None,
                        help="time to the first token, tokens per second and counts, on stderr (where that is a "
                             "terminal)")


def sampling_params(arguments: argparse.Namespace, engine: Engine | None = None) -> SamplingParams:
    """Checked before the model is loaded; an option out of range is a usage error. With `engine`, where no temperature
    was given it is the engine's."""
    names = ("max_tokens", "stop", "top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty",
             "frequency_penalty", "seed")
    temperature = arguments.temperature
    if temperature is None:
        temperature = 1.0 if engine is None else engine.default_params.temperature
    try:
        return SamplingParams(temperature=temperature, **{name: getattr(arguments, name) for name in names})
    except ValueError as error:
        usage_error(arguments, str(error))


def usage_error(arguments: argparse.Namespace, message: str) -> NoReturn:
    """One line on stderr and exit status 2."""
    parser: argparse.ArgumentParser = arguments.parser
    parser.error(message)


def load_model(arguments: argparse.Namespace, progress: ProgressLine) -> Engine:
    """For one conversation."""
    model = model_path(arguments.model)
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    elif arguments.model is None:
        say("no --model: the demonstration model answers, which knows small sums and little else; --model takes a "
            "folder, or openai/gpt-oss-20b")
    try:
        return load(model, progress=progress, max_sequences=1, **_model_options(arguments))
    finally:
        progress.clear()


def engine_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """The arguments of plan(), from those of add_engine_options."""
    return _model_options(arguments) | {
        "max_sequences": arguments.max_sequences, "max_total_tokens": arguments.max_total_tokens,
        "max_outputs": arguments.max_outputs,
        "token_budget": arguments.token_budget, "max_checkpoints": arguments.max_checkpoints}


def _model_options(arguments: argparse.Namespace) -> dict[str, Any]:
    return {"device": arguments.device, "precision": arguments.precision, "kv_dtype": arguments.kv_dtype,
            "max_context": arguments.max_context, "threads": arguments.threads, "experts": arguments.experts,
            "dense": arguments.dense}


def model_name(text: str) -> str:
    """What an unset shell variable leaves is a mistake, not the demonstration model."""
    if not text:
        raise argparse.ArgumentTypeError("it is empty; give a folder or an id (is a shell variable unset?)")
    return text


def model_path(name: str | None) -> str | None:
    """What load() and plan() take: None is the demonstration model."""
    return None if name == "demo" and not os.path.exists(name) else name
