"""An answer in Markdown, drawn by rich while it comes: blocks that are complete for good, the open one anew each time.

What rich would leave out is shown as it was written: HTML, definitions of links, addresses of images, formulas.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from time import monotonic
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.markdown import CodeBlock, Heading, Markdown, TableDataElement
from rich.syntax import Syntax
from rich.text import Text

from gptoss_native.cli.live import LiveLines, without_style

PAUSE = 0.05
"""Seconds between two drawings, at least."""

NARROW = 8
"""Columns that a text needs at least, behind the margins of what it is nested in."""

_MARGINS = {"list_item": 4, "blockquote": 4}
_FORMULAS = (("\\(", "\\)"), ("\\[", "\\]"), ("$$", "$$"))


class MarkdownStream:
    """feed() what comes, end() when a text is complete; then another one may begin."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._parser = _parser()
        self._lines = LiveLines(lambda: console.size, cell_len)
        self._open = ""  # the text of the blocks that are not complete
        self._begun = False  # whether a block stands above
        self._next = 0.0

    def feed(self, text: str) -> None:
        self._open += text
        if (now := monotonic()) < self._next:
            return
        *complete, _ = self._blocks(self._open[: self._open.rfind("\n") + 1]) or [""]  # nothing changes whole lines
        for block in complete:
            self._keep(block)
        self._open = self._open[sum(map(len, complete)):]
        if self._open.strip():
            self._lines.draw(self._drawn(self._open))
        self._next = monotonic() + max(PAUSE, 4 * (monotonic() - now))  # long blocks take long to draw

    def end(self) -> None:
        for block in self._blocks(self._open):
            self._keep(block)
        self._open, self._begun, self._next = "", False, 0.0

    def _blocks(self, text: str) -> list[str]:
        """They add up to the text."""
        lines = re.findall("[^\n]*\n|[^\n]+", text)
        starts = [token.map[0] for token in self._parser.parse(text) if token.level == 0 and token.map]
        places = [0, *starts[1:], len(lines)]
        return ["".join(lines[begin:end]) for begin, end in zip(places, places[1:]) if text.strip()]

    def _keep(self, block: str) -> None:
        self._lines.keep(self._drawn(block))
        self._begun = True

    def _drawn(self, text: str) -> list[str]:
        lines: list[str] = []
        for block in self._blocks(text):
            lines += ["", *self._rendered(block)]
        return lines if self._begun else lines[1:]

    def _rendered(self, block: str) -> list[str]:
        """Lines with their styles, without an empty one at either end; the text itself where rich cannot show it."""
        tokens, drawn = self._parser.parse(block), ""
        if self._console.width - _margin(tokens) >= NARROW:
            try:
                drawn = _captured(self._console, _Answer(tokens))
            except Exception:  # a nesting that rich does not know
                pass
        if not drawn.strip():
            drawn = _captured(self._console, Text(block))
        return _without_margins([line.rstrip() for line in drawn.split("\n")])


def _margin(tokens: Sequence[Token]) -> int:
    """Columns in front of what is nested most."""
    margin = most = 0
    for token in tokens:
        margin += token.nesting * _MARGINS.get(token.type.rpartition("_")[0], 0)
        most = max(most, margin)
    return most


def _without_margins(lines: list[str]) -> list[str]:
    """Without the empty lines at either end, which may have a style; one at least."""
    shown = [i for i, line in enumerate(lines) if without_style(line).strip()] or [0]
    return lines[shown[0]: shown[-1] + 1]


def _captured(console: Console, renderable: Any) -> str:
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()


class _Code(CodeBlock):
    """In the terminal's own colours, and without a margin, so that it can be copied."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Syntax(str(self.text).rstrip(), self.lexer_name, theme="ansi_dark", word_wrap=True,
                     background_color="default")


class _Title(Heading):
    """On the left, in bold."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        title = self.text.copy()
        title.stylize("bold underline" if self.tag == "h1" else "bold")
        yield title


class _Cell(TableDataElement):
    """Long words are broken, not cut."""

    def on_text(self, context: Any, text: Any) -> None:
        super().on_text(context, text)
        self.content.overflow = "fold"


class _Answer(Markdown):
    """What our own parser made, with each line of a paragraph on a line of its own."""

    elements = Markdown.elements | {"fence": _Code, "code_block": _Code, "heading_open": _Title, "td_open": _Cell,
                                    "th_open": _Cell}

    def __init__(self, tokens: list[Token]) -> None:
        super().__init__("", hyperlinks=False)
        for token in tokens:
            for child in token.children or ():
                child.type = "hardbreak" if child.type == "softbreak" else child.type
        self.parsed = tokens


def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False, "maxNesting": 100}).enable(["strikethrough", "table"])
    parser.disable(["reference", "image", "html_block", "html_inline"])
    parser.inline.ruler.before("escape", "formula", _formula)
    return parser


def _formula(state: StateInline, silent: bool) -> bool:
    """TeX between its marks is a text, whatever it holds."""
    for begin, end in _FORMULAS:
        if state.src.startswith(begin, state.pos):
            stop = state.src.find(end, state.pos + len(begin))
            if stop < 0:
                return False
            if not silent:
                state.push("text", "", 0).content = state.src[state.pos: stop + len(end)]
            state.pos = stop + len(end)
            return True
    return False
