"""How an engine ends: closed, forgotten, with the interpreter, or in a child that was forked from it."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path

import pytest

import gptoss_native as gptoss
from engines import DEVICE
from gptoss_native import SamplingParams, _core
from small_models import SLOW, endless, ids, write_small

CONTEXT = 2048
GREEDY = SamplingParams(temperature=0, max_tokens=12)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small(tmp_path_factory.mktemp("end"), **SLOW)


def test_closing_the_engine_fails_what_runs_and_what_waits(folder: Path) -> None:
    own = gptoss.load(folder, max_context=131_072, max_sequences=1)
    streams = [own.stream(ids(130_000), GREEDY), own.stream([1], GREEDY)]
    time.sleep(0.1)
    begin = time.monotonic()
    own.close()
    assert time.monotonic() - begin < 3
    for stream in streams:
        with pytest.raises(gptoss.Cancelled, match="engine was closed"):
            next(stream)
    assert not own._scheduler._thread.is_alive()


@pytest.mark.skipif(DEVICE != "cpu", reason="the module does not count the bytes of plug-ins")
def test_closing_gives_the_memory_back(folder: Path) -> None:
    before = _core.allocated_bytes()
    with gptoss.load(folder, max_context=CONTEXT) as own:
        own.generate([1, 2], GREEDY)
        assert _core.allocated_bytes() > before
    assert _core.allocated_bytes() == before


def test_an_engine_that_nobody_holds_ends_its_thread_and_a_stream_holds_it(folder: Path) -> None:
    own = gptoss.load(folder, max_context=CONTEXT)
    thread, gone = own._scheduler._thread, weakref.ref(own)
    stream = own.stream(ids(5), endless(max_tokens=50))
    del own
    gc.collect()
    assert gone() is None and len(list(stream)) == 50
    del stream
    gc.collect()
    thread.join(60)
    assert not thread.is_alive()


def test_an_idle_engine_sleeps(folder: Path) -> None:
    with gptoss.load(folder, max_context=256) as own:
        own.generate([1, 2], GREEDY)
        time.sleep(0.05)
        before = time.process_time()
        time.sleep(0.5)
        assert time.process_time() - before < 0.1


EXITS = {
    "idle": "engine.generate([1, 2], P(max_tokens=2))",
    "in a long prefill": "stream = engine.stream([1, 2] * 60_000); import time; time.sleep(0.2)",
    "in a long prefill that nobody holds": "gptoss.load(sys.argv[1], max_context=131072).stream([1, 2] * 60_000)",
    "while it streams": "stream = engine.stream([1]); next(stream)",
    "by an exception": "stream = engine.stream([1, 2] * 60_000); raise SystemExit(0)",
    "in a callback": "import time; stream = engine.stream([1], P(logits_mask=lambda t: time.sleep(0.3))); next(stream)",
    "with a thread that waits": "import threading\nthreading.Thread(target=lambda: list(engine.stream([1, 2] * 60_000)), "
                                "daemon=True).start()\nimport time; time.sleep(0.2)",
    "in a coroutine": "import asyncio\nasync def main():\n    asyncio.create_task(engine.agenerate([1, 2] * 60_000))\n"
                      "    await asyncio.sleep(0.1)\nasyncio.run(main())",
}  # fmt: skip


@pytest.mark.parametrize("name", EXITS)
def test_the_interpreter_ends_whatever_the_engine_is_at(folder: Path, name: str) -> None:
    program = ("import sys, gptoss_native as gptoss\nfrom gptoss_native import SamplingParams as P\n"
               f"engine = gptoss.load(sys.argv[1], max_context=131072, threads=2)\n{EXITS[name]}\n")
    paths = [str(Path(gptoss.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    result = subprocess.run([sys.executable, "-c", program, str(folder)], capture_output=True, timeout=60,
                            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))})  # fmt: skip
    assert (result.returncode, result.stderr) == (0, b"")


def test_ctrl_c_while_the_interpreter_ends_does_not_leave_the_thread_behind(folder: Path) -> None:
    program = """if True:
        import atexit, sys, threading
        atexit.register(lambda: print([each.name for each in threading.enumerate() if each.daemon]))  # runs last
        import gptoss_native as gptoss
        engine = gptoss.load(sys.argv[1], max_context=131072, threads=2)
        stream = engine.stream([1, 2] * 60_000)
        join, calls = threading.Thread.join, []

        def impatient(self, timeout=None):
            calls.append(self)
            if len(calls) < 3:
                raise KeyboardInterrupt
            join(self, timeout)

        threading.Thread.join = impatient
    """
    paths = [str(Path(gptoss.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    result = subprocess.run([sys.executable, "-c", program, str(folder)], capture_output=True, text=True, timeout=60,
                            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))})  # fmt: skip
    assert (result.returncode, result.stdout, result.stderr) == (0, "[]\n", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork()")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_forked_in_the_middle_of_the_work_is_told_so_and_does_not_hang(folder: Path) -> None:
    engine = gptoss.load(folder, max_context=CONTEXT)
    stream = engine.stream(ids(5), endless())
    next(stream)
    for _ in range(10):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                signal.alarm(30)
                for call in (lambda: engine.generate([1]), lambda: engine.logits([1]), lambda: next(stream),
                             lambda: asyncio.run(engine.agenerate([1])), engine.metrics):  # fmt: skip
                    with pytest.raises(gptoss.GptOssError, match="fork"):
                        call()
                stream.close()
                del stream
                engine.close()
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
    assert len([next(stream) for _ in range(20)]) == 20
    stream.close()
    engine.close()
