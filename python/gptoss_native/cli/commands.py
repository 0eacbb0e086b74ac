"""What begins with a slash at the prompt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast, get_args

from gptoss_native.chat.chat import Reasoning
from gptoss_native.cli import saved
from gptoss_native.cli.lines import Entry
from gptoss_native.cli.pieces import outline
from gptoss_native.cli.session import Session
from gptoss_native.cli.terminal import say
from gptoss_native.config.strict_json import counted


@dataclass
class Shell:
    """What commands act upon."""

    session: Session
    figures: bool
    ended: bool = False


@dataclass(frozen=True)
class Command:
    """words: what its argument may be, for completion."""

    argument: str
    help: str
    run: Callable[[Shell, str], None]
    words: tuple[str, ...] = ()
    takes_file: bool = False


def message_of(entry: Entry) -> str | None:
    """The message that was typed; None where it is a command."""
    text = entry.text
    if entry.literal or not text.startswith("/") or ("\n" in text and text.split()[0] not in COMMANDS):
        return text
    return text[1:] if text.startswith("//") else None


def run_command(shell: Shell, text: str) -> None:
    """ValueError says what was wrong."""
    name, _, argument = text.partition("\n" if "\n" in text.partition(" ")[0] else " ")
    command = COMMANDS.get(name)
    if command is None:
        raise ValueError(f"there is no {name}; there are {', '.join(COMMANDS)}. A message that begins with a slash is "
                         "written with two")
    command.run(shell, argument.strip())


def _help(shell: Shell, argument: str) -> None:
    for name, command in COMMANDS.items():
        say(f"{f'{name} {command.argument}'.rstrip():<34} {command.help}")
    say('A line that ends in \\ goes on; """ begins and ends a block; // begins a message with a slash.')
    say("Ctrl-C stops an answer, or forgets a line; Ctrl-D leaves.")


def _reset(shell: Shell, argument: str) -> None:
    shell.session.forget()
    say("(the conversation begins again)")


def _reasoning(shell: Shell, argument: str) -> None:
    settings = shell.session.settings
    if not argument:
        say(f"(reasoning is {settings.reasoning})")
        return
    if argument not in get_args(Reasoning):
        raise ValueError(f"/reasoning takes {', '.join(get_args(Reasoning))}, not {argument}")
    shell.session.change(system=settings.system, reasoning=cast(Reasoning, argument))
    say(f"(reasoning is {argument} from now on)")


def _system(shell: Shell, argument: str) -> None:
    settings = shell.session.settings
    if not argument:
        say("(there are no instructions)" if settings.system is None else settings.system)
        return
    shell.session.change(system=None if argument == "-" else argument, reasoning=settings.reasoning)
    say("(there are no instructions from now on)" if argument == "-" else "(the instructions hold from now on)")


def _save(shell: Shell, argument: str) -> None:
    path = saved.save(shell.session, _needed(argument, "/save"))
    say(f"(saved {counted(len(shell.session.turns), 'message')} in {path})")


def _load(shell: Shell, argument: str) -> None:
    session = shell.session
    found = saved.read(_needed(argument, "/load"), session.settings.tools)
    session.change(system=found.system, reasoning=found.reasoning or session.settings.reasoning, turns=found.turns)
    say(f"(loaded {counted(len(session.turns), 'message')})")


def _tokens(shell: Shell, argument: str) -> None:
    engine, ids = shell.session.engine, shell.session.conversation.tokens_for_completion()
    for line in outline(ids, engine.tokenizer):
        say(line)
    say(f"{counted(len(ids), 'token')} of {engine.max_context:,}; earlier reasoning that is no longer read is left out")


def _figures(shell: Shell, argument: str) -> None:
    if argument not in ("on", "off", ""):
        raise ValueError(f"/figures takes on or off, not {argument}")
    shell.figures = not shell.figures if not argument else argument == "on"
    say(f"(figures are {'on' if shell.figures else 'off'})")


def _quit(shell: Shell, argument: str) -> None:
    shell.ended = True


def _needed(argument: str, name: str) -> str:
    if not argument:
        raise ValueError(f"{name} takes the name of a file")
    return argument


COMMANDS = {
    "/help": Command("", "this", _help),
    "/reset": Command("", "forget the conversation, keep the instructions", _reset),
    "/reasoning": Command("[off|low|medium|high]", "how much the model thinks", _reasoning, get_args(Reasoning)),
    "/system": Command("[TEXT]", "instructions to the model; - removes them", _system),
    "/save": Command("FILE", "save the conversation", _save, takes_file=True),
    "/load": Command("FILE", "go on with one that was saved", _load, takes_file=True),
    "/tokens": Command("", "how the conversation tokenizes", _tokens),
    "/figures": Command("[on|off]", "the line of figures behind an answer", _figures, ("on", "off")),
    "/quit": Command("", "leave", _quit),
}
