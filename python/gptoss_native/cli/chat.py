"""gptoss-native chat: one question, or a conversation."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from gptoss_native.cli.answer import Answerer
from gptoss_native.cli.converse import converse
from gptoss_native.cli.functions import load_functions
from gptoss_native.cli.options import (
    add_figures_option,
    add_model_options,
    add_sampling_options,
    load_model,
    sampling_params,
    usage_error,
)
from gptoss_native.cli.session import Session, Settings
from gptoss_native.cli.stdin import checked_text, open_stdin, piped_text, read_stdin
from gptoss_native.cli.terminal import ProgressLine

if TYPE_CHECKING:
    from argparse import _SubParsersAction


def add_command(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("chat", help="ask a question, or hold a conversation", description=(
        "Ask one question and stream the answer, on a terminal its reasoning first; without a question, hold a "
        "conversation, in which /help says what there is, Ctrl-C stops an answer or forgets a line, and Ctrl-D ends. "
        "Where stdout is not a terminal, the reasoning is left out. What a pipe or a file on stdin holds is put behind "
        "the question."))
    parser.add_argument("question", nargs="?", help='the question; "-" alone reads it from stdin')
    parser.add_argument("context", nargs="?", metavar="-", help="wait for stdin, which is put behind the question, "
                                                                "however long its first byte takes")
    parser.add_argument("--system", "--developer", metavar="TEXT", help="instructions to the model")
    parser.add_argument("--reasoning", choices=["off", "low", "medium", "high"], default="medium",
                        help="how much the model thinks before it answers (medium)")
    parser.add_argument("--reasoning-budget", type=int, metavar="N",
                        help="tokens of reasoning at most; then it answers")
    parser.add_argument("--stop-loops", action="store_true", help="end reasoning, or an answer, that repeats itself")
    parser.add_argument("--tools", action="append", default=[], metavar="MODULE:FUNCTION",
                        help="a Python function that the model may call, also as file.py:function; may be given "
                             "several times. What it does is up to the model: it runs without asking")
    parser.add_argument("--json", action="store_true",
                        help="each answer as a line of JSON, with its reasoning, calls, usage and times")
    parser.add_argument("--quiet", action="store_true", help="only the answer, on a terminal too, and in JSON")
    add_figures_option(parser)
    add_model_options(parser)
    add_sampling_options(parser)
    parser.set_defaults(run=run, parser=parser)


def run(arguments: argparse.Namespace) -> int:
    settings = _settings(arguments)  # all that can be wrong, before the model is loaded
    question = _question(arguments)
    if question is None:
        open_stdin()
    progress = ProgressLine()
    with load_model(arguments, progress) as engine:
        engine.tokenizer  # noqa: B018  a folder without one is refused now, not at the first line
        settings.params = sampling_params(arguments, engine)
        session = Session(engine, settings)
        answerer = Answerer(progress, model=arguments.model or "demo", json=arguments.json, quiet=arguments.quiet,
                            plain=arguments.plain)
        if question is None:
            converse(session, answerer, figures=arguments.figures, plain=arguments.plain)
        else:
            with answerer.interrupts:
                answerer.answer(session, question, figures=arguments.figures)
    return 0


def _settings(arguments: argparse.Namespace) -> Settings:
    params = sampling_params(arguments)
    if arguments.reasoning_budget is not None and arguments.reasoning_budget < 0:
        usage_error(arguments, f"argument --reasoning-budget: {arguments.reasoning_budget} is less than 0")
    try:
        tools = load_functions(arguments.tools)
    except ValueError as error:
        usage_error(arguments, str(error))
    system = None if arguments.system is None else checked_text(arguments.system, "--system")
    return Settings(system, arguments.reasoning, arguments.reasoning_budget, arguments.stop_loops, params,
                    tools)


def _question(arguments: argparse.Namespace) -> str | None:
    question, context = arguments.question, arguments.context
    if context not in (None, "-"):
        usage_error(arguments, f"one question is expected, in quotes; {context!r} is left over")
    if question is None:
        return None
    if not question.strip():
        usage_error(arguments, "the question is empty (is a shell variable unset?)")
    if question == "-":
        if not (text := read_stdin()).strip():
            raise ValueError("stdin holds no question")
        return text
    question = checked_text(question, "the question")
    text = piped_text() if context is None else read_stdin()
    return f"{question}\n\n{text}" if text.strip() else question
