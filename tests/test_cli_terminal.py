"""A conversation on a terminal, with and without the packages that make it comfortable."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

pytest.importorskip("termios")

import pty  # noqa: E402
from contextlib import contextmanager  # noqa: E402

import gptoss_native as gptoss  # noqa: E402
from gptoss_native.cli.interrupts import REPEAT  # noqa: E402
from scripted import answer, think  # noqa: E402
from small_models import write_small  # noqa: E402

EVERYTHING: tuple[str, ...] = ()
READLINE = ("prompt_toolkit",)
NOTHING = ("prompt_toolkit", "readline", "rich")
SHORT, LONG = answer("It is **five**."), answer("word " * 400)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small(tmp_path_factory.mktemp("terminal"))


class Session:
    """A program on a terminal of its own."""

    def __init__(self, pid: int, end: int) -> None:
        self.pid, self.end, self.seen = pid, end, ""

    def type(self, text: str) -> None:
        os.write(self.end, text.encode())

    def expect(self, words: str, seconds: float = 60) -> str:
        """Reads until the words are there, which are forgotten with all before them; returns that."""
        deadline = time.monotonic() + seconds
        while words not in self._plain():
            assert time.monotonic() < deadline, f"no {words!r} in {self.seen!r}"
            if not self.read():
                assert words in self._plain(), f"no {words!r} in {self.seen!r}"
        before, _, self.seen = self._plain().partition(words)
        return before

    def read(self) -> bool:
        if not select.select([self.end], [], [], 0.2)[0]:
            return True
        try:
            data = os.read(self.end, 65536)
        except OSError:  # the other end is closed
            return False
        if "\x1b[6n" in (text := data.decode(errors="replace")):
            self.type("\x1b[1;1R")  # where the cursor is: prompt_toolkit asks
        self.seen += text
        return bool(data)

    def _plain(self) -> str:
        return re.sub("\x1b\\[[?0-9;]*[A-Za-z]", "", self.seen)

    def ctrl_c(self) -> None:
        """At a prompt: input() does not see an interrupt that comes between the prompt and its first read."""
        time.sleep(0.5)
        self.type("\x03")

    def ended(self, seconds: float = 60) -> int:
        deadline = time.monotonic() + seconds
        while self.read():
            assert time.monotonic() < deadline, f"not at its end: {self.seen!r}"
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@contextmanager
def chat(folder: Path, tmp_path: Path, absent: Sequence[str], generations: Sequence[Sequence[str]], *options: str,
         delay: float = 0.0) -> Iterator[Session]:
    script = tmp_path / "script.json"
    script.write_text(json.dumps({"generations": generations, "absent": absent, "delay": delay}))
    words = [sys.executable, str(Path(__file__).with_name("scripted.py")), str(folder), str(script), "chat", *options]
    environment = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "COLUMNS", "LINES")} | {
        "PYTHONPATH": os.pathsep.join([str(Path(gptoss.__file__).parents[1]), *filter(None, sys.path)]),
        "TERM": "xterm", "XDG_STATE_HOME": str(tmp_path / "state"), "INPUTRC": os.devnull}
    pid, end = pty.fork()
    if pid == 0:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.chdir(tmp_path)
        os.execve(sys.executable, words, environment)
    try:
        yield Session(pid, end)
    finally:
        try:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass
        os.close(end)


ALL = pytest.mark.parametrize("absent", [EVERYTHING, READLINE, NOTHING], ids=["everything", "readline", "nothing"])


@ALL
def test_a_conversation(folder: Path, tmp_path: Path, absent: Sequence[str]) -> None:
    with chat(folder, tmp_path, absent, [(*think("hm"), *SHORT)]) as session:
        session.expect("/help says what there is, Ctrl-D leaves")
        session.expect(">")
        session.type("what is 2 + 3?\r")
        session.expect("hm")
        session.expect("It is **five**." if absent == NOTHING else "It is five.")
        assert "first token" not in session.seen.partition("\n")[0]
        session.expect("first token ")
        session.expect("(0 cached)")
        session.expect(">")
        session.type('"""\r')
        session.type("/one\rtwo\r")
        session.type('"""\r')
        session.expect("first token ")
        assert "(0 cached)" not in session.expect("cached)")
        session.expect(">")
        session.type("three\\\r")
        session.type("four\r")
        session.expect("first token ")
        session.expect(">")
        session.type("/save said.json\r")
        session.expect("(saved 9 messages in said.json)")
        session.expect(">")
        session.type("/quit\r")
        assert session.ended() == 0
    said = json.loads((tmp_path / "said.json").read_text())
    users = [each["content"] for each in said["messages"] if each["role"] == "user"]
    assert users == ["what is 2 + 3?", "/one\ntwo", "three\nfour"]
    with chat(folder, tmp_path, absent, [SHORT], "--reasoning", "low") as session:
        session.expect(">")
        if absent != NOTHING:
            session.type("\x1b[A")  # what was typed last time
            session.expect("/quit")
            session.type("\x01\x0b")
        session.type("/load said.json\r")
        session.expect("(loaded 9 messages)")
        session.expect(">")
        session.type("/reasoning\r")
        session.expect("(reasoning is medium)")
        session.expect(">")
        session.type("\x04")
        assert session.ended() == 0


