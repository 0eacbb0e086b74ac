"""The command line: what is printed where, exit statuses, and what happens when it is interrupted."""

from __future__ import annotations

import copy
import io
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import gptoss_native as gptoss
from checkpoint_layouts import write_hf
from gptoss_native.cli import main
from gptoss_native.cli.terminal import ProgressLine
from make_checkpoint import hf_config, make_tensors

COMMAND = [sys.executable, "-m", "gptoss_native"]
FAST = ["--max-context", "2048", "--max-tokens", "20"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cli")
    config = hf_config(num_hidden_layers=2)
    write_hf(path, config, make_tensors(config))
    return path


@pytest.fixture(scope="module")
def ids_only(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ids_only")
    for file in folder.iterdir():
        if file.name != "tokenizer.json":
            (path / file.name).symlink_to(file)
    return path


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that names no token on which generate would stop."""
    path = tmp_path_factory.mktemp("endless")
    config = hf_config(num_hidden_layers=2, eos_token_id=None)
    write_hf(path, config, make_tensors(config))
    (path / "generation_config.json").unlink()
    return path


def environment(**changes: str) -> dict[str, str]:
    python_path = os.pathsep.join(filter(None, [str(Path(gptoss.__file__).parents[1]), os.environ.get("PYTHONPATH")]))
    return os.environ | {"PYTHONPATH": python_path} | changes


def run(*arguments: str | Path, stdin: bytes = b"", **changes: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*COMMAND, *map(str, arguments)], input=stdin, capture_output=True, timeout=120,
                          env=environment(**changes))  # fmt: skip


# generate


def test_generate_prints_the_continuation_and_nothing_else(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "--model", str(folder), "The quick", "--temperature", "0", *FAST]) == 0
    with gptoss.load(folder, max_context=2048) as engine:
        whole = engine.generate("The quick", gptoss.SamplingParams(temperature=0, max_tokens=20)).text
    out, err = capfd.readouterr()
    assert (out, err) == (f"{whole}\n", "")


def test_generate_takes_stdin_and_token_ids(folder: Path, ids_only: Path) -> None:
    options = ["--seed", "3", "--top-p", "0.9", "--threads", "1", "--precision", "exact", "--kv-dtype", "f32", *FAST]
    text = run("generate", "--model", folder, *options, "The quick")
    piped = run("generate", "--model", folder, *options, "-", stdin=b"The quick")
    with gptoss.load(folder, max_context=2048) as engine:
        ids = ",".join(map(str, engine.tokenizer.encode("The quick")))
    from_ids = run("generate", "--model", folder, *options, "--ids", ids)
    assert text.returncode == 0 and text.stdout.strip()
    assert text.stdout == piped.stdout == from_ids.stdout
    bare = run("generate", "--model", ids_only, *options, "--ids", ids)
    assert bare.returncode == 0 and len([int(word) for word in bare.stdout.split()]) <= 20


def test_sampling_options_are_those_of_the_engine(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with gptoss.load(folder, max_context=2048) as engine:
        free = engine.generate("The quick", gptoss.SamplingParams(seed=2, max_tokens=20)).text
        assert free is not None
        params = gptoss.SamplingParams(seed=2, max_tokens=20, top_k=40, min_p=0.01, repetition_penalty=1.2,
                                       presence_penalty=0.5, frequency_penalty=-0.5)  # fmt: skip
        want = engine.generate("The quick", params).text
    arguments = ["generate", "--model", str(folder), "The quick", "--seed", "2", *FAST]
    assert main([*arguments, "--top-k", "40", "--min-p", "0.01", "--repetition-penalty", "1.2", "--presence-penalty",
                 "0.5", "--frequency-penalty", "-0.5"]) == 0  # fmt: skip
    assert capfd.readouterr().out == f"{want}\n" != f"{free}\n"
    assert main([*arguments, "--stop", "never", "--stop", free[2:4]]) == 0
    assert capfd.readouterr().out == f"{free[: free.index(free[2:4])]}\n"


def test_stdin_that_is_not_utf8_is_one_line(folder: Path) -> None:
    result = run("generate", "--model", folder, "-", stdin=b"ab\xff")
    assert (result.returncode, result.stdout) == (1, b"")
    assert result.stderr == b"gptoss-native: error: stdin is not UTF-8: byte 0xff at offset 2\n"


def test_text_that_the_terminal_cannot_show_is_replaced(folder: Path) -> None:
    for encoding in ("ascii", "latin-1", "utf-8"):
        result = run("generate", "--model", folder, "The quick", "--seed", "3", *FAST, PYTHONIOENCODING=encoding)
        assert (result.returncode, result.stderr) == (0, b"")
        assert result.stdout.decode(encoding)


# Closed streams


def run_closed(closed: str, *arguments: str | Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["sh", "-c", f'exec "$@" {closed}', "sh", *COMMAND, *map(str, arguments)],
                          capture_output=True, timeout=120, env=environment())  # fmt: skip


def test_closed_outputs_are_no_error(folder: Path, tmp_path: Path) -> None:
    whole = run("generate", "--model", folder, "The quick", "--seed", "3", *FAST).stdout
    for closed, out in (("2>&-", whole), (">&-", b""), ("<&-", whole), ("<&- >&- 2>&-", b"")):
        result = run_closed(closed, "generate", "--model", folder, "The quick", "--seed", "3", *FAST)
        assert (result.returncode, result.stdout, result.stderr) == (0, out, b""), closed
    failed = run_closed("2>&-", "generate", "--model", tmp_path / "absent", "text")
    assert (failed.returncode, failed.stdout) == (1, b"")  # errors do not get into the data


def test_closed_stdin_is_said_where_it_is_needed(folder: Path) -> None:
    for arguments in (["generate", "--model", folder, "-"], ["chat", "--model", folder, "-"],
                      ["chat", "--model", folder]):  # fmt: skip
        result = run_closed("<&-", *arguments)
        assert (result.returncode, result.stdout) == (1, b"")
        assert result.stderr.startswith(b"gptoss-native: error: stdin is closed")


# info


def test_info_shows_what_was_built_and_what_is_present(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["info"]) == 0
    text = capfd.readouterr().out
    for device in gptoss.info()["devices"]:
        assert device["name"] in text and device["detail"] in text
    assert main(["info", "--json"]) == 0
    facts = json.loads(capfd.readouterr().out)
    assert facts["devices"] == gptoss.info()["devices"] and "model" not in facts


def test_info_of_a_model_reads_its_headers(folder: Path, ids_only: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "--model", str(folder), "--json"]) == 0
    model = json.loads(capfd.readouterr().out)["model"]
    assert (model["expert_format"], model["config"]["num_hidden_layers"]) == ("mxfp4", 2)
    assert model["tensor_bytes"] == gptoss.open_checkpoint(folder).nbytes
    assert main(["info", "--model", str(ids_only)]) == 0
    text = capfd.readouterr().out
    assert "none: this folder works with token ids" in text and "1 sliding, 1 full" in text


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("arguments", [["info"], ["plan"], ["tokens", "hello there"]], ids=lambda words: words[0])
def test_tables_on_a_terminal_say_what_the_lines_say(
    folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    pytest.importorskip("rich")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.delenv("NO_COLOR", raising=False)
    said = []
    for options in (["--plain"], []):
        monkeypatch.setattr(sys, "stdout", Terminal())
        assert main([*arguments, "--model", str(folder), *options]) == 0
        said.append(sys.stdout.getvalue())  # type: ignore[attr-defined]
    assert "\x1b" not in said[0] and "\x1b" in said[1]
    plain, table = (re.sub(r"\x1b\[[0-9;]*m|[0-9.]+ GB|\s", "", text) for text in said)
    assert table == plain


def test_a_progress_line_is_no_longer_than_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    for columns in (10, 20, 30, 200):
        monkeypatch.setattr("gptoss_native.cli.terminal._columns", lambda _, columns=columns: columns)
        monkeypatch.setattr(sys, "stderr", Terminal())
        ProgressLine()("load", 1, 24)
        drawn = sys.stderr.getvalue().strip("\r").removesuffix("\x1b[K")  # type: ignore[attr-defined]
        assert "1/24" in drawn and len(drawn) < columns or columns == 10


# Errors


@pytest.mark.parametrize("arguments", [
    [],
    ["sing"],
    ["generate", "--model", "any"],
    ["generate", "--model", "any", "text", "--ids", "1"],
    ["generate", "--model", "any", "--ids", "1,x"],
    ["generate", "--model", "any", "--ids", "1,,2"],
    ["generate", "--model", "any", "--ids", "1,2,"],
    ["generate", "--model", "", "text"],
    ["info", "--model", ""],
    ["generate", "--model", "any", "text", "--max-tokens", "many"],
    ["generate", "--model", "any", "text", "--max-tokens", "0"],
    ["generate", "--model", "any", "text", "--temperature", "-1"],
    ["generate", "--model", "any", "text", "--precision", "double"],
    ["chat", "--model", "any", "question", "--top-p", "2"],
    ["chat", "--model", "any", "question", "--top-k", "-2"],
    ["chat", "--model", "any", "question", "--stop", ""],
    ["generate", "--model", "any", "text", "--presence-penalty", "3"],
    ["plan", "--model", "any", "--max-sequences", "many"],
    ["chat", "--model", "any", "question", "--reasoning", "much"],
    ["chat", "--model", "any", "question", "--reasoning-budget", "-1"],
    ["chat", "--model", "any", "two", "questions"],
    ["chat", "--model", "any", "question", "--tools", "module"],
    ["chat", "--model", "any", "question", "--tools", "no_such_module:function"],
    ["chat", "--model", "any", "question", "--tools", "os.path:no_such_function"],
    ["chat", "--model", "any", "question", "--tools", "os:sep"],
    ["tokens", "--model", "any"],
    ["tokens", "--model", "any", "text", "--ids", "1"],
    ["info", "--verbose"],
])  # fmt: skip
def test_a_usage_error_is_one_line_and_status_2(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    out, err = capfd.readouterr()
    assert out == "" and err.startswith("gptoss-native: error: ") and err.count("\n") == 1


def test_an_argument_too_many_is_named_with_the_help_to_see(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "--model", "any", "--system", "x", "hi"]) == 2
    assert capfd.readouterr().err == (
        "gptoss-native: error: unrecognized argument: --system (see `gptoss-native generate --help`)\n")
    assert main(["info", "more"]) == 2
    assert "unrecognized argument: more (see `gptoss-native info --help`)" in capfd.readouterr().err


def test_what_is_one_is_singular(folder: Path, capfd: pytest.CaptureFixture[str],
                                 monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    facts = gptoss.info() | {"usable_cores": 1}
    monkeypatch.setattr("gptoss_native.cli.info.info", lambda: facts)
    assert main(["info", "--model", str(folder)]) == 0
    assert "\n1 usable core" in (text := capfd.readouterr().out) and "1 usable cores" not in text
    assert " 1 files" not in text


def test_arguments_of_the_engine_that_are_mistaken(folder: Path) -> None:
    with gptoss.load(folder, max_context=64) as engine:
        with pytest.raises(ValueError, match="at index 1 is 9223372036854775808"):
            engine.logits(np.array([1, 2**63], np.uint64))
        with pytest.raises(TypeError, match="not SamplingParams; pass params="):
            engine.chat([{"role": "user", "content": "hi"}], gptoss.SamplingParams())  # type: ignore[arg-type]
        for copied in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="an Engine cannot be copied or pickled"):
                copied(engine)


def test_an_error_is_one_line_and_status_1(folder: Path, ids_only: Path, tmp_path: Path,
                                           capfd: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    absent = str(tmp_path / "absent")
    model = ["--model", str(folder)]
    for arguments, words in (
        (["generate", "--model", absent, "text"], absent),
        (["chat", "--model", str(tmp_path), "question"], str(tmp_path)),
        (["info", "--model", absent], absent),
        (["plan", "--model", absent], absent),
        (["plan", *model, "--token-budget", "3"], "token_budget=3 is less than max_sequences=4"),
        (["generate", *model, "text", "--device", "tpu"], "'tpu' is not a device"),
        (["generate", *model, "text", "--max-context", "200000"], "max_position_embeddings"),
        (["generate", *model, "--ids", "600"], "token id 600"),
        (["generate", *model, ""], "empty"),
        (["generate", *model, "text " * 50, "--max-context", "20"], "--max-context is 20;"),
        (["tokens", "--messages", absent], f"error: {absent}: No such file or directory"),
        (["generate", "--model", str(ids_only), "text"], "tokenizer.json"),
        (["chat", "--model", str(ids_only), "question"], "tokenizer.json"),
        (["chat", "--model", str(ids_only)], "tokenizer.json"),
    ):
        assert main(arguments) == 1
        out, err = capfd.readouterr()
        assert out.strip() == "" and err.startswith("gptoss-native: error: ") and err.count("\n") == 1, arguments
        assert words in err, arguments


def test_an_unexpected_error_is_one_line_and_its_place_on_demand(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise KeyError("place")

    monkeypatch.setattr("gptoss_native.cli.generate.load_model", broken)
    assert main(["generate", "--model", "any", "text"]) == 1
    assert capfd.readouterr().err == "gptoss-native: error: unexpected KeyError: 'place' (--traceback shows where)\n"
    assert main(["generate", "--model", "any", "text", "--traceback"]) == 1
    assert "Traceback" in capfd.readouterr().err


def test_help_and_version_are_no_errors(capfd: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--help"], ["generate", "--help"], ["chat", "--help"], ["info", "--help"], ["plan", "--help"],
                      ["tokens", "--help"]):
        assert main(arguments) == 0
        out, err = capfd.readouterr()
        assert "usage: gptoss-native" in out and err == "" and "traceback" not in out
    assert main(["--version"]) == 0
    assert capfd.readouterr().out == f"gptoss-native {gptoss.__version__}\n"


@pytest.mark.parametrize("prompt", [["The quick"], ["--ids", ",".join(["1", "2", "3"] * 10_000)]],
                         ids=["while it streams", "in a long prefill"])  # fmt: skip
def test_ctrl_c_is_status_130_without_a_traceback(endless: Path, prompt: list[str]) -> None:
    options = ["--model", str(endless), "--max-context", "131072", "--threads", "1"]
    with subprocess.Popen([*COMMAND, "generate", *options, *prompt], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          env=environment()) as process:  # fmt: skip
        assert process.stdout is not None and process.stderr is not None
        if prompt[0] == "--ids":
            maps = Path(f"/proc/{process.pid}/maps")
            while ".safetensors" not in maps.read_text():  # it is loading: then the prefill comes
                time.sleep(0.05)
            time.sleep(0.5)
        else:
            assert process.stdout.read(1)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130
        assert process.stderr.read() == b""


def test_a_reader_that_goes_away_is_no_error(endless: Path) -> None:
    options = ["--model", str(endless), "--max-context", "131072", "--seed", "1"]
    with subprocess.Popen([*COMMAND, "generate", *options, "The quick"], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, env=environment()) as process:  # fmt: skip
        assert process.stdout is not None and process.stderr is not None
        process.stdout.read(1)
        process.stdout.close()
        assert process.wait(timeout=60) == 141
        assert process.stderr.read() == b""


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are of Unix")
def test_on_a_terminal_progress_is_drawn_and_wiped(folder: Path) -> None:
    import pty

    ids = ",".join(["1", "2", "3"] * 700)
    main_end, terminal = pty.openpty()
    result = subprocess.run([*COMMAND, "generate", "--model", folder, "--ids", ids, "--max-context", "4096",
                             "--max-tokens", "4", "--seed", "1"], stdout=subprocess.PIPE, stderr=terminal, env=environment(),
                            timeout=120)  # fmt: skip
    os.close(terminal)
    drawn = os.read(main_end, 100_000).decode()
    os.close(main_end)
    assert result.returncode == 0 and b"\x1b[K" not in result.stdout  # progress is on the terminal alone
    assert "load" in drawn and "prefill" in drawn and "512/2100" in drawn
    wiped, _, figures = drawn.rpartition("\r\x1b[K")
    assert "2100" in wiped and "2100" not in figures
    assert "first token" in figures and "4 tokens, prompt 2,100 (0 cached), cut off at --max-tokens 4" in figures
