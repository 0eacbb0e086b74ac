"""The options that generate and chat share, and what is made of them."""

from __future__ import annotations

import argparse
from typing import NoReturn

from gptoss_native.cli.terminal import ProgressLine, open_stdin
from gptoss_native.engine.engine import Engine
from gptoss_native.engine.loading import load
from gptoss_native.engine.sampling import SamplingParams


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Which checkpoint, and how it is run."""
    group = parser.add_argument_group("model")
    group.add_argument("--model", required=True, type=folder, metavar="DIR", help="folder of a gpt-oss checkpoint")
    group.add_argument("--device", default="auto", help="auto, or a name that `gptoss-native info` lists")
    group.add_argument("--precision", choices=["fast", "exact"], default="fast",
                       help="what enters matrix products: bf16 (fast, the default) or float32 (exact)")
    group.add_argument("--kv-dtype", choices=["bf16", "f32"], default="bf16", help="of cached keys and values")
    group.add_argument("--max-context", type=int, default=8192, metavar="N",
                       help="tokens of prompt and answer together (8192)")
    group.add_argument("--threads", type=int, metavar="N", help="CPU threads (all usable cores)")
    group.add_argument("--experts", choices=["mxfp4"], help="quantise the experts of a bf16 checkpoint while loading")


def add_sampling_options(parser: argparse.ArgumentParser) -> None:
    """How tokens are drawn."""
    group = parser.add_argument_group("sampling")
    group.add_argument("--max-tokens", type=int, metavar="N", help="stop after N tokens (when the context is full)")
    group.add_argument("--temperature", type=float, default=1.0, metavar="T", help="0 is greedy (1)")
    group.add_argument("--top-p", type=float, default=1.0, metavar="P", help="keep the most probable tokens (1: all)")
    group.add_argument("--seed", type=int, metavar="N", help="repeat an answer (a fresh one each time)")


def sampling_params(arguments: argparse.Namespace) -> SamplingParams:
    """Checked before the model is loaded; an option out of range is a usage error."""
    try:
        return SamplingParams(temperature=arguments.temperature, top_p=arguments.top_p, seed=arguments.seed,
                              max_tokens=arguments.max_tokens)
    except ValueError as error:
        usage_error(arguments, str(error))


def usage_error(arguments: argparse.Namespace, message: str) -> NoReturn:
    """One line on stderr and exit status 2."""
    parser: argparse.ArgumentParser = arguments.parser
    parser.error(message)


def load_model(arguments: argparse.Namespace, progress: ProgressLine) -> Engine:
    try:
        return load(
            arguments.model, device=arguments.device, precision=arguments.precision, kv_dtype=arguments.kv_dtype,
            max_context=arguments.max_context, threads=arguments.threads, progress=progress, experts=arguments.experts)
    finally:
        progress.clear()


def folder(text: str) -> str:
    """What an unset shell variable leaves is a mistake, not the current folder."""
    if not text:
        raise argparse.ArgumentTypeError("it is empty; give a folder (is a shell variable unset?)")
    return text


def text_argument(text: str) -> str:
    """The text itself, or all of stdin where it is "-"."""
    if text != "-":
        return text
    try:
        return open_stdin().buffer.read().decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"stdin is not UTF-8: byte {error.object[error.start]:#04x} at offset {error.start}") from None
