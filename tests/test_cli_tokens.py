"""gptoss-native tokens, and models by name: the demonstration model, ids of the hub."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

import gptoss_native as gptoss
from gptoss_native.cli import main
from gptoss_native.harmony import render
from small_models import write_small


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small(tmp_path_factory.mktemp("tokens"))


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> gptoss.Tokenizer:
    return gptoss.Tokenizer.from_file(folder / "tokenizer.json", 512)


@pytest.fixture
def bare(folder: Path, tmp_path: Path) -> Path:
    """Without weights."""
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    return tmp_path


def test_a_text_has_a_line_for_each_token_and_a_count(
    bare: Path, tokenizer: gptoss.Tokenizer, capfd: pytest.CaptureFixture[str]
) -> None:
    text = "hello \N{GRINNING FACE} <|end|>\n"
    assert main(["tokens", "--model", str(bare), text]) == 0
    *lines, count = capfd.readouterr().out.splitlines()
    ids = tokenizer.encode(text)
    assert [int(line.split()[0]) for line in lines] == ids and count == f"{len(ids)} tokens"
    pieces = [line.split(maxsplit=1)[1] for line in lines]
    assert r"'\xf0'" in pieces and "<|end|>" not in pieces  # part of a character; and a text is never a control token
    assert main(["tokens", "--model", str(bare), text, "--json"]) == 0
    told = json.loads(capfd.readouterr().out)
    assert told["count"] == len(ids) and told["text"] == text
    assert b"".join(bytes.fromhex(each["bytes"]) if each["text"] is None else each["text"].encode()
                    for each in told["tokens"]) == text.encode()  # fmt: skip


def test_a_conversation_is_shown_as_harmony_renders_it(
    folder: Path, tokenizer: gptoss.Tokenizer, tmp_path: Path, capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}]
    ids = render(messages, tokenizer)
    (tmp_path / "messages.json").write_text(json.dumps(messages))
    (tmp_path / "object.json").write_text(json.dumps({"messages": messages}))
    for name in ("messages.json", "object.json"):
        assert main(["tokens", "--model", str(folder), "--messages", str(tmp_path / name)]) == 0
        out = capfd.readouterr().out
        assert out.startswith(f"{tokenizer.decode(ids)}\n\n") and out.endswith(f"\n{len(ids)} tokens\n")
        assert f"{tokenizer.special('<|start|>'):>7} <|start|>\n" in out
    stdin = io.TextIOWrapper(io.BytesIO(json.dumps(messages).encode()))
    monkeypatch.setattr(sys, "stdin", stdin)
    assert main(["tokens", "--model", str(folder), "--messages", "-", "--json"]) == 0
    told = json.loads(capfd.readouterr().out)
    assert [each["id"] for each in told["tokens"]] == ids
    assert {each["text"] for each in told["tokens"] if each["special"]} == {"<|start|>", "<|message|>", "<|end|>"}


def test_ids_are_decoded(folder: Path, tokenizer: gptoss.Tokenizer, capfd: pytest.CaptureFixture[str]) -> None:
    ids = tokenizer.encode("hello there")
    assert main(["tokens", "--model", str(folder), "--ids", ",".join(map(str, ids))]) == 0
    assert capfd.readouterr().out.startswith("hello there\n\n")


def test_what_is_wrong_is_one_line(folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "text.json").write_text('"hi"')
    for arguments, words in (
        (["--ids", "100000"], "token id 100000 is outside the vocabulary"),
        (["--messages", str(tmp_path / "broken.json")], "broken.json: not JSON"),
        (["--messages", str(tmp_path / "text.json")], "expected a list of messages"),
        (["--messages", str(tmp_path / "absent.json")], "absent.json"),
    ):
        assert main(["tokens", "--model", str(folder), *arguments]) == 1
        out, err = capfd.readouterr()
        assert out == "" and err.startswith("gptoss-native: error: ") and err.count("\n") == 1 and words in err
    assert main(["tokens", "--model", str(tmp_path), "hi"]) == 1
    assert "no .safetensors file" in capfd.readouterr().err


# Models by name


def test_without_a_model_the_demonstration_model_answers(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    demo = ModuleType("gptoss_native.demo")
    demo.path = lambda: folder  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "gptoss_native.demo", demo)
    options = ["--max-context", "256", "--max-tokens", "4", "--seed", "1"]
    for name in ([], ["--model", "demo"]):
        assert main(["generate", "hi", *name, *options]) == 0
        assert capfd.readouterr().err == ""
        assert main(["plan", "--json", *name]) == 0
        assert json.loads(capfd.readouterr().out)["path"] == str(folder)
        assert main(["tokens", "hi", *name]) == 0
        capfd.readouterr()
    assert main(["info", "--json", "--model", "demo"]) == 0
    assert json.loads(capfd.readouterr().out)["model"]["path"] == str(folder)
    with gptoss.load(max_context=256) as engine:
        assert engine.generate([1, 2], gptoss.SamplingParams(max_tokens=1)).tokens
    assert gptoss.plan().path == folder


def test_on_a_terminal_it_is_said_that_it_is_the_demonstration_model(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    demo = ModuleType("gptoss_native.demo")
    demo.path = lambda: folder  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "gptoss_native.demo", demo)
    monkeypatch.setenv("NO_COLOR", "1")

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for name, said in (([], True), (["--model", str(folder)], False)):
        monkeypatch.setattr(sys, "stderr", Terminal())
        assert main(["generate", "hi", "--max-tokens", "1", "--max-context", "64", *name]) == 0
        assert ("no --model: the demonstration model" in sys.stderr.getvalue()) == said  # type: ignore[attr-defined]


def test_a_build_without_the_demonstration_model_says_so(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def absent(name: str) -> ModuleType:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr("gptoss_native.checkpoint.hub.importlib", SimpleNamespace(import_module=absent))
    for call in (gptoss.load, gptoss.plan):
        with pytest.raises(gptoss.CheckpointError, match="no model was named"):
            call()
    assert main(["chat", "hi"]) == 1
    assert "no model was named" in capfd.readouterr().err


def test_ids_of_the_hub_are_looked_up_and_only_loading_downloads(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    asked: list[bool] = []

    def snapshot_download(name: str, *, local_files_only: bool, **_: object) -> str:
        asked.append(local_files_only)
        return str(folder)

    hub = ModuleType("huggingface_hub")
    hub.snapshot_download = snapshot_download  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    name = ["--model", "someone/tiny-oss"]
    for arguments in (["info", *name], ["plan", *name], ["tokens", "hi", *name]):
        assert main(arguments) == 0
    assert asked == [True, True, True]
    assert main(["generate", "hi", *name, "--max-context", "64", "--max-tokens", "1"]) == 0
    assert asked == [True, True, True, False]
    capfd.readouterr()
