"""The prompt with prompt_toolkit: several lines, their history, completion of commands and of file names."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.document import Document
from prompt_toolkit.filters import is_searching
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.shortcuts import CompleteStyle

from gptoss_native.cli.commands import Command
from gptoss_native.cli.history import History
from gptoss_native.cli.lines import Entry, entry, goes_on, is_open
from gptoss_native.cli.prompt import GOES_ON, PROMPT


def editor(history: History, commands: dict[str, Command]) -> Callable[[], Entry]:
    """Enter sends, unless the line goes on; Alt-Enter, or Esc and Enter, begins a new line."""
    remembered = InMemoryHistory()
    for each in history.entries:
        remembered.append_string(each)
    session: PromptSession[str] = PromptSession(
        PROMPT, multiline=True, prompt_continuation=GOES_ON, history=remembered, key_bindings=_keys(),
        completer=_Commands(commands), complete_while_typing=False, complete_style=CompleteStyle.READLINE_LIKE,
        enable_open_in_editor=True, enable_suspend=True)

    def read() -> Entry:
        text = session.prompt()
        history.append(text)
        return entry(text)

    return read


def _keys() -> KeyBindings:
    keys = KeyBindings()

    @keys.add("enter", filter=~is_searching)  # while Ctrl-R searches, Enter takes what was found
    def send(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if is_open(buffer.text):
            buffer.newline(copy_margin=False)
        elif buffer.document.is_cursor_at_the_end and goes_on(buffer.text):
            buffer.delete_before_cursor()
            buffer.newline(copy_margin=False)
        else:
            buffer.validate_and_handle()

    @keys.add("escape", "enter", filter=~is_searching)
    def begin_a_line(event: KeyPressEvent) -> None:
        event.current_buffer.newline(copy_margin=False)

    return keys


class _Commands(Completer):
    """/commands, their words, and files behind those that take one."""

    def __init__(self, commands: dict[str, Command]) -> None:
        self._commands, self._files = commands, PathCompleter(expanduser=True)

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        text = document.text_before_cursor
        if not text.startswith("/") or "\n" in document.text:
            return
        name, space, argument = text.partition(" ")
        if not space:
            yield from (Completion(f"{each} ", -len(name)) for each in self._commands if each.startswith(name))
        elif (command := self._commands.get(name)) is None:
            return
        elif command.takes_file:
            yield from self._files.get_completions(Document(argument), complete_event)
        else:
            yield from (Completion(word, -len(argument)) for word in command.words if word.startswith(argument))
