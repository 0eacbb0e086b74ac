"""gptoss-native generate: continue a text, or a list of token ids."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from gptoss_native.cli.figures import of_completion
from gptoss_native.cli.options import (
    add_figures_option,
    add_model_options,
    add_sampling_options,
    load_model,
    sampling_params,
    usage_error,
)
from gptoss_native.cli.stdin import text_argument
from gptoss_native.cli.terminal import Printer, ProgressLine, say

if TYPE_CHECKING:
    from argparse import _SubParsersAction


def add_command(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("generate", help="continue a text", description=(
        "Continue a text as it stands, without any chat format, and stream the continuation. With token ids and a "
        "folder that has no tokenizer.json, token ids are printed."))
    parser.add_argument("text", nargs="?", help='the text to continue; "-" reads stdin')
    parser.add_argument("--ids", type=token_ids, metavar="1,2,3", help="token ids instead of a text")
    add_figures_option(parser)
    add_model_options(parser)
    add_sampling_options(parser)
    parser.set_defaults(run=run, parser=parser)


def run(arguments: argparse.Namespace) -> int:
    if (arguments.text is None) == (arguments.ids is None):
        usage_error(arguments, "give either a text or --ids")
    sampling_params(arguments)  # before the model is loaded
    prompt = arguments.ids if arguments.text is None else text_argument(arguments.text)
    progress, printer = ProgressLine(), Printer()
    with load_model(arguments, progress) as engine:
        params = sampling_params(arguments, engine)
        stream = engine.stream(prompt, params)
        try:
            for token in stream:
                progress.clear()
                printer.write(f"{token.id} " if token.text is None else token.text)
        finally:
            progress.clear()
            printer.end()
        if sys.stderr.isatty() if arguments.figures is None else arguments.figures:
            say(of_completion(stream.completion, params.max_tokens).line())
    return 0


def token_ids(text: str) -> list[int]:
    """An argument of argparse."""
    try:
        return [int(part) for part in (text.split(",") if "," in text else text.split())]
    except ValueError:
        raise argparse.ArgumentTypeError(f"token ids are integers separated by commas, not {text!r}") from None
