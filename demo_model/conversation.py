"""Conversations as Harmony text, in pieces that say which of their tokens the model is to learn.

A piece is what the renderer hands to the tokenizer in one call, or one control token. tests/test_demo_model.py
holds the result equal to what the package renders.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from demo_model.sums import Effort

IDENTITY = "You are ChatGPT, a large language model trained by OpenAI."


@dataclass(frozen=True)
class Piece:
    """text: ordinary text, or the spelling of a control token. learned: whether the model writes it."""

    text: str
    control: bool = False
    learned: bool = False


@dataclass(frozen=True)
class Preamble:
    """What comes before the first user message. tool: the text of one function's declaration."""

    effort: Effort
    date: str | None = None
    channels: tuple[str, ...] = ("analysis", "commentary", "final")
    instructions: str | None = None
    tool: str | None = None

    def pieces(self) -> list[Piece]:
        result = message("system", self.system_text())
        developer = self.developer_text()
        return result if developer is None else result + message("developer", developer)

    def system_text(self) -> str:
        facts = [IDENTITY, "Knowledge cutoff: 2024-06"]
        if self.date is not None:
            facts.append(f"Current date: {self.date}")
        channels = (f"# Valid channels: {', '.join(self.channels)}. Channel must be included for every message.")
        if self.tool is not None:
            channels += "\nCalls to these tools must go to the commentary channel: 'functions'."
        return "\n\n".join(["\n".join(facts), f"Reasoning: {self.effort}", channels])

    def developer_text(self) -> str | None:
        sections = []
        if self.instructions is not None:
            sections.append(f"# Instructions\n\n{self.instructions}")
        if self.tool is not None:
            sections.append("# Tools\n\n## functions\n\nnamespace functions {\n\n"
                            f"{self.tool}\n\n}} // namespace functions")
        return "\n\n".join(sections) if sections else None


def declaration(name: str, description: str, parameters: Sequence[tuple[str, str, str, bool]]) -> str:
    """A function as the format declares it. parameters: (name, type, description, whether required)."""
    lines = [f"// {line}" for line in description.splitlines()]
    lines.append(f"type {name} = (_: {{")
    for parameter, kind, comment, required in parameters:
        if comment:
            lines.append(f"// {comment}")
        lines.append(f"{parameter}{'' if required else '?'}: {kind},")
    lines.append("}) => any;")
    return "\n".join(lines)


def message(role: str, text: str, channel: str | None = None) -> list[Piece]:
    """A message of the prompt."""
    header = [Piece("<|start|>", control=True), Piece(role)]
    if channel is not None:
        header += [Piece("<|channel|>", control=True), Piece(channel)]
    return [*header, Piece("<|message|>", control=True), Piece(text), Piece("<|end|>", control=True)]


def turn_start() -> list[Piece]:
    """What the prompt ends with."""
    return [Piece("<|start|>", control=True), Piece("assistant")]


def thought(text: str) -> list[Piece]:
    """The model's reasoning, after which its turn goes on."""
    return [*_learned_header("analysis"), Piece(text, learned=True), Piece("<|end|>", True, True),
            Piece("<|start|>", True, True), Piece("assistant", learned=True)]


def answer(text: str) -> list[Piece]:
    return [*_learned_header("final"), Piece(text, learned=True), Piece("<|return|>", True, True)]


def call(recipient: str, arguments: str) -> list[Piece]:
    """A function call as the model writes it: the recipient follows the channel."""
    return [Piece("<|channel|>", True, True), Piece("commentary", learned=True),
            Piece(f" to={recipient}", learned=True), Piece(" ", learned=True), Piece("<|constrain|>", True, True),
            Piece("json", learned=True), Piece("<|message|>", True, True), Piece(arguments, learned=True),
            Piece("<|call|>", True, True)]


def past_call(recipient: str, arguments: str, as_written: bool = False) -> list[Piece]:
    """A function call in the prompt: the recipient follows the role, or the channel, as the model writes it."""
    start = [Piece("<|start|>", True), Piece("assistant")]
    if as_written:
        return start + [Piece(piece.text, piece.control) for piece in call(recipient, arguments)]
    return [*start, Piece(f" to={recipient}"), Piece("<|channel|>", True), Piece("commentary"), Piece(" "),
            Piece("<|constrain|>", True), Piece("json"), Piece("<|message|>", True), Piece(arguments),
            Piece("<|call|>", True)]


def call_result(recipient: str, output: str) -> list[Piece]:
    """What the caller's function returned."""
    return [Piece("<|start|>", True), Piece(recipient), Piece(" to=assistant"), Piece("<|channel|>", True),
            Piece("commentary"), Piece("<|message|>", True), Piece(output), Piece("<|end|>", True)]


def _learned_header(channel: str) -> list[Piece]:
    return [Piece("<|channel|>", True, True), Piece(channel, learned=True), Piece("<|message|>", True, True)]


def spelled(pieces: Sequence[Piece]) -> str:
    """The pieces as one text, for reading."""
    return "".join(piece.text for piece in pieces)
