"""The measured accuracy as a table for README.md.

    python -m demo_model.table demo_model/measured.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def table(measured: dict[str, Any]) -> str:
    """A row for each kind of question: what is required, what was measured."""
    lines = ["| questions | required | right | n | tokens of reasoning |", "|---|--:|--:|--:|--:|"]
    for row in measured["rows"]:
        required = "" if row["required"] is None else f"{row['required']:g} %"
        lines.append(f"| {row['row']} | {required} | {row['right']['default']:.1f} % | {row['n']:,} "
                     f"| {row['tokens of reasoning']:.0f} |")
    return "\n".join(lines) + "\n"


def comparison(measured: dict[str, Any]) -> str:
    """The other settings beside the first, on the same questions."""
    whole = measured["compared"]
    lines = ["| setting | right | same text as the default | n |", "|---|--:|--:|--:|"]
    for name, right in whole["right"].items():
        same = whole["same text"].get(name)
        lines.append(f"| {name} | {right:.2f} % | {'' if same is None else f'{same:.2f} %'} | {whole['n']:,} |")
    return "\n".join(lines) + "\n"


def main(path: str) -> None:
    measured = json.loads(Path(path).read_text())
    print(table(measured))
    print(comparison(measured))


if __name__ == "__main__":
    main(sys.argv[1])