@ALL
def test_ctrl_c_stops_the_answer_and_not_the_program(folder: Path, tmp_path: Path, absent: Sequence[str]) -> None:
    with chat(folder, tmp_path, absent, [LONG, SHORT], delay=0.02) as session:
        session.expect(">")
        session.type("hello\r")
        session.expect("word word")
        session.type("\x03")
        session.expect("(stopped")
        session.expect(">")
        time.sleep(2 * REPEAT)  # before that, it would be the same one
        session.type("half a line\x03")
        session.expect("(Ctrl-C again or Ctrl-D ends)")
        session.expect(">")
        session.type("again\r")
        session.expect("five")
        session.expect("cached)")
        session.expect(">")
        session.ctrl_c()
        session.expect("(Ctrl-C again or Ctrl-D ends)")
        session.expect(">")
        session.ctrl_c()
        assert session.ended() == 130


def test_the_editor_begins_lines_completes_and_corrects(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("prompt_toolkit")
    with chat(folder, tmp_path, EVERYTHING, [SHORT]) as session:
        session.expect(">")
        session.type("one\x1b\rtwx\x7fo\r")  # Alt-Enter, backspace
        session.expect("first token ")
        session.expect(">")
        session.type("/sa\tsaid.json\r")
        session.expect("(saved 2 messages in said.json)")
        session.expect(">")
        session.type("/lo\tsai\t\r")
        session.expect("(loaded 2 messages)")
        session.expect(">")
        session.type("\x1b[200~pasted \\\n/lines\x1b[201~\r")
        session.expect("first token ")
        session.expect(">")
        session.type("/save said.json\r")
        session.expect("(saved 4 messages in said.json)")
        session.expect(">")
        session.type("\x04")
        assert session.ended() == 0
    said = json.loads((tmp_path / "said.json").read_text())
    assert [each["content"] for each in said["messages"] if each["role"] == "user"] == ["one\ntwo", "pasted \\\n/lines"]


def test_enter_takes_what_a_search_found(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("prompt_toolkit")
    with chat(folder, tmp_path, EVERYTHING, [SHORT]) as session:
        session.expect(">")
        for question in ("the first one", "another"):
            session.type(f"{question}\r")
            session.expect("first token ")
            session.expect(">")
        session.type("\x12")  # Ctrl-R
        session.expect("I-search")
        session.type("first\r")
        session.type("\x05!\r")  # Ctrl-E: the line is edited before it is sent
        session.expect("first token ")
        session.expect(">")
        session.type("/save said.json\r")
        session.expect("(saved 6 messages in said.json)")
        session.expect(">")
        session.type("\x04")
        assert session.ended() == 0
    said = json.loads((tmp_path / "said.json").read_text())
    asked = [each["content"] for each in said["messages"] if each["role"] == "user"]
    assert asked == ["the first one", "another", "the first one!"]


def test_what_goes_wrong_is_said_and_the_conversation_goes_on(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with chat(folder, tmp_path, NOTHING, [SHORT], "--max-context", "300") as session:
        for typed, said in (
            ("/nothing", "error: there is no /nothing; there are /help, /reset"),
            ("/reasoning much", "error: /reasoning takes off, low, medium, high, not much"),
            ("/save", "error: /save takes the name of a file"),
            ("/save mine.txt", "error: mine.txt is there and holds something else"),
            ("/save nowhere/said.json", "error: nowhere/said.json: there is no folder nowhere"),
            ("/load mine.txt", "error: mine.txt: not JSON"),
            ("/load absent.json", "error: absent.json: No such file or directory"),
            ("long " * 100, "the question is dropped"),
            ("//hello", "first token "),
            ("/system Be brief.", "(the instructions hold from now on)"),
            ("/system", "Be brief."),
            ("/system -", "(there are no instructions from now on)"),
            ("/figures off", "(figures are off)"),
            ("/reset", "(the conversation begins again)"),
            ("/tokens", "tokens of 300"),
            ("/help", "Ctrl-D leaves."),
        ):
            session.expect(">")
            session.type(f"{typed}\r")
            session.expect(said)
        session.expect(">")
        session.type("\x04")
        assert session.ended() == 0
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_where_stdout_is_a_file_the_prompt_is_not_in_it(folder: Path, tmp_path: Path) -> None:
    wrapped = tmp_path / "wrapped.py"
    wrapped.write_text("import os, runpy, sys\nos.dup2(os.open('out', os.O_WRONLY | os.O_CREAT), 1)\n"
                       "sys.argv = sys.argv[1:]\nrunpy.run_path(sys.argv[0], run_name='__main__')\n")  # fmt: skip
    (tmp_path / "script.json").write_text(json.dumps({"generations": [(*think("hm"), *SHORT)]}))
    words = [sys.executable, str(wrapped), str(Path(__file__).with_name("scripted.py")), str(folder),
             str(tmp_path / "script.json"), "chat"]  # fmt: skip
    path = os.pathsep.join([str(Path(gptoss.__file__).parents[1]), *filter(None, sys.path)])
    pid, end = pty.fork()
    if pid == 0:
        os.chdir(tmp_path)
        os.execve(sys.executable, words, os.environ | {"PYTHONPATH": path, "XDG_STATE_HOME": str(tmp_path)})
    session = Session(pid, end)
    session.expect(">")
    session.type("hello\r")
    session.expect("first token ")
    session.expect(">")
    session.type("\x04")
    assert session.ended() == 0
    os.close(end)
    assert (tmp_path / "out").read_text() == "It is **five**.\n"
