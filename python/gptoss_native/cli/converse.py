"""The conversation: prompt, answer, prompt; what goes wrong in one turn is said, and the next one comes."""

from __future__ import annotations

import sys
from contextlib import nullcontext

from gptoss_native.arguments import PromptTooLong
from gptoss_native.cli.answer import Answerer
from gptoss_native.cli.commands import COMMANDS, Shell, message_of, run_command
from gptoss_native.cli.explain import explained
from gptoss_native.cli.interrupts import unechoed
from gptoss_native.cli.lines import Entry
from gptoss_native.cli.prompt import Prompt
from gptoss_native.cli.session import Session
from gptoss_native.cli.terminal import say
from gptoss_native.errors import GptOssError


def converse(session: Session, answerer: Answerer, *, figures: bool | None, plain: bool) -> None:
    """Until the input ends. Where it comes from a program, an error ends it."""
    prompt = Prompt(COMMANDS, plain=plain)
    if prompt.terminal:
        answerer.say("/help says what there is, Ctrl-D leaves")
    shell = Shell(session, answerer.figures if figures is None else figures)
    while not shell.ended and (entry := prompt.next()) is not None:
        with answerer.interrupts:
            try:
                _take(entry, shell, answerer, prompt)
            except KeyboardInterrupt:
                prompt.answer_stopped()
                if prompt.terminal:
                    say("(stopped; the question and what there was of its answer are forgotten)")
            except BrokenPipeError:
                raise
            except (GptOssError, ValueError, TypeError, OSError) as error:
                if not prompt.terminal:
                    raise
                dropped = "; the question is dropped, and /reset makes room" if isinstance(error, PromptTooLong) else ""
                print(f"error: {explained(error)}{dropped}", file=sys.stderr)


def _take(entry: Entry, shell: Shell, answerer: Answerer, prompt: Prompt) -> None:
    """A command, or a message with its answer."""
    message = message_of(entry)
    if message is None:
        run_command(shell, entry.text)
        return
    with unechoed() if prompt.terminal else nullcontext():
        answerer.answer(shell.session, message, figures=shell.figures)
