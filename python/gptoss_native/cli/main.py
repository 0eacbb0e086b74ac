"""Arguments, and what happens when something goes wrong."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

from gptoss_native import __version__
from gptoss_native.cli import bench, chat, generate, info, plan, selftest, tokens
from gptoss_native.cli.explain import explained
from gptoss_native.cli.options import usage_error
from gptoss_native.cli.terminal import make_streams_safe
from gptoss_native.errors import GptOssError

PROGRAM = "gptoss-native"
INTERRUPTED = 130  # 128 + SIGINT, as shells say it
BROKEN_PIPE = 141  # 128 + SIGPIPE


class _Parser(argparse.ArgumentParser):
    """One line instead of the usage; argparse offers no other hook."""

    def error(self, message: str) -> NoReturn:
        print(f"{PROGRAM}: error: {message} (see `{self.prog} --help`)", file=sys.stderr)
        raise SystemExit(2)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status: 0, 1 (error), 2 (usage), 130 (Ctrl-C), 141 (reader gone)."""
    make_streams_safe()
    traceback_wanted = False
    try:
        arguments, unknown = _parser().parse_known_args(argv)
        traceback_wanted = arguments.traceback
        if unknown:  # after an unknown option, its value may have been taken for the text, and the text be left
            options = [argument for argument in unknown if argument.startswith("-")]
            usage_error(arguments, f"unrecognized argument: {(options or unknown)[0]}")
        status: int = arguments.run(arguments)
        sys.stdout.flush()
        return status
    except SystemExit as end:  # argparse: 0 after --help, 2 after an error
        return end.code if isinstance(end.code, int) else 2
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that the flush at exit is quiet too
        return BROKEN_PIPE
    except Exception as error:
        if traceback_wanted:
            traceback.print_exc()
        print(f"{PROGRAM}: error: {_one_line(error)}", file=sys.stderr)
        return 1


def _one_line(error: Exception) -> str:
    known = isinstance(error, (GptOssError, ValueError, TypeError, OSError, ImportError, MemoryError))
    message = explained(error)
    return message if known else f"unexpected {type(error).__name__}: {message} (--traceback shows where)"


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog=PROGRAM, description="Run gpt-oss-20b and gpt-oss-120b natively.")
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)
    for module in (chat, generate, tokens, info, plan, bench, selftest):
        module.add_command(commands)
    for command in commands.choices.values():
        command.add_argument("--plain", action="store_true",
                             help="no colours but dimming, no Markdown or tables, no editor")
        command.add_argument("--traceback", action="store_true", help=argparse.SUPPRESS)
    return parser
