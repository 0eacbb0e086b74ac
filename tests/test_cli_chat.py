"""gptoss-native chat: what goes where, for people, pipes and programs. What the model says is scripted."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

import gptoss_native as gptoss
from gptoss_native.cli import main
from scripted import Scripted, answer, call, preamble, think
from small_models import write_small

SUM = '{"a": 2, "b": 3}'
TOOLS = '''
import dataclasses

def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b

def interrupt() -> None:
    """Press Ctrl-C."""
    raise KeyboardInterrupt

async def later() -> None: ...
'''


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small(tmp_path_factory.mktemp("chat"))


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[gptoss.Engine]:
    with gptoss.load(folder, max_context=2048) as made:
        yield made


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    (tmp_path / "some_tools.py").write_text(TOOLS)
    return tmp_path / "some_tools.py"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Typist(Terminal):
    """A terminal on stdin; input() asks it for lines. An exception among them is raised."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *lines: str | type[BaseException]) -> None:
        super().__init__()
        self.lines = [*lines, EOFError]
        monkeypatch.setattr(sys, "stdin", self)
        monkeypatch.setattr("builtins.input", lambda _: self.type())
        monkeypatch.setattr("gptoss_native.cli.prompt.history_file", lambda: Path(os.devnull))

    def type(self) -> str:
        line = self.lines.pop(0)
        if isinstance(line, str):
            return line
        raise line


def scripted(monkeypatch: pytest.MonkeyPatch, engine: gptoss.Engine, *generations: Sequence[str]) -> Scripted:
    model = Scripted(engine, *generations)
    monkeypatch.setattr("gptoss_native.cli.chat.load_model", lambda *_: model)
    return model


def piped(folder: Path, script: Path, generations: Sequence[Sequence[str]], *arguments: str | Path, stdin: bytes | int,
          absent: Sequence[str] = ()) -> subprocess.CompletedProcess[bytes]:
    """The command in a process of its own, with a script for its model."""
    script.write_text(json.dumps({"generations": generations, "absent": absent}))
    given = {"input": stdin} if isinstance(stdin, bytes) else {"stdin": stdin}
    return subprocess.run([sys.executable, Path(__file__).with_name("scripted.py"), folder, script, *arguments],
                          capture_output=True, timeout=120, env=environment(), **given)  # type: ignore[call-overload,no-any-return]  # fmt: skip


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(Path(gptoss.__file__).parents[1]), *sys.path]))}


# Against the engine


