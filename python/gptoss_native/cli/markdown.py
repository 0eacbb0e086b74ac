"""An answer in Markdown, drawn by rich while it comes: blocks that are complete for good, the open one anew each time.

What rich would leave out is shown as it was written: HTML, definitions of links, addresses of images, formulas.
"""

from __future__ import annotations

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

from gptoss_native.cli.live import LiveLines

PAUSE = 0.05
"""Seconds between two drawings, at least."""

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
        end = self._complete()
        if end:
            self._keep(self._open[:end])
            self._open = self._open[end:]
        if self._open.strip():
            self._lines.draw(self._drawn(self._open))
        self._next = monotonic() + max(PAUSE, 4 * (monotonic() - now))  # long blocks take long to draw

    def end(self) -> None:
        if self._open.strip():
            self._keep(self._open)
        self._open, self._begun, self._next = "", False, 0.0

    def _complete(self) -> int:
        """Length of the text of all blocks but the last one, judged by whole lines, which nothing can change."""
        whole = self._open[: self._open.rfind("\n") + 1]
        starts = [token.map[0] for token in self._parser.parse(whole) if token.level == 0 and token.map]
        return sum(map(len, whole.splitlines(keepends=True)[: starts[-1]])) if len(starts) > 1 else 0

    def _keep(self, text: str) -> None:
        self._lines.keep(self._drawn(text))
        self._begun = True

    def _drawn(self, text: str) -> list[str]:
        lines = _render(self._console, self._parser, text)
        return ["", *lines] if self._begun else lines


def _render(console: Console, parser: MarkdownIt, text: str) -> list[str]:
    """Lines with their styles, without an empty one at either end."""
    try:
        drawn = _captured(console, _Answer(parser.parse(text)))
    except Exception:  # a nesting that rich does not know
        drawn = _captured(console, Text(text))
    return [line.rstrip() for line in drawn.strip("\n").split("\n")]


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

    def __init__(self, justify: Any) -> None:
        super().__init__(justify)
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
    parser = MarkdownIt("commonmark", {"html": False}).enable(["strikethrough", "table"])
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
