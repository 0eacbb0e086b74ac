"""Conversations at the command line: turns kept and forgotten, files, lines, history."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import gptoss_native as gptoss
from gptoss_native.cli import saved
from gptoss_native.cli.history import KEPT, History
from gptoss_native.cli.lines import Entry, entry, goes_on, is_open, read_entry
from gptoss_native.cli.session import Session, Settings
from gptoss_native.harmony import toolbox
from scripted import Scripted, answer, call, preamble, think
from small_models import write_small


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


TOOLS = toolbox([add])
SUM = '{"a": 2,  "b": 3}'
MALFORMED = ("<|channel|>", "final<|oops", "<|message|>", "hm", "<|return|>")


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[gptoss.Engine]:
    with gptoss.load(write_small(tmp_path_factory.mktemp("session")), max_context=4096) as made:
        yield made


def begun(engine: gptoss.Engine, *generations: Sequence[str], **settings: Any) -> Session:
    return Session(Scripted(engine, *generations), Settings(**settings))  # type: ignore[arg-type]


def say(session: Session, question: str) -> gptoss.Reply:
    with session.ask(question) as stream:
        reply = stream.run()
    session.keep()
    return reply


def prompt(session: Session) -> list[int]:
    return session.conversation.tokens_for_completion()


# Turns


def test_a_turn_that_is_not_kept_leaves_nothing(engine: gptoss.Engine) -> None:
    session = begun(engine, answer("Yes."), answer("No."))
    say(session, "one")
    before = prompt(session)
    with session.ask("two") as stream:
        next(stream)
    assert prompt(session) == before and len(session.turns) == 2


def test_the_next_turn_goes_on_in_the_cache(engine: gptoss.Engine) -> None:
    session = begun(engine, answer("Yes."))
    first = say(session, "a question of its own")
    second = say(session, "two")
    assert second.cached_tokens >= first.prompt_tokens + len(first.tokens) - 1


def test_settings_change_and_the_turns_stay(engine: gptoss.Engine) -> None:
    session = begun(engine, (*think("hm"), *call("add", SUM)), answer("Yes."), tools=TOOLS, reasoning="high")
    say(session, "one")
    turns, text = session.turns, engine.tokenizer.decode(prompt(session))
    assert "Reasoning: high" in text and "# Instructions" not in text
    session.change(system="Be brief.", reasoning="off")
    text = engine.tokenizer.decode(prompt(session))
    assert "Reasoning: low" in text and "# Instructions\n\nBe brief." in text and "type add" in text
    assert session.turns == turns
    session.forget()
    assert session.turns == () and "Be brief." in engine.tokenizer.decode(prompt(session))
    before = prompt(session)
    with pytest.raises(gptoss.MessageError):
        session.change(system=None, reasoning="low", turns=[{"role": "nobody", "content": ""}])
    assert prompt(session) == before and session.settings.system == "Be brief."


# Files


@pytest.mark.parametrize("generations", [
    [answer("Yes.")],
    [(*think("hm"), *answer("Yes."))],
    [(*preamble("Let me add."), *call("add", SUM)), (*think("hm"), *answer("Five."))],
    [MALFORMED],
    [("<|channel|>", "final ", "<|message|>", "odd header", "<|return|>")],
    [answer("\N{GRINNING FACE} <|end|>")],
], ids=["answer", "reasoning", "tools", "malformed", "odd header", "characters"])  # fmt: skip
def test_what_was_saved_is_read_token_for_token(
    engine: gptoss.Engine, tmp_path: Path, generations: list[Sequence[str]]
) -> None:
    session = begun(engine, *generations, tools=TOOLS, system="Be brief.", reasoning="low")
    say(session, "one")
    say(session, "two")
    path = saved.save(session, str(tmp_path / "said.json"))
    found = saved.read(str(path), TOOLS)
    assert (found.system, found.reasoning) == ("Be brief.", "low")
    other = begun(engine, answer("Yes."), tools=TOOLS)
    other.change(system=found.system, reasoning=found.reasoning or "high", turns=found.turns)
    assert prompt(other) == prompt(session)
    assert [message.token_ids for message in other.turns] == [message.token_ids for message in session.turns]
    assert [message.call for message in other.turns] == [message.call for message in session.turns]
    saved.save(other, str(tmp_path / "again.json"))
    assert (tmp_path / "again.json").read_bytes() == path.read_bytes()
    assert say(other, "three").cached_tokens >= 64


def test_tokens_that_do_not_say_the_text_are_not_believed(engine: gptoss.Engine, tmp_path: Path) -> None:
    session = begun(engine, answer("Yes."))
    say(session, "one")
    path = saved.save(session, str(tmp_path / "said.json"))
    for tokens in ([5, 6], [10**9], list(session.turns[-1].token_ids)):
        data = json.loads(path.read_text())
        data["messages"][-1] |= {"content": "No.", "token_ids": tokens}
        path.write_text(json.dumps(data))
        session.change(system=None, reasoning="low", turns=saved.read(str(path), TOOLS).turns)
        assert engine.tokenizer.decode(prompt(session)).endswith("final<|message|>No.<|end|><|start|>assistant")


def test_messages_of_openais_clients_are_read(engine: gptoss.Engine, tmp_path: Path) -> None:
    messages = [
        {"role": "system", "content": "Be brief."}, {"role": "user", "content": "2 + 3?"},
        {"role": "assistant", "content": None, "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "add", "arguments": SUM}}]},
        {"role": "tool", "tool_call_id": "a", "content": "5"}, {"role": "assistant", "content": "Five."}]
    session = begun(engine, answer("Yes."), tools=TOOLS)
    for data in (messages, {"model": "other", "messages": messages}):
        (tmp_path / "messages.json").write_text(json.dumps(data))
        found = saved.read(str(tmp_path / "messages.json"), TOOLS)
        assert (found.system, found.reasoning) == ("Be brief.", None)
        session.change(system=found.system, reasoning="low", turns=found.turns)
        assert [message.role for message in session.turns] == ["user", "assistant", "tool", "assistant"]
    (tmp_path / "empty.json").write_text("[]")
    assert saved.read(str(tmp_path / "empty.json"), TOOLS) == saved.Saved(None, None, [])


@pytest.mark.parametrize("data", [
    "", "{", "5", '"text"', "{}", "[1]", '{"messages": 5}',
    '{"format": "gptoss-native conversation", "messages": []}',
    '{"format": "gptoss-native conversation", "reasoning": "much", "messages": []}',
    '{"format": "gptoss-native conversation", "reasoning": "low", "messages": [{"role": "assistant", "token_ids": 5}]}',
    '{"format": "gptoss-native conversation", "reasoning": "low", "messages": [{"role": "assistant", "token_ids": [1]}]}',
])  # fmt: skip
def test_a_file_that_is_no_conversation_is_refused(tmp_path: Path, data: str) -> None:
    (tmp_path / "file.json").write_text(data)
    with pytest.raises(ValueError, match=r"file.json|expected"):
        saved.read(str(tmp_path / "file.json"), TOOLS)


def test_only_a_saved_conversation_is_overwritten(engine: gptoss.Engine, tmp_path: Path) -> None:
    session = begun(engine, answer("Yes."))
    for _ in range(2):
        saved.save(session, str(tmp_path / "said.json"))
    for name, text in (("list.json", "[]"), ("text", "mine"), ("other.json", '{"format": "other"}')):
        (tmp_path / name).write_text(text)
        with pytest.raises(ValueError, match="holds something else"):
            saved.save(session, str(tmp_path / name))
        assert (tmp_path / name).read_text() == text
    with pytest.raises(ValueError, match="holds something else"):
        saved.save(session, str(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["list.json", "other.json", "said.json", "text"]


# Lines


@pytest.mark.parametrize(("typed", "expected"), [
    (["hello "], Entry("hello")),
    (["one\\", "two\\", "three"], Entry("one\ntwo\nthree")),
    (["a backslash \\\\"], Entry("a backslash \\\\")),
    (['"""', "/one", "", "two\\", '"""'], Entry("/one\n\ntwo\\", literal=True)),
    (['"""one', 'two"""'], Entry("one\ntwo", literal=True)),
    (['"""one"""'], Entry("one", literal=True)),
    (['""""""'], Entry("", literal=True)),
    (['say """ and go'], Entry('say """ and go')),
    (["cut off\\"], Entry("cut off")),
    (['"""', "cut off"], Entry("cut off", literal=True)),
    ([""], Entry("")),
])  # fmt: skip
def test_lines_make_an_entry(typed: list[str], expected: Entry) -> None:
    lines = list(typed)

    def read_line(goes_on: bool) -> str:
        assert goes_on == (len(lines) < len(typed))
        if not lines:
            raise EOFError
        return lines.pop(0)

    assert read_entry(read_line) == expected and lines == []


