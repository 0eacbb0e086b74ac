"""What is shipped: the sdist, the wheel, the types, and an import that is light and offline."""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import gptoss_native
from gptoss_native import _core

ROOT = Path(__file__).parents[1]
PACKAGE = Path(gptoss_native.__file__).parent
SHIPPED = re.compile(
    r"gptoss_native/([a-z_]+/)*([a-z_]+\.py|_core\.pyi|py\.typed)"
    r"|gptoss_native/demo/(config\.json|generation_config\.json|model\.safetensors|tokenizer\.json)"
    r"|gptoss_native/_core\.[^/]+\.so"
    r"|gptoss_native/devices/gptoss_device_[a-z]+\.so"
    r"|gptoss_native-[^/]+\.dist-info/.+"
)

needs_backend = pytest.mark.skipif(
    importlib.util.find_spec("scikit_build_core") is None, reason="scikit-build-core is not installed"
)
needs_mypy = pytest.mark.skipif(importlib.util.find_spec("mypy") is None, reason="mypy is not installed")


def build(hook: str, tree: Path, out: Path, settings: dict[str, str]) -> Path:
    """Call a hook of the build backend as pip does; `settings` are what -C gives."""
    code = f"from scikit_build_core.build import {hook}; print({hook}({str(out)!r}, {settings!r}))"
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GPTOSS_")}
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tree, env=environment, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr
    return out / result.stdout.split()[-1]


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked sdist."""
    folder = tmp_path_factory.mktemp("sdist")
    subprocess.run(["tar", "-xf", build("build_sdist", ROOT, folder, {}), "-C", folder], check=True)
    (tree,) = (path for path in folder.iterdir() if path.is_dir())
    return tree


@needs_backend
@pytest.mark.slow
def test_the_sdist_holds_every_source_file(sdist: Path) -> None:
    def files(tree: Path, folder: str, ignored: str = r"__pycache__|\.so$|/\.") -> set[str]:
        paths = (path.relative_to(tree).as_posix() for path in (tree / folder).rglob("*") if path.is_file())
        return {path for path in paths if not re.search(ignored, path)}

    for folder in ("csrc", "cmake", "cuda", "hip", "metal", "python", "tests", "bench", "demo_model"):
        assert files(sdist, folder) == files(ROOT, folder)
    for name in ("pyproject.toml", "CMakeLists.txt", "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE"):
        assert (sdist / name).read_bytes() == (ROOT / name).read_bytes()


@needs_backend
@pytest.mark.slow
def test_the_sdist_makes_the_wheel_that_the_tree_makes(sdist: Path, tmp_path: Path) -> None:
    """The Python half; .ci/run compares the compiled wheels."""
    wheels = []
    for name, tree in (("tree", ROOT), ("sdist", sdist)):
        (tmp_path / name).mkdir()
        wheels.append(zipfile.ZipFile(build("build_wheel", tree, tmp_path / name, {"wheel.cmake": "false"})))
    first, second = ({name: wheel.read(name) for name in wheel.namelist()} for wheel in wheels)
    assert first == second
    assert {"gptoss_native/py.typed", "gptoss_native/_core.pyi", "gptoss_native/__init__.py"} <= set(first)
    assert [name for name in first if not SHIPPED.fullmatch(name)] == []
    assert not any(name.endswith(".so") for name in first), "a developer's build found its way into the wheel"
    license_file = next(name for name in first if name.endswith("/licenses/LICENSE"))
    assert b"Apache License" in first[license_file]
    metadata = next(text for name, text in first.items() if name.endswith("/METADATA")).decode()
    assert f"\nVersion: {gptoss_native.__version__}\n" in metadata
    assert "\nLicense-Expression: Apache-2.0\n" in metadata


@needs_backend
@pytest.mark.slow
@pytest.mark.skipif(shutil.which("cmake") is None, reason="cmake is not installed")
@pytest.mark.skipif(shutil.which("ninja") is None, reason="ninja is not installed")
def test_cmake_finds_all_it_needs_in_the_sdist(sdist: Path, tmp_path: Path) -> None:
    test_device = "ON" if (ROOT / "tests/reference_device").is_dir() else "OFF"
    result = subprocess.run(
        ["cmake", "-S", sdist, "-B", tmp_path, "-G", "Ninja", "-DGPTOSS_PYTHON_MODULE=OFF",
         "-DGPTOSS_NATIVE_TESTS=ON", f"-DGPTOSS_TEST_DEVICE={test_device}"],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr


def test_what_is_installed_is_the_package_and_nothing_else() -> None:
    if ROOT in PACKAGE.parents:
        pytest.skip("the package is used from its source folder")
    try:
        listed = importlib.metadata.files("gptoss-native")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("the package was not installed by pip")
    names = [path.as_posix() for path in listed or []]
    inside = [name for name in names if not name.endswith(".pyc") and not name.startswith("../")]
    assert [name for name in inside if not SHIPPED.fullmatch(name)] == []
    assert {"gptoss_native/py.typed", "gptoss_native/_core.pyi"} <= set(inside)
    libraries = [name for name in inside if name.endswith(".so")]
    code = "from gptoss_native import info; print(*(device['name'] for device in info()['devices'] if device['built']))"
    alone = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    built = [f"gptoss_native/devices/gptoss_device_{name}.so" for name in alone if name != "cpu"]  # none that a test registered
    assert sorted(name for name in libraries if "/devices/" in name) == built
    assert len(libraries) == 1 + len(built)
    assert importlib.metadata.version("gptoss-native") == gptoss_native.__version__
    (script,) = importlib.metadata.entry_points(group="console_scripts", name="gptoss-native")
    assert script.value == "gptoss_native.cli:main"


def run_python(code: str) -> str:
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_import_opens_no_connection_and_loads_nothing_heavy() -> None:
    """Seconds are not asserted; these are the modules that would cost them. .ci/run prints the time."""
    loaded = run_python(
        "import socket, sys\n"
        "def refuse(*arguments): raise AssertionError('import used the network')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        "import gptoss_native\n"
        "print(*sorted(sys.modules))"
    ).split()
    heavy = {"torch", "transformers", "tokenizers", "requests", "urllib3", "http.client", "asyncio"}
    assert heavy.isdisjoint(loaded)


@needs_mypy
@pytest.mark.slow
def test_a_users_program_is_clean_under_mypy_strict(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        '''\
from dataclasses import dataclass
from typing import TypedDict

import gptoss_native as gptoss
import numpy as np
import numpy.typing as npt


class Dict(TypedDict):
    role: str
    content: str


@dataclass
class Turn:
    role: str
    content: str


class Model:
    def model_dump(self, *, mode: str = "python", by_alias: bool | None = None, warnings: bool = True) -> dict[str, object]:
        return {}


def converse(engine: gptoss.Engine) -> str:
    messages: list[gptoss.ChatMessage] = [{"role": "user", "content": "question"}]
    messages += [*engine.chat(messages).messages, {"role": "user", "content": "and now?"}]
    messages += [Turn("user", "x"), Model(), Dict(role="user", content="x")]
    unsaid = [{"role": "user", "content": "x"}, {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}]
    conversation = engine.conversation(developer="Be brief.")
    conversation.add(*messages)
    engine.chat("question")  # type: ignore[arg-type]
    return engine.chat([Turn("user", "x")]).text + engine.chat(unsaid, tools=[print]).text + engine.chat(messages).text


def main() -> str:
    engine = gptoss.load("path", device="auto", precision="exact", kv_dtype="f32", max_context=8192, threads=None)
    logits: npt.NDArray[np.float32] = engine.logits([1, 2, 3], rows=None)
    completion = engine.generate("text", gptoss.SamplingParams(temperature=0, max_tokens=64))
    tokens: tuple[int, ...] = tuple(completion.tokens)
    reply = engine.chat([{"role": "user", "content": "question"}], reasoning="medium")
    for token in engine.stream([1, 2, 3]):
        print(token)
    for event in engine.stream_chat([{"role": "user", "content": "question"}]):
        print(event)
    print(engine.config.num_hidden_layers, engine.device, logits.shape, tokens, gptoss.info())
    return reply.text + reply.finish_reason
'''
    )
    environment = dict(os.environ)
    if ROOT in PACKAGE.parents:
        environment["MYPYPATH"] = str(PACKAGE.parent)
    result = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", program],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr


def names_of(nodes: list[ast.stmt]) -> dict[str, ast.stmt]:
    """The public names that the body of a stub defines."""
    found: dict[str, ast.stmt] = {}
    for node in nodes:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found[node.name] = node
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found[node.target.id] = node
    return {name: node for name, node in found.items() if not name.startswith("_")}


def test_the_stub_of_the_native_module_names_what_is_there_and_no_more() -> None:
    def public(thing: object) -> set[str]:
        return {name for name in vars(thing) if not name.startswith("_")}

    stub = names_of(ast.parse((PACKAGE / "_core.pyi").read_text()).body)
    assert set(stub) == public(_core)
    for name, node in stub.items():
        if isinstance(node, ast.ClassDef):
            assert set(names_of(node.body)) == public(getattr(_core, name)), name
