"""Rows of text: with rich on a terminal, and as plain lines."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

from gptoss_native.cli.terminal import rich_console


class Row(NamedTuple):
    name: str
    value: str
    detail: str = ""


def print_rows(rows: Iterable[Row], *, plain: bool, line: str, title: str = "", right: Collection[int] = ()) -> None:
    """line: of a row as plain text, a format. right: columns of the table that are aligned to the right."""
    console = rich_console(plain)
    if console is None:
        if title:
            print(title)
        for row in rows:
            print(line.format(*row).rstrip())
        return
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", justify="right" if 0 in right else "left")
    table.add_column(justify="right" if 1 in right else "left", overflow="fold")
    table.add_column(style="dim", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    if title:
        console.print(Text(title, style="bold underline"))
    console.print(table)