def test_an_answer_is_the_engines(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = ["chat", "--model", str(folder), "hello", "--seed", "4", "--reasoning", "off", "--system", "Be brief.",
                 "--max-context", "2048", "--max-tokens", "20"]
    with gptoss.load(folder, max_context=2048) as engine:
        reply = engine.chat([{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "hello"}],
                            "off", gptoss.SamplingParams(seed=4, max_tokens=20))  # fmt: skip
    assert reply.text and reply.preamble == ""
    assert main(arguments) == 0
    out, err = capfd.readouterr()
    assert (out, err) == (reply.text.rstrip("\n") + "\n" if not reply.text.endswith("\n") else reply.text, "")
    assert main([*arguments, "--json"]) == 0
    told = json.loads(capfd.readouterr().out)
    assert (told["text"], told["seed"], told["finish_reason"]) == (reply.text, 4, reply.finish_reason)
    assert told["usage"] == {"prompt_tokens": reply.prompt_tokens, "cached_tokens": 0,
                             "completion_tokens": len(reply.tokens), "reasoning_tokens": 0}  # fmt: skip


# What goes where


THOUGHTFUL = (*think("think"), *answer("Hi \x1b[1mthere"))


@pytest.mark.parametrize(("options", "out", "colour", "expected"), [
    ([], io.StringIO(), True, "Hi \x1b[1mthere\n"),
    (["--quiet"], io.StringIO(), True, "Hi \x1b[1mthere\n"),
    (["--plain"], Terminal(), True, "\x1b[2mthink\x1b[0m\n\nHi \ufffd[1mthere\n"),
    ([], Terminal(), False, "think\n\nHi \ufffd[1mthere\n"),
    (["--quiet", "--plain"], Terminal(), True, "Hi \ufffd[1mthere\n"),
], ids=["pipe", "quiet pipe", "terminal", "NO_COLOR", "quiet terminal"])  # fmt: skip
def test_reasoning_is_dimmed_on_a_terminal_and_control_characters_are_shown_not_obeyed(
    engine: gptoss.Engine, monkeypatch: pytest.MonkeyPatch, options: list[str], out: io.StringIO, colour: bool,
    expected: str,
) -> None:  # fmt: skip
    scripted(monkeypatch, engine, THOUGHTFUL)
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    if not colour:
        monkeypatch.setenv("NO_COLOR", "1")
    assert main(["chat", *options, "question"]) == 0
    assert out.getvalue() == expected


def test_calls_and_results_are_shown_to_people_alone(
    engine: gptoss.Engine, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tools: Path
) -> None:  # capfd before monkeypatch: what is patched over its stdout is undone before it closes that
    said = (*preamble("Let me add."), *call("add", SUM)), (*think("easy"), *answer("Five."))
    arguments = ["chat", "question", "--tools", f"{tools}:add"]
    model = scripted(monkeypatch, engine, *said)
    assert main(arguments) == 0
    assert capfd.readouterr() == ("Let me add.\n\nFive.\n", "") and "type add" in model.asked[0]
    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setenv("NO_COLOR", "1")
    assert main(arguments) == 0
    assert sys.stdout.getvalue() == f"Let me add.\n\n-> add {SUM}\n<- 5\n\neasy\n\nFive.\n"  # type: ignore[attr-defined]
    monkeypatch.setattr(sys, "stdout", Terminal())
    assert main([*arguments, "--quiet"]) == 0
    assert sys.stdout.getvalue() == "Let me add.\n\nFive.\n"  # type: ignore[attr-defined]


def test_tools_come_from_modules_of_the_current_folder_too(
    engine: gptoss.Engine, monkeypatch: pytest.MonkeyPatch, tools: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tools.parent)
    monkeypatch.setattr(sys, "path", list(sys.path))
    scripted(monkeypatch, engine, call("add", SUM), answer("Five."))
    assert main(["chat", "question", "--json", "--tools", "some_tools:add", "--tools", "some_tools:interrupt"]) == 0
    told = json.loads(capfd.readouterr().out)
    assert told["results"] == [
        {"id": "call_1", "name": "add", "arguments": {"a": 2, "b": 3}, "content": "5", "error": None}]
    assert (told["text"], told["calls"], told["finish_reason"]) == ("Five.", [], "stop")
    assert main(["chat", "question", "--tools", "some_tools:later"]) == 2
    assert "later is a coroutine function" in capfd.readouterr().err
    assert main(["chat", "question", "--tools", "some_tools:less"]) == 2
    assert "it has add, interrupt, later" in capfd.readouterr().err


def test_a_file_with_several_tools_runs_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from gptoss_native.cli.functions import load_functions

    monkeypatch.chdir(tmp_path)
    (tmp_path / "counted_tools.py").write_text(f"print('run', file=open('runs', 'a'))\n{TOOLS}")
    loaded = load_functions(["counted_tools.py:add", "./counted_tools.py:interrupt"])
    assert [tool.name for tool in loaded.functions] == ["add", "interrupt"]
    assert (tmp_path / "runs").read_text() == "run\n"


def test_json_keeps_reasoning_apart_and_quiet_leaves_it_out(
    engine: gptoss.Engine, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    scripted(monkeypatch, engine, THOUGHTFUL)
    for options, reasoning in (([], "think"), (["--quiet"], None)):
        assert main(["chat", "question", "--json", *options]) == 0
        out, err = capfd.readouterr()
        told = json.loads(out)
        assert err == "" and out.count("\n") == 1
        assert (told["text"], told["reasoning"], told["model"]) == ("Hi \x1b[1mthere", reasoning, "demo")
        assert told["usage"]["reasoning_tokens"] > 0 and told["seconds"]["first_token"] >= 0


def test_figures_are_a_line_on_stderr(
    engine: gptoss.Engine, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    scripted(monkeypatch, engine, THOUGHTFUL)
    assert main(["chat", "question", "--figures"]) == 0
    out, err = capfd.readouterr()
    assert out == "Hi \x1b[1mthere\n" and err.startswith("first token ") and err.count("\n") == 1
    assert " tok/s, " in err and " reasoning), prompt " in err and err.endswith(" cached)\n")
    assert main(["chat", "question", "--figures", "--max-tokens", "3"]) == 0
    assert capfd.readouterr().err.endswith(" cached), cut off at --max-tokens 3\n")


def test_an_answer_that_did_not_come_is_explained_in_a_pipe_too(
    engine: gptoss.Engine, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    scripted(monkeypatch, engine, THOUGHTFUL)
    assert main(["chat", "question", "--max-tokens", "4"]) == 0
    assert capfd.readouterr() == ("", "(cut off at --max-tokens 4)\n")
    scripted(monkeypatch, engine, call("nowhere", "{}"))
    assert main(["chat", "question"]) == 0
    assert capfd.readouterr() == ("", "(it ended in a call nobody answers: nowhere)\n")


def test_a_budget_ends_reasoning_and_loops_are_stopped(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    options = ["--model", str(folder), "--seed", "1", "--max-context", "2048", "--max-tokens", "60", "--json"]
    assert main(["chat", "question", *options, "--reasoning-budget", "5", "--stop-loops"]) == 0
    assert json.loads(capfd.readouterr().out)["usage"]["reasoning_tokens"] <= 5


# stdin


def test_what_a_pipe_brings_is_put_behind_the_question(folder: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.json"
    (tmp_path / "file").write_text("of a file")
    file = (tmp_path / "file").open()
    for stdin, arguments, context in (
        (b"a text\n", ["summarise"], "\n\na text\n"),
        (b"a text\n", ["summarise", "-"], "\n\na text\n"),
        (b"", ["summarise"], ""),
        (b" \n", ["summarise"], ""),
        (subprocess.DEVNULL, ["summarise"], ""),
        (b"summarise", ["-"], ""),
        (file.fileno(), ["summarise"], "\n\nof a file"),
    ):
        plain = piped(folder, script, [answer("Yes.")], "chat", *arguments, "--json", stdin=stdin)
        assert plain.returncode == 0, plain.stderr
        with gptoss.load(folder) as engine:
            conversation = engine.conversation(reasoning="medium")
            conversation.add_user(f"summarise{context}")
            prompt = len(conversation.tokens_for_completion())
        assert json.loads(plain.stdout)["usage"]["prompt_tokens"] == prompt, (stdin, arguments)
    file.close()


def test_a_pipe_on_which_nothing_comes_is_not_waited_for(folder: Path, tmp_path: Path) -> None:
    reads, writes = os.pipe()
    try:
        result = piped(folder, tmp_path / "script.json", [answer("Yes.")], "chat", "question", stdin=reads)
    finally:
        os.close(reads)
        os.close(writes)
    assert (result.returncode, result.stdout) == (0, b"Yes.\n")
    assert result.stderr.startswith(b"gptoss-native: nothing came on stdin") and result.stderr.count(b"\n") == 1


def test_a_closed_stdin_is_no_context(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "script.json").write_text(json.dumps({"generations": [answer("Yes.")]}))
    words = [sys.executable, str(Path(__file__).with_name("scripted.py")), str(folder), str(tmp_path / "script.json")]
    result = subprocess.run(["sh", "-c", 'exec "$@" <&-', "sh", *words, "chat", "question"], capture_output=True,
                            timeout=120, env=environment())  # fmt: skip
    assert (result.returncode, result.stdout, result.stderr) == (0, b"Yes.\n", b"")


def test_a_conversation_in_a_pipe_has_lines_blocks_and_commands(folder: Path, tmp_path: Path) -> None:
    stdin = b'one\n\n  \n"""\na block\n/of lines\n"""\ntwo\\\nlines\n//slash\n/reset\nagain'
    result = piped(folder, tmp_path / "script.json", [answer("Yes.")], "chat", "--json", stdin=stdin)
    assert (result.returncode, result.stderr) == (0, b"(the conversation begins again)\n")
    told = [json.loads(line) for line in result.stdout.splitlines()]
    with gptoss.load(folder) as engine:
        conversation = engine.conversation(reasoning="medium")
        prompts = []
        for message in ("one", "a block\n/of lines", "two\nlines", "/slash", None, "again"):
            if message is None:
                conversation = engine.conversation(reasoning="medium")
                continue
            conversation.add_user(message)
            prompts.append(len(conversation.tokens_for_completion()))
            conversation.add_assistant("Yes.")
    assert [each["usage"]["prompt_tokens"] for each in told] == prompts
    assert told[1]["usage"]["cached_tokens"] > told[0]["usage"]["prompt_tokens"]
    bad = piped(folder, tmp_path / "script.json", [answer("Yes.")], "chat", stdin=b"/nothing\nhello\n")
    assert (bad.returncode, bad.stdout) == (1, b"") and b"there is no /nothing; there are /help" in bad.stderr


# Interrupts and errors in a conversation


def test_ctrl_c_stops_the_answer_and_keeps_the_conversation(
    engine: gptoss.Engine, monkeypatch: pytest.MonkeyPatch, tools: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = scripted(monkeypatch, engine, answer("Yes."), (*preamble("so f"), *call("interrupt", "{}")), answer("Good."))
    monkeypatch.setattr(sys, "stdin", io.StringIO("first\nsecond\nthird\n"))
    assert main(["chat", "--tools", f"{tools}:interrupt"]) == 0
    assert capfd.readouterr().out == "Yes.\nso f\nGood.\n"
    assert "first" in model.asked[2] and "third" in model.asked[2]
    assert "second" not in model.asked[2] and "so f" not in model.asked[2]


def test_a_full_context_drops_the_question_and_keeps_the_conversation(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    typist = Typist(monkeypatch, "hi", "long " * 300, "bye")
    arguments = ["chat", "--model", str(folder), "--seed", "1", "--max-context", "600", "--max-tokens", "8"]
    assert main(arguments) == 0 and typist.lines == []
    err = capfd.readouterr().err
    assert "error: the prompt has" in err and "--max-context is 600; shorten it" in err and "the question is dropped" in err
    assert err.count("error") == 1
    monkeypatch.setattr(sys, "stdin", io.StringIO("long " * 300))  # a program has to hear of it
    monkeypatch.setattr("builtins.input", lambda _: "long " * 300)
    assert main(arguments) == 1


@pytest.mark.parametrize(("arguments", "stdin", "status", "said"), [
    (["chat"], b"first\nsec\xffond\n", 1, "a line of stdin is not UTF-8: byte 0xff behind 3 characters"),
    (["chat", "-"], b" \n", 1, "stdin holds no question"),
    (["chat", "a\udcffb"], b"", 1, "the question is not UTF-8: byte 0xff behind 1 characters"),
    (["chat", "a", "--system", "\udcff"], b"", 1, "--system is not UTF-8: byte 0xff"),
    (["chat", ""], b"", 2, "the question is empty (is a shell variable unset?)"),
    (["chat", " "], b"something", 2, "the question is empty"),
], ids=["line", "blank stdin", "question", "system", "empty", "blank"])  # fmt: skip
def test_what_is_no_text_is_refused(
    folder: Path, tmp_path: Path, arguments: list[str], stdin: bytes, status: int, said: str
) -> None:  # fmt: skip
    result = piped(folder, tmp_path / "script.json", [answer("Yes.")], *arguments, stdin=stdin)
    assert result.returncode == status and said in result.stderr.decode()
    assert result.stdout == (b"Yes.\n" if stdin.startswith(b"first") else b"")


def test_ctrl_c_at_the_prompt_forgets_the_line_and_a_second_one_leaves(
    engine: gptoss.Engine, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    scripted(monkeypatch, engine, answer("Yes."))
    typist = Typist(monkeypatch, KeyboardInterrupt, "first", KeyboardInterrupt, "", KeyboardInterrupt, "second")
    assert main(["chat", "--model", "any"]) == 0 and typist.lines == []
    out, err = capfd.readouterr()
    assert out.count("Yes.") == 2 and err.count("(Ctrl-C again or Ctrl-D ends)") == 3
    typist = Typist(monkeypatch, "first", KeyboardInterrupt, KeyboardInterrupt, "never")
    assert main(["chat", "--model", "any"]) == 130 and typist.lines == ["never", EOFError]


def test_ctrl_c_that_is_pressed_several_times_does_not_leave(
    engine: gptoss.Engine, monkeypatch: pytest.MonkeyPatch, tools: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    scripted(monkeypatch, engine, call("interrupt", "{}"), answer("Good."))
    monkeypatch.setattr("gptoss_native.cli.prompt.REPEAT", 600)
    typist = Typist(monkeypatch, "first", KeyboardInterrupt, KeyboardInterrupt, KeyboardInterrupt, "second")
    assert main(["chat", "--tools", f"{tools}:interrupt"]) == 0 and typist.lines == []
    out, err = capfd.readouterr()
    assert out == "Good.\n" and err.count("(stopped") == 1 and "again" not in err


def test_a_second_ctrl_c_while_the_first_is_dealt_with_is_the_same_one() -> None:
    import signal

    from gptoss_native.cli.interrupts import Interrupts

    seen = []
    with Interrupts() as interrupts:
        try:
            with interrupts.held():
                signal.raise_signal(signal.SIGINT)
                seen.append("drawn")
        except KeyboardInterrupt:
            signal.raise_signal(signal.SIGINT)
            time.sleep(0)
            seen.append("stopped")
    assert seen == ["drawn", "stopped"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
