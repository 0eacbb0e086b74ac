"""Answers in Markdown on a terminal: what is on the screen in the end, however the text came in pieces."""

from __future__ import annotations

import io
import random
import re
import sys

import pytest

pytest.importorskip("rich")

from rich.cells import cell_len  # noqa: E402
from rich.console import Console  # noqa: E402

from gptoss_native.cli import markdown  # noqa: E402
from gptoss_native.cli.live import LiveLines  # noqa: E402
from gptoss_native.cli.markdown import MarkdownStream  # noqa: E402

DOCUMENT = r"""# A *title*

Roses are red,
violets are **blue**, and `code <b>` with <b>html</b> and \(a_1 + \frac{1}{2}\,dx\).
A [link](https://example.com) ![image](http://x/y.png) and \*a star\*.

- one
- two
  - nested 日本語日本語日本語日本語日本語日本語日本語日本語日本語日本語日本語日本語

1. first

   with a paragraph
2. second
-

```python
def f(x):
    return x  # <|end|>

    # indented

```
Setext
------
| name | value |
|---|--:|
| averyveryveryverylongwordindeedthatgoesonandon | 1 |

> quote
> more

***
[ref]: http://example.com

<div>
kept
</div>

$$
x = \{1, 2\}
$$
a line 😀 that is longer than the terminal is wide, whatever that is, and goes on and on and on, to the end of it
"""


class Screen:
    """A terminal that knows what LiveLines uses; lines that scrolled away can no longer be changed."""

    def __init__(self, columns: int, rows: int) -> None:
        self.columns, self.rows = columns, rows
        self.lines, self.row, self.column = [""], 0, 0

    def isatty(self) -> bool:
        return True

    def flush(self) -> None:
        pass

    def write(self, text: str) -> None:
        for part in re.findall("\x1b\\[[0-9;]*[A-Za-z]|[\r\n]|[^\x1b\r\n]", text):
            if part == "\r":
                self.column = 0
            elif part == "\n":
                self._line_down()
                self.column = 0
            elif part.endswith("A") and part[0] == "\x1b":
                self.row -= int(part[2:-1])
                assert self.row >= max(0, len(self.lines) - self.rows), "above the screen"
            elif part == "\x1b[J":
                assert self.column == 0
                self.lines[self.row:] = [""]
            elif part[0] != "\x1b":
                if self.column + cell_len(part) > self.columns:
                    self._line_down()
                    self.column = 0
                assert self.column == cell_len(self.lines[self.row])
                self.lines[self.row] += part
                self.column += cell_len(part)

    def _line_down(self) -> None:
        self.row += 1
        if self.row == len(self.lines):
            self.lines.append("")

    @property
    def text(self) -> str:
        return "\n".join(line.rstrip() for line in self.lines)


def shown(monkeypatch: pytest.MonkeyPatch, text: str, columns: int, rows: int, pieces: random.Random | None) -> str:
    screen = Screen(columns, rows)
    console = Console(file=io.StringIO(), force_terminal=True, width=columns, height=rows, highlight=False,
                      markup=False, emoji=False, color_system="standard")  # fmt: skip
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setattr(markdown, "monotonic", iter(range(10**9)).__next__)  # each piece is drawn
    stream = MarkdownStream(console)
    position = 0
    while position < len(text):
        size = len(text) if pieces is None else pieces.randint(1, 6)
        stream.feed(text[position: position + size])
        position += size
    stream.end()
    return screen.text


@pytest.mark.parametrize(("columns", "rows"), [(80, 24), (40, 10), (19, 5), (100, 60)])
def test_what_is_shown_in_the_end_does_not_depend_on_the_pieces(
    monkeypatch: pytest.MonkeyPatch, columns: int, rows: int
) -> None:
    whole = shown(monkeypatch, DOCUMENT, columns, rows, None)
    for seed in range(3):
        assert shown(monkeypatch, DOCUMENT, columns, rows, random.Random(seed)) == whole


def test_one_empty_line_is_between_two_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "one\n\n| a |\n|---|\n| 1 |\n\n```\nx\n```\n\n> two\n\nthree\n"
    lines = [line.strip("─ ") for line in shown(monkeypatch, text, 40, 24, None).split("\n")]
    assert lines == ["one", "", "a", "", "1", "", "x", "", "▌ two", "", "three", ""]


def test_nothing_that_was_written_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(monkeypatch, DOCUMENT, 100, 24, random.Random(0))
    for words in ("A title", "Roses are red,\nviolets are blue", "code <b> with <b>html</b>", r"\(a_1 + \frac{1}{2}\,dx\)",
                  "link (https://example.com)", "image (http://x/y.png)", "*a star*", "    # indented", "<|end|>", "Setext",
                  "averyveryveryverylongwordindeedthatgoesonandon", "▌ more", "[ref]: http://example.com",
                  "<div>\nkept\n</div>", r"x = \{1, 2\}", "a line 😀"):  # fmt: skip
        assert words in text, words
    narrow = re.sub(r"\s", "", shown(monkeypatch, DOCUMENT, 30, 24, random.Random(0)))
    assert "averyvery" in narrow and "\N{HORIZONTAL ELLIPSIS}" not in narrow


@pytest.mark.parametrize("text", ["", "\n\n", " ", "a\n\n\n\n", "```\n", "- \n- ", "|a|\n|-|\n", "> \n> ", "#", "1." * 500,
                                  "*" * 300, "[" * 300, "- " * 60 + "x", "> " * 60 + "x", "\\(", "$$", "a\tb",
                                  "- > 1. | a |\n  > 1. |---|\n"])  # fmt: skip
def test_whatever_a_model_writes_is_drawn(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    whole = shown(monkeypatch, text, 30, 8, None)
    assert shown(monkeypatch, text, 30, 8, random.Random(1)) == whole
    assert bool(whole.strip()) == bool(text.strip())


def test_two_answers_have_nothing_to_do_with_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen(20, 10)
    monkeypatch.setattr(sys, "stdout", screen)
    stream = MarkdownStream(Console(file=io.StringIO(), width=20, height=10))
    for text in ("- one", "- two"):
        stream.feed(text)
        stream.end()
    assert screen.text == " • one\n • two\n"


def test_what_does_not_fit_on_the_screen_is_drawn_once_it_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen(10, 4)
    monkeypatch.setattr(sys, "stdout", screen)
    lines = LiveLines(lambda: (10, 4), len)
    every = [f"line {i}" for i in range(9)]
    for count in range(1, 10):
        lines.draw(every[:count])
        assert screen.text == "\n".join(every[max(0, count - 3): count])
    lines.draw(["a line of three rows, no"])
    assert screen.text == "a line of\nthree rows\n, no"
    lines.keep(every)
    assert screen.text == "\n".join([*every, ""])
