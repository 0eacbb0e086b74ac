"""gptoss-native chat: one question, or a conversation."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from gptoss_native.cli.options import (
    add_model_options,
    add_sampling_options,
    load_model,
    sampling_params,
    text_argument,
)
from gptoss_native.cli.terminal import Printer, ProgressLine, open_stdin
from gptoss_native.config.strict_json import counted
from gptoss_native.engine.engine import Engine
from gptoss_native.engine.inputs import PromptTooLong
from gptoss_native.engine.results import Reply
from gptoss_native.errors import TokenizerError
from gptoss_native.events import PreambleDelta, ReasoningDelta, TextDelta, ToolCallDelta
from gptoss_native.harmony import ChatMessage

if TYPE_CHECKING:
    from argparse import _SubParsersAction


def add_command(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("chat", help="ask a question, or hold a conversation", description=(
        "Ask one question and stream the answer, on a terminal its reasoning first; without a question, hold a "
        "conversation: a line is a message, Ctrl-C stops an answer or forgets a line, Ctrl-D ends. Where stdout is "
        "not a terminal, the reasoning is left out."))
    parser.add_argument("question", nargs="?", help='the question; "-" reads stdin')
    parser.add_argument("--system", "--developer", metavar="TEXT", help="instructions to the model")
    parser.add_argument("--reasoning", choices=["low", "medium", "high"], default="medium",
                        help="how much the model thinks before it answers (medium)")
    parser.add_argument("--quiet", action="store_true", help="leave the reasoning out on a terminal too")
    add_model_options(parser)
    add_sampling_options(parser)
    parser.set_defaults(run=run, parser=parser)


def run(arguments: argparse.Namespace) -> int:
    sampling_params(arguments)  # before the model is loaded
    messages: list[ChatMessage] = []
    if arguments.system is not None:
        messages.append({"role": "developer", "content": arguments.system})
    question = None if arguments.question is None else text_argument(arguments.question)
    if question is None:
        open_stdin()  # is there one? Better known before the model is loaded
    progress = ProgressLine()
    with load_model(arguments, progress) as engine:
        engine.tokenizer  # noqa: B018  a folder without one is refused now, not at the first line
        if question is None:
            _converse(engine, messages, arguments, progress)
        else:
            _answer(engine, [*messages, {"role": "user", "content": question}], arguments, progress)
    return 0


def _converse(engine: Engine, messages: list[ChatMessage], arguments: argparse.Namespace,
              progress: ProgressLine) -> None:
    while (question := _ask()) is not None:
        asked: list[ChatMessage] = [*messages, {"role": "user", "content": question}]
        try:
            reply = _answer(engine, asked, arguments, progress)
        except KeyboardInterrupt:
            continue  # the question and what there was of an answer are forgotten
        except (PromptTooLong, TokenizerError) as error:
            if not sys.stdin.isatty():
                raise
            message = str(error)
            if isinstance(error, PromptTooLong):
                message = (
                    f"the conversation would have {error.tokens} tokens with this question, and max_context is "
                    f"{error.max_context}; the question is dropped: ask a shorter one, or begin again with a larger "
                    "--max-context")
            print(f"error: {message}", file=sys.stderr)
            continue
        messages = [*asked, {"role": "assistant", "content": reply.text}]


def _ask() -> str | None:
    """The next line that is not blank; None at the end of the input. On a terminal the first Ctrl-C forgets the
    line, which may have been meant for an answer that ended just then, and a second one is a KeyboardInterrupt."""
    terminal = sys.stdin.isatty()
    if terminal:
        try:
            import readline  # noqa: F401  gives input() editing and a history
        except ImportError:
            pass
    interrupted = False
    while True:
        try:
            line = input("> " if terminal else "").strip()
        except EOFError:
            if terminal:
                print()
            return None
        except KeyboardInterrupt:
            if interrupted or not terminal:
                raise
            interrupted = True
            print("\n(Ctrl-C again or Ctrl-D ends)", file=sys.stderr)
            continue
        if line:
            return line
        interrupted = False


def _answer(engine: Engine, messages: list[ChatMessage], arguments: argparse.Namespace,
            progress: ProgressLine) -> Reply:
    printer = Printer()
    shows_reasoning = printer.terminal and not arguments.quiet  # a file or a program gets the answer alone
    thinking = False
    with engine.stream_chat(messages, arguments.reasoning, sampling_params(arguments)) as stream:
        try:
            for event in stream:
                progress.clear()
                if isinstance(event, ReasoningDelta):
                    if shows_reasoning:
                        printer.write(event.text, dim=True)
                        thinking = True
                elif isinstance(event, (PreambleDelta, TextDelta, ToolCallDelta)):
                    if thinking:
                        printer.paragraph()
                        thinking = False
                    printer.write(event.text)
        finally:
            progress.clear()
            printer.end()
        reply = stream.reply
    if reply.finish_reason == "length" and sys.stderr.isatty():
        print(f"(stopped after {counted(len(reply.tokens), 'token')})", file=sys.stderr)
    return reply
