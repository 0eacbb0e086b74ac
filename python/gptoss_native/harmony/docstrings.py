"""What a docstring says of a function and of each of its parameters: Google's, NumPy's and Sphinx's ways."""

from __future__ import annotations

import inspect
import re

_GOOGLE = re.compile(r"(Args|Arguments|Parameters|Params):\s*")
_SECTION = re.compile(
    r"(Args|Arguments|Parameters|Params|Returns|Return|Yields|Raises|Examples?|Notes?|Attributes|See Also|References|"
    r"Warnings?|Warns|Other Parameters|Keyword Args|Keyword Arguments|Todo):?\s*")
_GOOGLE_PARAMETER = re.compile(r"\*{0,2}(\w+)\s*(?:\([^)]*\))?\s*:\s*(.*)")
_NUMPY_PARAMETER = re.compile(r"\*{0,2}(\w+(?:\s*,\s*\w+)*)\s*(?::.*)?")
_SPHINX = re.compile(r":(\w+)((?:\s+[^:\s]+)*)\s*:\s*(.*)")


def read_docstring(docstring: str | None) -> tuple[str | None, dict[str, str]]:
    """The description, without the sections on parameters, results and errors, and that of each parameter.

    Lines of a parameter's description are joined by blanks.
    """
    lines = inspect.cleandoc(docstring or "").split("\n")
    prose: list[str] = []
    parameters: dict[str, str] = {}
    at = 0
    while at < len(lines):
        end = _end_of_block(lines, at)
        if _SPHINX.fullmatch(lines[at]):
            _read_sphinx(lines[at:end], parameters)
        elif _underlined(lines, at):
            if "Parameters" in lines[at]:
                _read_entries(lines[at + 2 : end], _NUMPY_PARAMETER, parameters)
        elif _SECTION.fullmatch(lines[at]) and lines[at].rstrip().endswith(":"):
            if _GOOGLE.fullmatch(lines[at]):
                _read_entries(inspect.cleandoc("\n" + "\n".join(lines[at + 1 : end])).split("\n"), _GOOGLE_PARAMETER,
                              parameters)
        else:
            prose.append(lines[at])
        at = end
    return "\n".join(prose).strip() or None, parameters


def _underlined(lines: list[str], at: int) -> bool:
    following = lines[at + 1].strip() if at + 1 < len(lines) else ""
    return bool(_SECTION.fullmatch(lines[at])) and len(following) >= 3 and set(following) == {"-"}


def _end_of_block(lines: list[str], at: int) -> int:
    """Where the section, or the Sphinx field, or the line of prose that begins at `at` ends."""
    if _underlined(lines, at):
        end = at + 2
        while end < len(lines) and not _underlined(lines, end):
            end += 1
        return end
    end = at + 1
    if _SPHINX.fullmatch(lines[at]) or _SECTION.fullmatch(lines[at]) and lines[at].rstrip().endswith(":"):
        while end < len(lines) and (not lines[end].strip() or lines[end][0].isspace()):
            end += 1
    return end


def _read_sphinx(lines: list[str], parameters: dict[str, str]) -> None:
    match = _SPHINX.fullmatch(lines[0])
    assert match is not None
    field, words, text = match.groups()
    if field in ("param", "parameter", "arg", "argument", "key", "keyword") and words.split():
        parameters[words.split()[-1].lstrip("*")] = _joined([text, *lines[1:]])


def _read_entries(lines: list[str], pattern: re.Pattern[str], parameters: dict[str, str]) -> None:
    """Entries begin at the margin and go on indented."""
    names: list[str] = []
    for line in lines:
        match = pattern.fullmatch(line) if line and not line[0].isspace() else None
        if match is not None:
            names = [name.strip() for name in match[1].split(",")]
            first = match[2] if pattern.groups > 1 else ""
            parameters.update(dict.fromkeys(names, first))
        elif names:
            joined = _joined([parameters[names[0]], line])
            parameters.update(dict.fromkeys(names, joined))


def _joined(lines: list[str]) -> str:
    return " ".join(line.strip() for line in lines if line.strip())