def test_an_input_that_has_ended_is_no_entry() -> None:
    def ended(_: bool) -> str:
        raise EOFError

    with pytest.raises(EOFError):
        read_entry(ended)


def test_a_text_of_several_lines_is_one_entry() -> None:
    assert entry("one \\\ntwo") == Entry("one \\\ntwo")
    assert is_open('"""one\n') and not is_open('"""one\n"""') and not is_open("one")
    assert goes_on("a\\") and not goes_on("a\\\\") and goes_on("a\\\\\\") and not goes_on("")


# History


def test_a_history_is_kept_for_the_next_time_and_is_nobody_elses(tmp_path: Path) -> None:
    path = tmp_path / "state" / "history"
    history = History(path)
    for text in ("one", "two\nlines", "two\nlines", " ", "\N{GRINNING FACE}"):
        history.append(text)
    assert History(path).entries == history.entries == ["one", "two\nlines", "\N{GRINNING FACE}"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with path.open("a") as file:
        file.write('broken\n5\n"three"\n')
    assert History(path).entries[-1] == "three" and len(History(path).entries) == 4
    path.write_text("".join(f'"{i}"\n' for i in range(3 * KEPT)))
    assert History(path).entries == [str(i) for i in range(2 * KEPT, 3 * KEPT)]
    assert path.read_text().count("\n") == KEPT


def test_a_history_that_cannot_be_kept_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    history = History(tmp_path / "file" / "history")
    history.append("one")
    assert history.entries == ["one"]
